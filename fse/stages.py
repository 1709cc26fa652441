"""The stages: which function makes which folder from which others. `fse` runs them by name, `tasks` schedules them."""

from typing import Dict, NamedTuple, Tuple

from fse.runtime.outputs import Volatile


class Stage(NamedTuple):
    """A stage of the pipeline.

    function: `module:name`, called with the configuration, the folders of `inputs` in turn, and the output folder.
    inputs: verbs of the stages whose outputs it reads; of those in `DATA`, Evaluate reads what is evaluated on.
    also: roles of what it reads besides where evaluation has data of its own.
    flag: how a stage that reads this one's output calls it on the command line.
    help: one line.
    summary: the JSON file in its output whose numbers sum it up.
    volatile: what differs between runs that did the same (see `fse.runtime.outputs.Volatile`): times and what depends on them.
    resumes: an attempt goes on with what an interrupted one left.
    share: `module:name` of a function, called as `function`, that makes those shards of the output that no other process
      is at; any number of them may run before `function` does.
    """

    function: str
    inputs: Tuple[str, ...]
    flag: str
    help: str
    summary: str = ""
    volatile: Volatile = {}  # noqa: RUF012 (nobody changes it)
    resumes: bool = False
    also: Tuple[str, ...] = ()
    share: str = ""


# The stages that bring and prepare images: to train on, or to evaluate on where that is not the same.
DATA = ("download", "align-crop", "convert")
EVALUATED = "-evaluate"  # ends the role of what such a stage made to evaluate on

STAGES: Dict[str, Stage] = {
    "download": Stage(
        "fse.datasets.download:download", (), "dataset", "bring or render a data set", summary="dataset.json"
    ),
    "align-crop": Stage(
        "fse.preprocessing.align_crop:align_crop",
        ("download",),
        "crops",
        "cut a square of one size out of every image",
        summary="crop.json",
        resumes=True,
        share="fse.preprocessing.align_crop:share",
    ),
    "convert": Stage(
        "fse.preprocessing.tfrecord:convert",
        ("align-crop",),
        "records",
        "pack the crops into TFRecord shards",
        summary="records.json",
        resumes=True,
        share="fse.preprocessing.tfrecord:share",
    ),
    "train": Stage(
        "fse.training.train:train",
        ("convert",),
        "trained",
        "learn landmarks",
        summary="training.json",
        volatile={
            "summaries/*": (),
            "logs/*": (),  # of the ranks
            "checkpoints/checkpoint": (),  # TensorFlow's list of them, with times
            "losses.csv": ("pairs_per_second", "seconds"),
            "training.json": ("pairs_per_second", "seconds"),
        },
        resumes=True,
    ),
    "export": Stage(
        "fse.inference.export:export",
        ("train", "convert"),
        "model",
        "freeze the detector and check it",
        summary="model.json",
        volatile={
            "saved_model/*": (),  # the same graph as model.pb, in no fixed order of bytes
            "model.om": (),  # made of it where there is atc
            "atc.sh": (),
            "model.json": ("offline_model",),
        },
    ),
    "evaluate": Stage(
        "fse.evaluation.evaluate:evaluate",
        ("export", "train", "convert"),
        "evaluation",
        "measure it on annotated images",
        summary="metrics.json",
        volatile={"metrics.json": ("train_pairs_per_second", "train_seconds")},
    ),
    "report": Stage(
        "fse.report.report:report",
        ("download", "align-crop", "convert", "train", "export", "evaluate"),
        "report",
        "write a page that shows it all",
        also=tuple(verb + EVALUATED for verb in DATA),
    ),
}


def flag_of(role: str) -> str:
    """How the output of a stage is called on the command line of one that reads it."""
    verb = role[: -len(EVALUATED)] if role.endswith(EVALUATED) else role
    return STAGES[verb].flag + role[len(verb) :]
