"""The file `<date>/verdict.json` of a night."""

import json
from pathlib import Path
from typing import Any, Dict

from fse.runtime.files import write_json
from tasks.nightly.history import Record


def verdict_path(folder: Path, date: str) -> Path:
    """Return the path of a night's verdict in a nightly's folder."""
    return folder / date / "verdict.json"


def write(folder: Path, record: Record, announced: bool = False) -> None:
    """Write a night's record to its verdict file.

    The file omits the keys of the outputs: Clean keeps every output that a file in the workspace names. The links in the
    night's folder keep the outputs instead, until `retention` removes the links.

    Args:
      folder: the nightly's folder.
      record: the night's record.
      announced: whether page, hooks and heartbeat are up to date. If the process was killed before, the night runs again
        and catches up.
    """
    plays = [dict(play, stages=_without_keys(play["stages"])) for play in record["plays"]]
    path = verdict_path(folder, record["date"])
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, dict(record, plays=plays, announced=announced))


def read(folder: Path, date: str) -> Dict[str, Any]:
    """Return the content of a night's verdict file; empty if there is none."""
    try:
        return dict(json.loads(verdict_path(folder, date).read_text()))
    except (OSError, ValueError):
        return {}


def _without_keys(stages: Dict[str, Dict[str, Any]]) -> Dict[str, Dict[str, Any]]:
    return {name: {fact: value for fact, value in stage.items() if fact != "key"} for name, stage in stages.items()}
