"""The stages: which function makes which folder from which others. `fse` runs them by name, `tasks` schedules them."""

from typing import Dict, NamedTuple, Tuple


class Stage(NamedTuple):
    """A stage of the pipeline.

    function: `module:name`, called with the configuration, the folders of `inputs` in turn, and the output folder.
    inputs: verbs of the stages whose outputs it reads.
    flag: how a stage that reads this one's output calls it on the command line.
    help: one line.
    resumes: an attempt goes on with what an interrupted one left.
    """

    function: str
    inputs: Tuple[str, ...]
    flag: str
    help: str
    resumes: bool = False


STAGES: Dict[str, Stage] = {
    "download": Stage("fse.datasets:download", (), "dataset", "bring or render a data set"),
    "align-crop": Stage("fse.crop:align_crop", ("download",), "crops", "cut a square of one size out of every picture"),
    "convert": Stage("fse.records:convert", ("align-crop",), "records", "pack the crops into TFRecord shards"),
    "train": Stage("fse.training:train", ("convert",), "trained", "learn landmarks", resumes=True),
    "export": Stage("fse.export:export", ("train", "convert"), "model", "freeze the detector and check it"),
    "evaluate": Stage(
        "fse.evaluation:evaluate", ("export", "train", "convert"), "evaluation", "measure it on annotated pictures"
    ),
    "report": Stage(
        "fse.report:report",
        ("download", "align-crop", "convert", "train", "export", "evaluate"),
        "report",
        "write a page that shows it all",
    ),
}
