"""The accepted baselines of a nightly: a TOML file that is reviewed like code.

Each entry says who accepted which night of which environment, when and why. The newest entry of an environment is in force.
Entries are only added, so the earlier baselines stay in the file.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence

from fse import config as configuration
from fse.errors import ConfigError, DataError, StageError
from fse.runtime import clock, files, locks
from tasks.nightly.verdicts import PASS, REGRESSION, WARN

_HEADER = """\
# Accepted nights, oldest first; written by `luigi --module pipeline AcceptBaseline`. The last entry of a nightly and
# environment is in force. To undo an entry, accept the night of an earlier entry again.
"""

# The keys of an entry besides its values.
_KEYS = ("nightly", "date", "environment", "about", "commit", "who", "when", "why", "replaces")

_LOCK_TIMEOUT_SECONDS = 60.0


@dataclass(frozen=True)
class Baseline:
    """An accepted night. The fields are the keys of the file."""

    nightly: str  # name of the nightly
    date: str  # of the night
    environment: str  # fingerprint
    about: str  # description of the environment
    commit: str
    who: str
    when: str
    why: str
    replaces: str  # date of the baseline that was in force before; '' if there was none
    values: Dict[str, List[float]]  # by `run.metric`, one per seed


def read(path: Path, nightly: str) -> List[Baseline]:
    """Return the accepted nights of a nightly, oldest first; empty if the file does not exist.

    Raises:
      ConfigError: the file does not have the format that `accept` writes.
    """
    if not path.exists():
        return []
    try:
        baselines = [_parse(entry) for entry in configuration.read_tables(path).get("accepted", [])]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ConfigError(f"{path}: not a file that AcceptBaseline wrote: {error!r}") from None
    return [baseline for baseline in baselines if baseline.nightly == nightly]


def in_force(accepted: Sequence[Baseline], environment: str) -> Optional[Baseline]:
    """Return the baseline of an environment; None if there is none."""
    return next((baseline for baseline in reversed(accepted) if baseline.environment == environment), None)


def accept(path: Path, record: Dict[str, Any], about: str, why: str) -> Baseline:
    """Add a night to the file and return its entry.

    Args:
      path: the file; created if it does not exist.
      record: the night's record from the history.
      about: description of the night's environment.
      why: the reason.

    Raises:
      DataError: the reason is empty, or the night has nothing to accept.
      StageError: the file cannot be written.
    """
    if not why.strip():
        raise DataError(f"--reason: is missing; say why these figures are the new normal, it is stored in {path}")
    values = _values_of(record)
    if record["verdict"] not in (PASS, WARN, REGRESSION) or not values:
        verdict = f"its verdict is {record['verdict']}" if record["verdict"] else "it has no verdict yet"
        raise DataError(f"the night of {record['date']} cannot be accepted: {verdict}")
    try:
        with locks.lock(path.with_name(path.name + ".lock"), str(path), _LOCK_TIMEOUT_SECONDS):
            replaced = in_force(read(path, record["nightly"]), record["fingerprint"])
            baseline = Baseline(
                nightly=record["nightly"],
                date=record["date"],
                environment=record["fingerprint"],
                about=about,
                commit=record["commit"],
                who=locks.user_name(),
                when=clock.utc_timestamp(),
                why=why.strip(),
                replaces=replaced.date if replaced else "",
                values=values,
            )
            text = path.read_text(encoding="utf-8") if path.exists() else _HEADER
            with files.atomic_file(path, ".new") as temporary:
                temporary.write_text(text + _format(baseline, replaced), encoding="utf-8")
                read(temporary, baseline.nightly)  # never replace the file with one that cannot be read
    except OSError as error:
        raise StageError(f"{path}: cannot be written: {error.strerror}") from error
    return baseline


def _parse(entry: Dict[str, Any]) -> Baseline:
    values = {name: [float(value) for value in values] for name, values in entry["values"].items()}
    return Baseline(values=values, **{key: str(entry[key]) for key in _KEYS})


def _values_of(record: Dict[str, Any]) -> Dict[str, List[float]]:
    """Return the values of a night by `run.metric`, one per seed and repeat."""
    values: Dict[str, List[float]] = {}
    for play in record["plays"]:
        for metric, value in play["metrics"].items():
            if value is not None:
                values.setdefault(f"{play['run']}.{metric}", []).append(value)
    return values


def _format(baseline: Baseline, replaced: Optional[Baseline]) -> str:
    lines = ["", "[[accepted]]"]
    lines += [f"{key} = {json.dumps(getattr(baseline, key), ensure_ascii=False)}" for key in _KEYS]
    lines.append("[accepted.values]")
    for name, values in sorted(baseline.values.items()):
        old_values = replaced.values.get(name) if replaced else None
        comment = f"  # was {', '.join(f'{value:.6g}' for value in old_values)}" if old_values else ""
        lines.append(f"{json.dumps(name)} = [{', '.join(map(repr, values))}]{comment}")
    return "\n".join(lines) + "\n"
