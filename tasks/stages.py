"""The tasks of the pipeline, one per stage, and `FullRun`, which asks for all of them."""

import os
from pathlib import Path
from typing import Any, Dict, List

import luigi

from fse.config import as_tables
from fse.outputs import MANIFEST
from tasks import fingerprint
from tasks.stage import Settings, StageTask, metrics_of


class Download(StageTask):
    """Brings a data set into the workspace, or renders the synthetic one."""

    verb = "download"

    def identity(self) -> Dict[str, Any]:
        """What the data set is, not where it comes from."""
        return fingerprint.dataset(self.experiment, self.root)


class AlignCrop(StageTask):
    """Cuts a square of one size out of every picture and carries the landmarks along."""

    verb = "align-crop"
    inputs = (Download,)

    def identity(self) -> Dict[str, Any]:
        """The crop's geometry; how many processes work on it makes no difference."""
        settings = as_tables(self.experiment)["crop"]
        del settings["processes"]
        if settings["mode"] == "landmarks":
            settings["eyes"] = list(self.experiment.evaluate.eyes)
        return settings


class ConvertTFRecord(StageTask):
    """Packs the crops into TFRecord shards."""

    verb = "convert"
    sections = ("records",)
    inputs = (AlignCrop,)


class Train(StageTask):
    """Learns landmarks on warped pairs, in a child process that resumes from its newest valid checkpoint."""

    verb = "train"
    sections = ("augment", "network", "loss", "train")
    inputs = (ConvertTFRecord,)
    computes = True

    @property
    def resources(self) -> Dict[str, int]:
        """One training per device at a time, as far as one scheduler knows."""
        return {"{}-{}".format(self.experiment.train.device, os.uname().nodename): 1}


class Export(StageTask):
    """Freezes the detector and checks it against its checkpoint."""

    verb = "export"
    sections = ("export",)
    inputs = (Train, ConvertTFRecord)
    computes = True


class Evaluate(StageTask):
    """Measures the exported detector on annotated pictures, upright and warped."""

    verb = "evaluate"
    sections = ("evaluate", "report")
    inputs = (Export, Train, ConvertTFRecord)
    computes = True


class Report(StageTask):
    """Writes one page that shows configuration, data, losses, landmarks, errors and times."""

    verb = "report"
    sections = ("experiment", "report")
    inputs = (Download, AlignCrop, ConvertTFRecord, Train, Export, Evaluate)


class FullRun(Settings):
    """Every stage; afterwards `<workspace>/<experiment>/` leads to the results."""

    def requires(self) -> List[StageTask]:
        """All stages: one whose output was lost is run again though the report is there."""
        return list(self._stages().values())

    def complete(self) -> bool:
        """Whether every stage is complete and the experiment's folder leads to its results."""
        if not all(task.complete() for task in self._stages().values()):
            return False
        return all(link.is_symlink() and link.resolve() == target.resolve() for link, target in self._links().items())

    def run(self) -> None:
        """Points `<workspace>/<experiment>/` at the results."""
        for link, target in self._links().items():
            link.parent.mkdir(parents=True, exist_ok=True)
            temporary = link.with_name(link.name + ".new")
            if temporary.is_symlink():
                temporary.unlink()
            temporary.symlink_to(os.path.relpath(str(target), str(link.parent)))
            os.replace(str(temporary), str(link))

    def summary(self) -> str:
        """The main figures and the path of the report, in a few lines."""
        folder = self.root / self.experiment.experiment.name
        found = metrics_of(self._stages()["Evaluate"].output().folder)
        lines = [""]
        if found["nme"] is not None:
            lines += [
                "error (% of the inter-ocular distance)   upright   warped",
                "  {:<37}{:>9.2f}{:>9.2f}".format("learned landmarks", found["nme"], found["nme_warped"]),
                "  {:<37}{:>9.2f}{:>9.2f}".format(
                    "always the mean shape", found["mean_shape_nme"], found["mean_shape_nme_warped"]
                ),
            ]
        lines += [
            "equivariance error: {:.2f} % of the crop's width".format(found["equivariance_error"]),
            "training: {steps} steps in {train_seconds:.0f} s, {train_pairs_per_second:.0f} pairs/s".format(**found),
            "metrics: {}".format(folder / "metrics.json"),
            "report:  {}".format(folder / "report.html"),
        ]
        return "\n".join(lines)

    def _stages(self) -> Dict[str, StageTask]:
        return {kind.__name__: self.clone(kind) for kind in [*Report.inputs, Report]}

    def _links(self) -> Dict[Path, Path]:
        folders = {name: task.output().folder for name, task in self._stages().items()}
        targets = {
            "metrics.json": folders["Evaluate"] / "metrics.json",
            "predictions.csv": folders["Evaluate"] / "predictions.csv",
            "report.html": folders["Report"] / "report.html",
            "model": folders["Export"],
            MANIFEST: folders["Report"] / MANIFEST,
        }
        return {self.root / self.experiment.experiment.name / name: target for name, target in targets.items()}


@FullRun.event_handler(luigi.Event.SUCCESS)
@FullRun.event_handler(luigi.Event.DEPENDENCY_PRESENT)
def _print_summary(task: FullRun) -> None:
    print(task.summary(), flush=True)
