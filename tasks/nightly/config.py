"""The configuration file of a nightly: the experiments and seeds of each night, and the limits of their metrics.

[nightly]            name, baselines, doctor, keep, …       -> `NightlySection`
[[run]]              name, kind, config, set, seeds         -> `RunConfig`
[run.metrics.nme]    maximum, minimum, tolerance, noise     -> `gates.Gate`
[[hook]]             command or url, seconds                -> `Hook`
"""

import functools
import math
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Dict, List, Tuple

from fse import config as configuration
from fse.config import setting
from fse.errors import ConfigError
from tasks.nightly.gates import Gate

_NAME = re.compile(r"[A-Za-z0-9][\w-]*\Z")


@dataclass(frozen=True)
class Metric:
    """A metric that a nightly can judge."""

    better: str  # "lower" or "higher"
    title: str  # on the page
    unit: str


METRICS: Dict[str, Metric] = {
    "nme": Metric("lower", "Error", "% of the inter-ocular distance"),
    "nme_warped": Metric("lower", "Error, warped", "% of the inter-ocular distance"),
    "equivariance_error": Metric("lower", "Equivariance error", "% of the view's width"),
    "loss_align": Metric("lower", "Alignment loss", "squared cells; 64 cells are the view's width"),
    "failure_rate_10": Metric("lower", "Failure rate at 10 %", "fraction of images"),
    "auc_10": Metric("higher", "Area under the error curve up to 10 %", ""),
    "pairs_per_second": Metric("higher", "Training speed", "pairs/s"),
    "seconds_per_step": Metric("lower", "Time per training step", "s"),
    "end_to_end_seconds": Metric("lower", "Training, export and evaluation", "s"),
    "peak_megabytes": Metric("lower", "Peak memory of training", "MB"),
}


@dataclass(frozen=True)
class NightlySection:
    """The `[nightly]` section."""

    name: str = setting("nightly", "name of the results folder; letters, digits, '_' and '-'")
    baselines: str = setting("baselines.toml", "file that AcceptBaseline writes, relative to this file")
    doctor: bool = setting(True, "check the machine with `fse doctor` first")
    device_wait: int = setting(3600, "seconds to wait for a busy device, before the night and before each run", 0)
    keep: int = setting(30, "number of nights whose outputs Clean keeps", 1)
    heartbeat: str = setting("", "file that every finished night writes; '' is `heartbeat` beside the history")


@dataclass(frozen=True)
class _RunSection:
    name: str = setting("", "name of the run in metrics, as in accuracy.nme; letters, digits, '_' and '-'")
    kind: str = setting("accuracy", "what the run measures", choices=("accuracy", "performance"))
    config: str = setting("", "experiment: a file, relative to this one, or the name of a shipped configuration")
    set: str = setting("", "settings that override the experiment's, in the syntax of --set")
    seeds: Tuple[int, ...] = setting((1,), "values of train.seed; each is one training", 0, 2**31 - 1)


@dataclass(frozen=True)
class _GateSection:
    minimum: float = setting(-math.inf, "smallest permitted mean")
    maximum: float = setting(math.inf, "largest permitted mean")
    tolerance: float = setting(0.05, "how much worse than the baseline the mean may be, as a fraction", 0.0, 10.0)
    noise: float = setting(0.01, "smallest relative standard deviation of a night that the gates assume", 0.0, 1.0)


@dataclass(frozen=True)
class Hook:
    """A `[[hook]]` section: a receiver of alarms."""

    command: str = setting("", "program and arguments in shell syntax; reads the verdict as JSON")
    url: str = setting("", "or an http(s) URL to post the verdict to; $NAMES are environment variables")
    seconds: float = setting(30.0, "time limit, after which the hook is killed", 0.1, 3600.0)

    @property
    def name(self) -> str:
        """The hook's name in the history and on the page."""
        return self.command or self.url


@dataclass(frozen=True)
class RunConfig:
    """A `[[run]]` section: an experiment that each night trains once per seed."""

    name: str
    kind: str  # "accuracy" or "performance"
    config: str  # absolute path, or the name of a shipped configuration
    set: str  # overrides, in the syntax of --set
    seeds: Tuple[int, ...]
    gates: Dict[str, Gate]  # by the metric's name

    def overrides(self, *extra: str) -> str:
        """Return the run's `--set`, followed by `extra` overrides."""
        parts = [part.strip(", ") for part in (self.set, *extra)]
        return ",".join(filter(None, parts))


@dataclass(frozen=True)
class NightlyConfig:
    """A nightly's configuration file."""

    file: Path
    nightly: NightlySection
    runs: Tuple[RunConfig, ...]
    hooks: Tuple[Hook, ...]

    @property
    def baselines(self) -> Path:
        """The file of accepted baselines."""
        return self.file.resolve().parent / self.nightly.baselines

    def gates(self) -> Dict[str, Gate]:
        """Return all gates by `run.metric`."""
        return {f"{run.name}.{name}": gate for run in self.runs for name, gate in run.gates.items()}

    def resolve_metric(self, name: str) -> str:
        """Return the `run.metric` of a name: `run.metric` itself, or a metric's name that only one run judges.

        Raises:
          ConfigError: no run or several runs judge the metric.
        """
        matches = [metric for metric in self.gates() if name in (metric, metric.split(".")[1])]
        if len(matches) != 1:
            problem = "several runs judge it" if matches else "unknown metric"
            raise ConfigError(f"--metric {name}: {problem}; choose one of {', '.join(self.gates())} (from {self.file})")
        return matches[0]

    def experiments(self, overrides: str) -> List[configuration.Config]:
        """Return the checked configurations of the runs' experiments.

        Raises:
          ConfigError: a configuration is invalid.
        """
        return [configuration.load(run.config or None, run.overrides(overrides)) for run in self.runs]

    def key_parts(self) -> Any:
        """Return the runs as JSON values, from which the hash of the nightly's configuration is computed."""
        return [asdict(run) for run in self.runs]


@functools.lru_cache(maxsize=None)
def load(path: str) -> NightlyConfig:
    """Read a nightly's file.

    Args:
      path: a file, or the name of a shipped nightly (`nightly`, `nightly_cpu`).

    Raises:
      ConfigError: the file cannot be read or is invalid.
    """
    file = _find_file(path)
    tables, source = configuration.read_tables(file), str(file)
    unknown = sorted({*tables} - {"nightly", "run", "hook"})
    if unknown:
        raise ConfigError(f"{source}: unknown section [{unknown[0]}]; known: nightly, run, hook")
    nightly_table = _table(tables.get("nightly", {}), "nightly", source)
    nightly = configuration.parse_section(NightlySection, "nightly", nightly_table, source)
    runs = tuple(_run(table, file) for table in _tables(tables.get("run", []), "run", source))
    hooks = tuple(_hook(table, source) for table in _tables(tables.get("hook", []), "hook", source))
    names = [run.name for run in runs]
    if not runs or len({*names}) < len(names):
        raise ConfigError(f"{source}: needs [[run]] sections, each with a different name, got {names}")
    for name in [nightly.name, *names]:
        if not _NAME.match(name):
            raise ConfigError(f"{source}: name {name!r} must be letters, digits, '_' and '-'")
    return NightlyConfig(file, nightly, runs, hooks)


def _find_file(path: str) -> Path:
    for file in (Path(path), configuration.configs_folder() / (path + ".toml")):
        if file.is_file():
            return file
    shipped = ", ".join(sorted(file.stem for file in configuration.configs_folder().glob("nightly*.toml")))
    raise ConfigError(f"nightly {path}: no such file, and no shipped nightly has that name (there are: {shipped})")


def _run(table: Dict[str, Any], file: Path) -> RunConfig:
    source = str(file)
    metrics = _table(table.pop("metrics", {}), "run.metrics", source)
    section = configuration.parse_section(_RunSection, "run", table, source)
    gates = {name: _gate(name, limits, source) for name, limits in metrics.items()}
    if not gates:
        raise ConfigError(f"{source}: run {section.name!r} judges nothing; add a [run.metrics.NAME] section")
    if not section.seeds or len({*section.seeds}) < len(section.seeds):
        raise ConfigError(f"{source}: run {section.name!r}: seeds must be at least one number, without repetitions")
    beside = file.resolve().parent / section.config
    config = str(beside) if section.config and beside.is_file() else section.config
    return RunConfig(section.name, section.kind, config, section.set, section.seeds, gates)


def _gate(metric: str, limits: Any, source: str) -> Gate:
    if metric not in METRICS:
        raise ConfigError(f"{source}: unknown metric {metric}; known: {', '.join(METRICS)}")
    section = "run.metrics." + metric
    checked = configuration.parse_section(_GateSection, section, _table(limits, section, source), source)
    if checked.minimum > checked.maximum:
        raise ConfigError(f"{source}: {section}: minimum is above maximum")
    return Gate(METRICS[metric].better, **asdict(checked))


def _hook(table: Dict[str, Any], source: str) -> Hook:
    hook: Hook = configuration.parse_section(Hook, "hook", table, source)
    if bool(hook.command) == bool(hook.url):
        raise ConfigError(f"{source}: a [[hook]] needs either a command or a url")
    return hook


def _table(value: Any, name: str, source: str) -> Dict[str, Any]:
    if not isinstance(value, dict):
        raise ConfigError(f"{source}: {name} must be a section, [{name}], not a value")
    return dict(value)


def _tables(value: Any, name: str, source: str) -> List[Dict[str, Any]]:
    if not isinstance(value, list):
        raise ConfigError(f"{source}: {name} must be sections, [[{name}]]")
    return [_table(table, name, source) for table in value]
