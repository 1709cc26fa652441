"""The stages after training: Export, Evaluate and Report."""

import json
from pathlib import Path
from typing import Any, Dict

from fse.config import evaluates_other_data, for_evaluation
from fse.errors import ConfigError
from fse.redaction import redact_url
from fse.stages import EVALUATION_SUFFIX
from tasks.exit_codes import BAD_CONFIGURATION, exit_or_raise
from tasks.stages.data import EVALUATE, TRAIN, AlignCrop, ConvertTFRecord, Download
from tasks.stages.stage_task import StageTask, flat_settings
from tasks.stages.training import Train


class Export(StageTask):
    """Exports the trained detector as a frozen graph and compares it with its checkpoint."""

    verb = "export"
    config_keys = ("network", "crop.mode", "crop.size", "crop.scale", "train.ema_decay", "export")
    inputs = (Train, ConvertTFRecord)
    uses_tensorflow = True


class Evaluate(StageTask):
    """Measures the exported detector on annotated images, upright and warped.

    Raises:
      ConfigError: the data set to evaluate on has no test images. On Luigi's command line the program exits instead.
    """

    verb = "evaluate"
    config_keys = ("augment", "network", "evaluate", "report.examples")
    inputs = (Export, Train, ConvertTFRecord)
    uses_tensorflow = True

    def __init__(self, *arguments: Any, **parameters: Any):
        super().__init__(*arguments, **parameters)
        try:
            if for_evaluation(self.experiment).dataset.name != "synthetic":
                from fse.datasets import registry  # imports every data set, which the synthetic one does without

                registry.check_evaluation(self.experiment)
        except ConfigError as error:
            exit_or_raise(error, BAD_CONFIGURATION)

    def upstream(self) -> Dict[str, StageTask]:
        """Return export, training, and the records to evaluate on."""
        data = EVALUATE if evaluates_other_data(self.experiment) else TRAIN
        return dict(super().upstream(), convert=self.sibling(ConvertTFRecord, data=data))


class Report(StageTask):
    """Writes one page with configuration, data, losses, landmarks, errors and durations."""

    verb = "report"
    inputs = (Download, AlignCrop, ConvertTFRecord, Train, Export, Evaluate)

    def upstream(self) -> Dict[str, StageTask]:
        """Return all other stages, and the stages of the images to evaluate on if these are other images."""
        stages = super().upstream()
        if evaluates_other_data(self.experiment):
            for task_class in (Download, AlignCrop, ConvertTFRecord):
                stages[task_class.verb + EVALUATION_SUFFIX] = self.sibling(task_class, data=EVALUATE)
        return stages

    def settings(self) -> Dict[str, Any]:
        """Return all settings, because the page lists them. Paths are reduced to names, so that the key is portable."""
        settings = flat_settings(self.experiment)
        for name in {"dataset.archive", "evaluate.dataset.archive"} & {*settings}:
            settings[name] = Path(redact_url(settings[name])).name
        settings["train.init_from"] = Path(settings["train.init_from"]).name
        settings["download.data_path"] = settings["download.mirrors"] = ""
        return settings


def read_metrics(folder: Path) -> Dict[str, Any]:
    """Return the contents of `metrics.json` in an evaluation's output, or in an experiment's folder."""
    return dict(json.loads((folder / "metrics.json").read_text()))
