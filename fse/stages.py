"""The stages of the pipeline: functions, inputs and outputs. `fse` runs them by name; `tasks` schedules them."""

from dataclasses import dataclass, field
from typing import Dict, Tuple

from fse.runtime.hashing import Volatile


@dataclass(frozen=True)
class Stage:
    """A stage of the pipeline."""

    # "module:name" of the function; called with the configuration, the folder of each input, and the output folder.
    function: str
    # Names of the stages whose outputs it reads. For a stage of `DATA_STAGES`, Evaluate reads the output of the run on the
    # data to evaluate on.
    inputs: Tuple[str, ...]
    # The command line option by which later stages name this stage's output folder, without dashes.
    option: str
    # One line for the command line.
    help: str
    # The JSON file in the output whose numbers the manifest repeats.
    summary: str = ""
    # Parts of the output that differ between runs with identical results: durations, and what depends on them.
    volatile: Volatile = field(default_factory=dict)
    # Whether an attempt continues with the files of an interrupted attempt.
    resumes: bool = False
    # Roles of further inputs, present if the evaluation data differ from the training data.
    evaluation_inputs: Tuple[str, ...] = ()
    # "module:name" of a function, called like `function`, that writes the parts of the output that no other process is
    # writing. Any number of processes may call it before `function` runs.
    share_function: str = ""
    # Whether the function takes its input folders as one mapping from role to folder.
    inputs_by_role: bool = False


# The stages that prepare images. They run once for the images to train on, and again for the images to evaluate on if
# those are others.
DATA_STAGES = ("download", "align-crop", "convert")
# The role of an output for evaluation is the stage's name with this suffix.
EVALUATION_SUFFIX = "-evaluate"

STAGES: Dict[str, Stage] = {
    "download": Stage(
        "fse.datasets.download:download", (), "dataset", "download, unpack or render a data set", summary="dataset.json"
    ),
    "align-crop": Stage(
        "fse.preprocessing.align_crop:align_crop",
        ("download",),
        "crops",
        "cut a crop of one size out of every image",
        summary="crop.json",
        resumes=True,
        share_function="fse.preprocessing.align_crop:share",
    ),
    "convert": Stage(
        "fse.preprocessing.tfrecord:convert",
        ("align-crop",),
        "records",
        "pack the crops into TFRecord shards",
        summary="records.json",
        resumes=True,
        share_function="fse.preprocessing.tfrecord:share",
    ),
    "train": Stage(
        "fse.training.train:train",
        ("convert",),
        "trained",
        "learn landmarks",
        summary="training.json",
        volatile={
            "summaries/*": (),
            "logs/*": (),  # the output of the ranks
            "checkpoints/checkpoint": (),  # TensorFlow's list of checkpoints, with times
            "losses.csv": ("pairs_per_second", "seconds"),
            "training.json": ("pairs_per_second", "seconds"),
        },
        resumes=True,
    ),
    "export": Stage(
        "fse.inference.export:export",
        ("train", "convert"),
        "model",
        "freeze the detector and check the result",
        summary="model.json",
        volatile={
            "saved_model/*": (),  # the same graph as model.pb, but its bytes are in no fixed order
            "model.om": (),  # written only where atc is installed
            "atc.sh": (),
            "model.json": ("offline_model",),
        },
    ),
    "evaluate": Stage(
        "fse.evaluation.evaluate:evaluate",
        ("export", "train", "convert"),
        "evaluation",
        "measure the detector on annotated images",
        summary="metrics.json",
        volatile={"metrics.json": ("train_pairs_per_second", "train_seconds")},
    ),
    "report": Stage(
        "fse.report.report:report",
        ("download", "align-crop", "convert", "train", "export", "evaluate"),
        "report",
        "write a page that shows data, training and results",
        evaluation_inputs=tuple(verb + EVALUATION_SUFFIX for verb in DATA_STAGES),
        inputs_by_role=True,
    ),
}


def option_of(role: str) -> str:
    """Return the command line option, without dashes, that names the output folder with a role."""
    suffix = EVALUATION_SUFFIX if role.endswith(EVALUATION_SUFFIX) else ""
    return STAGES[role[: len(role) - len(suffix)]].option + suffix
