"""`Sweep`: an experiment with all combinations of some settings, each with several seeds, compared in one table."""

import contextlib
import csv
import functools
import hashlib
import itertools
import json
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Tuple

import luigi

import fse
from fse import config as configuration
from fse.config import Config, redact_text
from fse.errors import ConfigError
from fse.runtime.outputs import MANIFEST, atomic_output, write_json
from tasks.stages.pipeline import Evaluate, FullRun
from tasks.stages.stage_task import Settings, metrics_of, need


class Combination(NamedTuple):
    """One point of the grid. values: setting (section.key) -> value. overrides: what `--set` says, for each seed."""

    values: Dict[str, Any]
    overrides: Tuple[str, ...]


class Sweep(Settings):
    """Evaluates every combination of a grid of settings; what the runs have in common is made once.

    Afterwards `<workspace>/<experiment>/sweep-<key>/` holds `sweep.csv`, `sweep.html` and `sweep.png`. The key stands
    for the runs' results.
    """

    grid = luigi.Parameter(default="", description="settings and the values to try: section.key=[value,…],…")
    seeds = luigi.IntParameter(default=1, description="runs of each combination, with train.seed, train.seed + 1, …")

    @property
    def experiment(self) -> Config:
        """The checked configuration that the grid varies; a mistake in the grid is a mistake in the configuration."""
        self.combinations()
        return super().experiment

    def combinations(self) -> Tuple[Combination, ...]:
        """The points of the grid, the last setting varying fastest."""
        return combinations(self.config, self.set, self.grid, self.seeds)

    def requires(self) -> List[Evaluate]:
        """The evaluations of all combinations with all seeds, combination by combination."""
        return [self.clone(Evaluate, set=override) for point in self.combinations() for override in point.overrides]

    def complete(self) -> bool:
        """Whether all evaluations are there, and the comparison of these."""
        return all(task.complete() for task in self.requires()) and (self.folder() / MANIFEST).is_file()

    def folder(self) -> Path:
        """Where the comparison is, or will be; known once all evaluations are complete."""
        sources = [Path(fse.__file__).with_name("report") / name for name in ("sweep.py", "sweep.html.j2")]
        parts = [*self._made(), *(source.read_text(encoding="utf-8") for source in sources)]
        key = hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]
        return self.root / self.experiment.experiment.name / f"sweep-{key}"

    def run(self) -> None:
        """Writes the comparison, unless the evaluations turned out as they were.

        Raises:
          StageError: an evaluation is not there, or it cannot be written.
        """
        from fse.report import sweep  # brings Matplotlib, which scheduling does without

        need(self.requires())
        if self.complete():
            return
        folders = iter(self._folders())
        points = [
            sweep.Point(point.values, [metrics_of(next(folders)) for _ in point.overrides])
            for point in self.combinations()
        ]
        facts = {"stage": "sweep", "grid": self.grid, "seeds": self.seeds, "evaluations": self._made()}
        with atomic_output(self.folder(), facts) as building:
            sweep.sweep(self.experiment.experiment.name, points, building)

    def begun(self) -> Path:
        """Says what a sweep that is not finished wants, so that Clean leaves its outputs alone."""
        name = hashlib.sha256(json.dumps([self.config, self.set, self.grid, self.seeds]).encode()).hexdigest()[:12]
        return self.root / self.experiment.experiment.name / f"sweep-{name}.begun.json"

    def summary(self) -> str:
        """The table in plain text, and where it is."""
        folder = self.folder()
        with open(str(folder / "sweep.csv"), newline="", encoding="utf-8") as stream:
            rows = list(csv.reader(stream))
        first = rows[0].index("seeds") + 1  # of the columns that were measured
        rows[1:] = [row[:first] + [f"{float(cell):.2f}" if cell else "" for cell in row[first:]] for row in rows[1:]]
        widths = [max(map(len, column)) for column in zip(*rows)]
        lines = ["  ".join(cell.rjust(width) for cell, width in zip(row, widths)) for row in rows]
        places = ["table: {}".format(folder / "sweep.csv"), "page:  {}".format(folder / "sweep.html")]
        return "\n".join(["", *lines, *places])

    def _made(self) -> List[Tuple[str, str]]:
        """What each evaluation overrides, and the name of its folder."""
        return [(redact_text(task.set), folder.name) for task, folder in zip(self.requires(), self._folders())]

    def _folders(self) -> List[Path]:
        """The folders of the evaluations, which are all known once all are complete."""
        return [folder for folder in (task.output().folder for task in self.requires()) if folder]


@functools.lru_cache(maxsize=None)
def combinations(path: str, overrides: str, grid: str, seeds: int) -> Tuple[Combination, ...]:
    """The points of a grid, each checked as a configuration.

    Args:
      path: of the experiment; "" is the default one.
      overrides: settings that override the experiment's, as in `--set`.
      grid: `section.key=[value,…],…`, values as in TOML; "" is the experiment itself.
      seeds: number of runs of each point.

    Raises:
      ConfigError: grid or seeds cannot be meant, or the experiment with one of the values.
    """
    if seeds < 1:
        raise ConfigError(f"--seeds must be at least 1, got {seeds}")
    first = configuration.load(path or None, overrides).train.seed
    axes = parse_grid(grid)
    points = []
    for values in itertools.product(*axes.values()):
        chosen = dict(zip(axes, values))
        settings = [overrides.rstrip(", ")] if overrides.strip(", ") else []
        settings += [f"{name}={_toml(value)}" for name, value in chosen.items()]
        runs = tuple(",".join([*settings, f"train.seed={first + number}"]) for number in range(seeds))
        for run in runs:
            configuration.load(path or None, run)
        points.append(Combination(chosen, runs))
    return tuple(points)


def parse_grid(text: str) -> Dict[str, List[Any]]:
    """Parses `section.key=[value,…],…` into the values to try for each `section.key`, in order.

    Raises:
      ConfigError: it is not of that form, a setting is there twice, or has no values or equal ones.
    """
    try:
        tables = configuration.tomllib.loads("grid = {" + text + "}")["grid"]
    except configuration.tomllib.TOMLDecodeError as error:
        raise ConfigError(
            f"--grid {text!r}: wanted section.key=[value,…],… with every setting once and strings in quotes, for example "
            f"loss.diversity_weight=[20,50],network.landmarks=[10,30] ({error})"
        ) from None
    axes: Dict[str, List[Any]] = {}
    for section, settings in tables.items():
        if not isinstance(settings, dict):
            raise ConfigError(f"--grid {text!r}: {section} is not a setting; wanted section.key=[value,…]")
        for key, values in settings.items():
            name = f"{section}.{key}"
            within = values if name in configuration.SECTIONS and isinstance(values, dict) else {}
            axes.update({f"{name}.{inner}": value for inner, value in within.items()} or {name: values})
    for name, values in axes.items():
        if not isinstance(values, list) or not values:
            raise ConfigError(f"--grid: {name} wants a list of values to try, [value,…], got {values!r}")
        if any(value in values[:place] for place, value in enumerate(values)):
            raise ConfigError(f"--grid: {name} has a value twice: {values!r}")
    if "train.seed" in axes:
        raise ConfigError("--grid: train.seed is varied by --seeds, beginning with the experiment's own")
    return axes


def _toml(value: Any) -> str:
    """A value of a grid as `--set` takes it: JSON, which TOML understands; a date becomes a string, and is refused."""
    return json.dumps(value, ensure_ascii=False, default=str)


def wanted(root: Path) -> List[str]:
    """Keys of the outputs that sweeps of a workspace which are begun and not finished have made, or will make next."""
    keys = []
    for path in root.glob("*/sweep-*.begun.json"):
        begun = json.loads(path.read_text())
        for overrides in begun["runs"]:
            try:
                configuration.load(begun["config"] or None, overrides)
            except ConfigError as error:
                print(f"{path}: what that sweep wants is not known any more: {error}")
                break
            stages = FullRun(config=begun["config"], set=overrides, workspace=str(root)).stages()
            folders = (task.output().folder for task in stages.values())
            keys += [folder.name for folder in folders if folder]
    return keys


@Sweep.event_handler(luigi.Event.DEPENDENCY_DISCOVERED)
def _begin(task: Sweep, _: luigi.Task) -> None:
    path = task.begun()
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        config = str(Path(task.config).absolute()) if Path(task.config).is_file() else task.config
        runs = [configuration.redact_text(override) for point in task.combinations() for override in point.overrides]
        write_json(path, {"config": config, "runs": runs})


@Sweep.event_handler(luigi.Event.SUCCESS)
@Sweep.event_handler(luigi.Event.DEPENDENCY_PRESENT)
def _print_summary(task: Sweep) -> None:
    with contextlib.suppress(FileNotFoundError):
        task.begun().unlink()
    print(task.summary(), flush=True)
