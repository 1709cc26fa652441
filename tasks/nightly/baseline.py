"""What people accepted as the nightly's normal state: a TOML file that is reviewed like code and only ever grows.

Each entry says who accepted which night of which environment, when and why; the newest of an environment is in force, and
what it replaced stays above it.
"""

import datetime
import getpass
import json
import os
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Optional

from fse import config as configuration
from fse.errors import ConfigError, DataError, StageError
from fse.runtime import locks

_HEAD = (
    "# Accepted nights, oldest first; written by `luigi --module pipeline AcceptBaseline`. The last of a nightly and\n"
)
_HEAD += "# environment is in force. To undo one, accept the night of an earlier one again.\n"

_TEXTS = ("nightly", "date", "environment", "about", "commit", "who", "when", "why", "replaces")


class Baseline(NamedTuple):
    """An accepted night.

    nightly: name. date: of the night. environment: its fingerprint; about: in words. commit: of the code. who, when, why.
    replaces: the date of the one that was in force; '' if there was none. values: by `run.metric`, one a seed.
    """

    nightly: str
    date: str
    environment: str
    about: str
    commit: str
    who: str
    when: str
    why: str
    replaces: str
    values: Dict[str, List[float]]


def read(path: Path, nightly: str) -> List[Baseline]:
    """The accepted nights of a nightly, oldest first; none if there is no file.

    Raises:
      ConfigError: the file is not what `accept` writes.
    """
    if not path.exists():
        return []
    try:
        entries = configuration.read(path).get("accepted", [])
        found = [
            Baseline(
                values={name: [float(value) for value in values] for name, values in entry["values"].items()},
                **{name: str(entry[name]) for name in _TEXTS},
            )
            for entry in entries
        ]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ConfigError(f"{path}: not what AcceptBaseline writes: {error!r}") from None
    return [baseline for baseline in found if baseline.nightly == nightly]


def in_force(accepted: List[Baseline], environment: str) -> Optional[Baseline]:
    """The baseline of an environment; None if there is none."""
    return next((baseline for baseline in reversed(accepted) if baseline.environment == environment), None)


def accept(path: Path, record: Dict[str, Any], about: str, why: str) -> Baseline:
    """Adds a night to the file.

    Args:
      path: the file; made if it is not there.
      record: the night's, from the history.
      about: its environment in words.
      why: the reason.

    Raises:
      DataError: no reason, or a night with nothing that can be accepted.
      StageError: the file cannot be written.
    """
    if not why.strip():
        raise DataError(f"--reason: say why these figures are the normal state from now on; it is kept in {path}")
    values: Dict[str, List[float]] = {}
    for play in record["plays"]:
        for metric, value in play["metrics"].items():
            if value is not None:
                values.setdefault("{}.{}".format(play["run"], metric), []).append(value)
    if record["verdict"] not in ("pass", "warn", "regression") or not values:
        raise DataError(
            "the night of {} cannot be accepted: its verdict is {}".format(
                record["date"], record["verdict"] or "not there yet"
            )
        )
    try:
        with locks.lock(path.with_name(path.name + ".lock"), str(path), 60.0):
            old = in_force(read(path, record["nightly"]), record["fingerprint"])
            baseline = Baseline(
                record["nightly"],
                record["date"],
                record["fingerprint"],
                about,
                record["commit"],
                _me(),
                datetime.datetime.now(datetime.timezone.utc).replace(microsecond=0).isoformat(),
                why.strip(),
                old.date if old else "",
                values,
            )
            text = path.read_text(encoding="utf-8") if path.exists() else _HEAD
            new = path.with_name(path.name + ".new")
            new.write_text(text + _entry(baseline, old), encoding="utf-8")
            read(new, baseline.nightly)  # what cannot be read is not put in place
            os.replace(str(new), str(path))
    except OSError as error:
        raise StageError(f"{path}: cannot be written: {error.strerror}") from error
    return baseline


def _entry(baseline: Baseline, old: Optional[Baseline]) -> str:
    lines = ["", "[[accepted]]"]
    lines += [f"{name} = {json.dumps(getattr(baseline, name), ensure_ascii=False)}" for name in _TEXTS]
    lines.append("[accepted.values]")
    for name, values in sorted(baseline.values.items()):
        before = old.values.get(name) if old else None
        was = "  # was {}".format(", ".join(map("{:.6g}".format, before))) if before else ""
        lines.append("{} = [{}]{}".format(json.dumps(name), ", ".join(map(repr, values)), was))
    return "\n".join(lines) + "\n"


def _me() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):  # a user without a name
        return str(os.getuid())
