"""The nightly's file: which experiments are run each night with which seeds, and how their metrics are judged.

[nightly]            name, baselines, doctor, keep, …       -> `Nightly`
[[run]]              name, kind, config, set, seeds         -> `Run`
[run.metrics.nme]    maximum, minimum, tolerance, noise     -> `gates.Gate`
[[hook]]             command or url, seconds                -> `Hook`
"""

import functools
import math
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Tuple

from fse import config as configuration
from fse.config import setting
from fse.errors import ConfigError
from tasks.nightly.gates import Gate


class Metric(NamedTuple):
    """What can be judged. better: "lower" or "higher". title, unit: as people call it."""

    better: str
    title: str
    unit: str


METRICS: Dict[str, Metric] = {
    "nme": Metric("lower", "Error", "% of the inter-ocular distance"),
    "nme_warped": Metric("lower", "Error, warped", "% of the inter-ocular distance"),
    "equivariance_error": Metric("lower", "Equivariance error", "% of the view's width"),
    "loss_align": Metric("lower", "Alignment loss", "squared cells of 1/64"),
    "failure_rate_10": Metric("lower", "Failure rate at 10 %", "share of images"),
    "auc_10": Metric("higher", "Area under the error curve to 10 %", ""),
    "pairs_per_second": Metric("higher", "Speed of training", "pairs/s"),
    "seconds_per_step": Metric("lower", "A training step", "s"),
    "end_to_end_seconds": Metric("lower", "Training, export and evaluation", "s"),
    "peak_megabytes": Metric("lower", "Peak memory of training", "MB"),
}


@dataclass(frozen=True)
class Nightly:
    """`[nightly]`."""

    name: str = setting("nightly", "names the folder of results; letters, digits, '_' and '-'")
    baselines: str = setting("baselines.toml", "what AcceptBaseline writes, relative to this file")
    doctor: bool = setting(True, "look at the machine with `fse doctor` first")
    device_wait: int = setting(3600, "seconds to wait for a device that is in use, before the night and each run", 0)
    keep: int = setting(30, "nights whose outputs Clean keeps", 1)
    heartbeat: str = setting("", "file that every finished night touches; '' is `heartbeat` beside the history")


@dataclass(frozen=True)
class _Run:
    name: str = setting("", "names it in metrics, as in accuracy.nme; letters, digits, '_' and '-'")
    kind: str = setting("accuracy", "what it is for", choices=("accuracy", "performance"))
    config: str = setting("", "an experiment: a file, relative to this one, or the name of a shipped one")
    set: str = setting("", "settings that override the experiment's, as --set takes them")
    seeds: Tuple[int, ...] = setting((1,), "of train.seed, one training each", 0, 2**31 - 1)


@dataclass(frozen=True)
class _Limits:
    minimum: float = setting(-math.inf, "least permitted mean")
    maximum: float = setting(math.inf, "largest permitted mean")
    tolerance: float = setting(0.05, "share of the baseline by which the mean may be worse", 0.0, 10.0)
    noise: float = setting(0.01, "relative standard deviation of a night that is to be expected at least", 0.0, 1.0)


@dataclass(frozen=True)
class Hook:
    """`[[hook]]`: who is told when the nightly's state changes."""

    command: str = setting("", "program and arguments, as a shell splits them; gets the verdict as JSON")
    url: str = setting("", "or an http(s) address to which it is posted; $NAMES are the environment's")
    seconds: float = setting(30.0, "it is killed after that", 0.1, 3600.0)


class Run(NamedTuple):
    """`[[run]]`: an experiment that is trained once for every seed. gates: by the metric's name."""

    name: str
    kind: str
    config: str
    set: str
    seeds: Tuple[int, ...]
    gates: Dict[str, Gate]

    def overrides(self, more: str = "") -> str:
        """The run's `--set`, with `more` behind it."""
        return ",".join(part.strip(", ") for part in (self.set, more) if part.strip(", "))


class Settings(NamedTuple):
    """A nightly's whole file."""

    file: Path
    nightly: Nightly
    runs: Tuple[Run, ...]
    hooks: Tuple[Hook, ...]

    @property
    def baselines(self) -> Path:
        """The file of accepted baselines."""
        return self.file.resolve().parent / self.nightly.baselines

    def gates(self) -> Dict[str, Gate]:
        """All gates, by `run.metric`."""
        return {f"{run.name}.{name}": gate for run in self.runs for name, gate in run.gates.items()}

    def metric(self, name: str) -> str:
        """The `run.metric` that `name` means: itself, or the metric's name alone if one run only has it.

        Raises:
          ConfigError: none or several.
        """
        found = [metric for metric in self.gates() if name in (metric, metric.split(".")[1])]
        if len(found) != 1:
            known = ", ".join(self.gates())
            raise ConfigError(
                "--metric {}: {}; {} judges {}".format(
                    name, "several runs have it" if found else "unknown", self.file, known
                )
            )
        return found[0]

    def experiments(self, more: str) -> List[configuration.Config]:
        """The runs' experiments, checked.

        Raises:
          ConfigError: one cannot be meant.
        """
        return [configuration.load(run.config or None, run.overrides(more)) for run in self.runs]

    def key_parts(self) -> Any:
        """What the runs are, as JSON values, for the configuration's hash."""
        return [
            dict(run._asdict(), gates={name: gate._asdict() for name, gate in run.gates.items()}) for run in self.runs
        ]


@functools.lru_cache(maxsize=None)
def load(path: str) -> Settings:
    """Reads a nightly's file: a path, or the name of a shipped one (`nightly`, `nightly_cpu`).

    Raises:
      ConfigError: it cannot be read, or a value in it cannot be meant.
    """
    file = Path(path)
    if not file.is_file():
        file = configuration.folder() / (path + ".toml")
    if not file.is_file() or not file.stem:
        known = ", ".join(sorted(found.stem for found in configuration.folder().glob("nightly*.toml")))
        raise ConfigError(f"nightly {path}: no such file, and no shipped one of that name (there are: {known})")
    tables, source = configuration.read(file), str(file)
    unknown = sorted({*tables} - {"nightly", "run", "hook"})
    if unknown:
        raise ConfigError(f"{source}: unknown section [{unknown[0]}]; known: nightly, run, hook")
    nightly = configuration.checked_section(
        Nightly, "nightly", _table(tables.get("nightly", {}), "nightly", source), source
    )
    runs = tuple(_run(_table(values, "run", source), file) for values in _list(tables.get("run", []), "run", source))
    hooks = tuple(
        _hook(_table(values, "hook", source), source) for values in _list(tables.get("hook", []), "hook", source)
    )
    names = [run.name for run in runs]
    if not runs or len({*names}) < len(names):
        raise ConfigError(f"{source}: wanted [[run]] sections, each of another name, got {names}")
    for name in [nightly.name, *names]:
        if not re.match(r"[A-Za-z0-9][\w-]*\Z", name):
            raise ConfigError(f"{source}: name {name!r} must be letters, digits, '_' and '-'")
    return Settings(file, nightly, runs, hooks)


def _run(values: Dict[str, Any], file: Path) -> Run:
    source = str(file)
    metrics = _table(values.pop("metrics", {}), "run.metrics", source)
    run = configuration.checked_section(_Run, "run", values, source)
    gates = {}
    for name, limits in metrics.items():
        if name not in METRICS:
            raise ConfigError("{}: unknown metric {}; known: {}".format(source, name, ", ".join(METRICS)))
        section = "run.metrics." + name
        checked = configuration.checked_section(_Limits, section, _table(limits, section, source), source)
        if checked.minimum > checked.maximum:
            raise ConfigError(f"{source}: {section}: minimum is above maximum")
        gates[name] = Gate(METRICS[name].better, **asdict(checked))
    if not gates:
        raise ConfigError(f"{source}: run {run.name!r} has no [run.metrics.NAME]: it would judge nothing")
    if not run.seeds or len({*run.seeds}) < len(run.seeds):
        raise ConfigError(f"{source}: run {run.name!r}: seeds must be at least one and all different")
    beside = file.resolve().parent / run.config
    config = str(beside) if run.config and beside.is_file() else run.config
    return Run(run.name, run.kind, config, run.set, run.seeds, gates)


def _hook(values: Dict[str, Any], source: str) -> Hook:
    hook = configuration.checked_section(Hook, "hook", values, source)
    if bool(hook.command) == bool(hook.url):
        raise ConfigError(f"{source}: a [[hook]] has a command or a url")
    return hook


def _table(value: Any, name: str, source: str) -> Dict[str, Any]:
    if not isinstance(value, dict):
        raise ConfigError(f"{source}: {name} must be a section, [{name}], not a value")
    return dict(value)


def _list(value: Any, name: str, source: str) -> List[Any]:
    if not isinstance(value, list):
        raise ConfigError(f"{source}: {name} must be sections, [[{name}]]")
    return value
