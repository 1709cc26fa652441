"""`FullRun`: all stages of an experiment, and links to the results."""

import os
from pathlib import Path
from typing import Dict, List

import luigi

from fse.errors import StageError
from fse.runtime.files import replace_symlink
from fse.runtime.manifests import MANIFEST
from tasks.experiment_task import ExperimentTask
from tasks.stages.data import DataTask
from tasks.stages.results import Report, read_metrics
from tasks.stages.stage_task import StageTask, require_complete


class FullRun(ExperimentTask):
    """Runs every stage and links `<workspace>/<experiment>/` to the results."""

    def requires(self) -> List[StageTask]:
        """Return all stages, not just Report: a lost output of any stage is made again."""
        return list(self.stages().values())

    def complete(self) -> bool:
        """Return whether every stage is complete and the experiment's folder has links to their outputs."""
        if not all(task.complete() for task in self.stages().values()):
            return False
        return all(os.path.realpath(link) == os.path.realpath(target) for link, target in self._links().items())

    def run(self) -> None:
        """Link the experiment's folder to the results.

        Raises:
          StageError: an output is missing, or the workspace is not writable.
        """
        require_complete(list(self.stages().values()))
        try:
            for link, target in self._links().items():
                replace_symlink(link, target)
        except OSError as error:
            raise StageError(f"{error.filename}: cannot be written: {error.strerror}") from error

    def summary(self) -> str:
        """Return the main metrics and the path of the report in a few lines."""
        folder = self.root / self.experiment.experiment.name
        metrics = read_metrics(folder)
        lines = [""]
        if metrics["nme"] is not None:
            row = "  {:<37}{:>9.2f}{:>9.2f}".format
            lines += [
                "error (% of the inter-ocular distance)   upright   warped",
                row("learned landmarks", metrics["nme"], metrics["nme_warped"]),
                row("always the mean shape", metrics["mean_shape_nme"], metrics["mean_shape_nme_warped"]),
            ]
        steps, seconds = metrics["steps"], metrics["train_seconds"]
        lines += [
            f"equivariance error: {metrics['equivariance_error']:.2f} % of the view's width",
            f"training: {steps} steps in {seconds:.0f} s, {metrics['train_pairs_per_second']:.0f} pairs/s",
            f"metrics: {folder / 'metrics.json'}",
            f"report:  {folder / 'report.html'}",
        ]
        return "\n".join(lines)

    def stages(self) -> Dict[str, StageTask]:
        """Return all stages by name: first those that prepare images, then training and what follows it."""
        report = self.sibling(Report)
        tasks = sorted([*report.upstream().values(), report], key=lambda task: not isinstance(task, DataTask))
        return {task.name: task for task in tasks}

    def _links(self) -> Dict[Path, Path]:
        """Return the links of the experiment's folder with their targets."""
        folders = {name: task.folder / str(task.manifest()["key"]) for name, task in self.stages().items()}
        targets = {"stages/" + name: folder for name, folder in folders.items()}
        targets.update(
            {
                "metrics.json": folders["Evaluate"] / "metrics.json",
                "predictions.csv": folders["Evaluate"] / "predictions.csv",
                "report.html": folders["Report"] / "report.html",
                "model": folders["Export"],
                MANIFEST: folders["Report"] / MANIFEST,
            }
        )
        return {self.root / self.experiment.experiment.name / name: target for name, target in targets.items()}


@FullRun.event_handler(luigi.Event.SUCCESS)
@FullRun.event_handler(luigi.Event.DEPENDENCY_PRESENT)
def _print_summary(task: FullRun) -> None:
    print(task.summary(), flush=True)
