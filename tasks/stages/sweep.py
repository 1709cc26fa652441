"""`Sweep`: an experiment with all combinations of some settings and several seeds, compared in one table."""

import contextlib
import csv
import hashlib
import json
from pathlib import Path
from typing import Any, Dict, List, Tuple

import luigi

from fse import config as configuration
from fse.config import Config
from fse.errors import ConfigError
from fse.redaction import redact_text
from fse.runtime.files import write_json
from fse.runtime.manifests import MANIFEST
from fse.runtime.outputs import atomic_output
from tasks.caching import key_cache
from tasks.experiment_task import ExperimentTask
from tasks.stages.full_run import FullRun
from tasks.stages.grid import Combination, combinations
from tasks.stages.results import Evaluate, read_metrics
from tasks.stages.stage_task import require_complete


class Sweep(ExperimentTask):
    """Evaluates every combination of a grid of settings. Runs share the outputs that their common settings determine.

    `<workspace>/<experiment>/sweep-<key>/` then holds `sweep.csv`, `sweep.html` and `sweep.png`. The key covers the
    evaluations and the code that compares them.
    """

    grid = luigi.Parameter(default="", description="settings with the values to try: section.key=[value,…],…")
    seeds = luigi.IntParameter(
        default=1, description="runs of each combination, with the seeds train.seed, train.seed + 1, …"
    )

    @property
    def experiment(self) -> Config:
        """The checked configuration that the grid varies; an invalid grid is a configuration error too."""
        self.combinations()
        return super().experiment

    def combinations(self) -> Tuple[Combination, ...]:
        """Return the combinations of the grid; the last setting varies fastest."""
        return combinations(self.config, self.set, self.grid, self.seeds)

    def requires(self) -> List[Evaluate]:
        """Return the evaluations of all combinations with all seeds, combination by combination."""
        return [self.clone(Evaluate, set=override) for point in self.combinations() for override in point.overrides]

    def complete(self) -> bool:
        """Return whether all evaluations are complete and compared."""
        return all(task.complete() for task in self.requires()) and (self.folder() / MANIFEST).is_file()

    def folder(self) -> Path:
        """Return the folder of the comparison; all evaluations must be complete."""
        code = key_cache.CACHE.code("fse.report.sweep:write_comparison", self.root)
        key = key_cache.digest_of([self._evaluations(), code])
        return self.root / self.experiment.experiment.name / f"sweep-{key}"

    def run(self) -> None:
        """Write the comparison, unless there is one of the same evaluations.

        Raises:
          StageError: an evaluation is missing, or the workspace is not writable.
        """
        from fse.report import sweep  # imports Matplotlib, which scheduling does without

        require_complete(self.requires())
        if self.complete():
            return
        folders = iter(self._evaluation_folders())
        points = [
            sweep.CombinationResults(point.values, [read_metrics(next(folders)) for _ in point.overrides])
            for point in self.combinations()
        ]
        manifest = {"stage": "sweep", "grid": self.grid, "seeds": self.seeds, "evaluations": self._evaluations()}
        with atomic_output(self.folder(), manifest) as building:
            sweep.write_comparison(self.experiment.experiment.name, points, building)

    def unfinished_file(self) -> Path:
        """Return the file that lists the runs of this sweep until it is finished, so that Clean keeps their outputs."""
        text = json.dumps([self.config, self.set, self.grid, self.seeds])
        name = hashlib.sha256(text.encode()).hexdigest()[:12]
        return self.root / self.experiment.experiment.name / f"sweep-{name}.begun.json"

    def summary(self) -> str:
        """Return the table as plain text, and the paths of table and page."""
        folder = self.folder()
        with open(folder / "sweep.csv", newline="", encoding="utf-8") as stream:
            header, *rows = csv.reader(stream)
        measured = header.index("seeds") + 1  # the first column of metrics
        table = [header]
        table += [row[:measured] + [f"{float(cell):.2f}" if cell else "" for cell in row[measured:]] for row in rows]
        widths = [max(map(len, column)) for column in zip(*table)]
        lines = ["  ".join(cell.rjust(width) for cell, width in zip(row, widths)) for row in table]
        return "\n".join(["", *lines, f"table: {folder / 'sweep.csv'}", f"page:  {folder / 'sweep.html'}"])

    def _evaluations(self) -> List[Tuple[str, str]]:
        """Return `--set` and key of every evaluation."""
        folders = self._evaluation_folders()
        return [(redact_text(task.set), folder.name) for task, folder in zip(self.requires(), folders)]

    def _evaluation_folders(self) -> List[Path]:
        """Return the outputs of the evaluations. All are known once all evaluations are complete."""
        return [folder for folder in (task.output().folder for task in self.requires()) if folder]


def keys_of_unfinished_sweeps(root: Path) -> List[str]:
    """Return the keys of the outputs that unfinished sweeps of a workspace have made or will make next."""
    keys = []
    for path in root.glob("*/sweep-*.begun.json"):
        unfinished: Dict[str, Any] = json.loads(path.read_text())
        for overrides in unfinished["runs"]:
            try:
                configuration.load(unfinished["config"] or None, overrides)
            except ConfigError as error:
                print(
                    f"{path}: an unfinished sweep whose configuration is invalid now; its outputs are not kept: {error}"
                )
                break
            stages = FullRun(config=unfinished["config"], set=overrides, workspace=str(root)).stages()
            folders = (task.output().folder for task in stages.values())
            keys += [folder.name for folder in folders if folder]
    return keys


@Sweep.event_handler(luigi.Event.DEPENDENCY_DISCOVERED)
def _list_runs(task: Sweep, _: luigi.Task) -> None:
    path = task.unfinished_file()
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        config = str(Path(task.config).absolute()) if Path(task.config).is_file() else task.config
        runs = [redact_text(override) for point in task.combinations() for override in point.overrides]
        write_json(path, {"config": config, "runs": runs})


@Sweep.event_handler(luigi.Event.SUCCESS)
@Sweep.event_handler(luigi.Event.DEPENDENCY_PRESENT)
def _print_summary(task: Sweep) -> None:
    with contextlib.suppress(FileNotFoundError):
        task.unfinished_file().unlink()
    key_cache.CACHE.save(task.root)
    print(task.summary(), flush=True)
