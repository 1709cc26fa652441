"""Output folders that appear whole or not at all, with a manifest that says what made them."""

import contextlib
import datetime
import hashlib
import json
import os
import platform
import resource
import shutil
import socket
import sys
import time
from pathlib import Path
from typing import Any, Dict, Iterator

from fse.config import Config, as_tables
from fse.errors import StageError

MANIFEST = "manifest.json"
SCHEMA = 1


@contextlib.contextmanager
def whole(output: Path, manifest: Dict[str, Any], keep: bool = False) -> Iterator[Path]:
    """Yields a folder beside `output` to write into; when the block ends well, adds the manifest and renames it.

    Args:
      output: must not exist yet.
      manifest: what to record besides what is measured here (content hash, files, versions, host, start, seconds).
      keep: go on with what an earlier attempt left in the folder, instead of beginning with an empty one.

    Raises:
      StageError: `output` exists, or cannot be written.
    """
    if output.exists():
        raise StageError("{}: exists already; remove it, or name another --output".format(output))
    building = output.with_name(output.name + ".building")
    started, clock = datetime.datetime.now(datetime.timezone.utc), time.monotonic()
    try:
        if building.exists() and not keep:
            shutil.rmtree(str(building))
        building.mkdir(parents=True, exist_ok=True)
        yield building
        files = hash_files(building)
        measured = {
            "schema": SCHEMA,
            "content": content_hash(files),
            "files": {name: (building / name).stat().st_size for name in files} if len(files) < 100 else len(files),
            "python": platform.python_version(),
            "tensorflow": getattr(sys.modules.get("tensorflow"), "__version__", None),
            "host": socket.gethostname(),
            "started": started.replace(microsecond=0).isoformat(),
            "seconds": round(time.monotonic() - clock, 3),
            "peak_megabytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        }
        write_json(building / MANIFEST, dict(manifest, **measured))
        os.replace(str(building), str(output))
    except OSError as error:
        raise StageError(
            "{}: cannot be written: {}".format(error.filename or output, error.strerror or error)
        ) from error


def manifest(stage: str, config: Config, key: str, inputs: Dict[str, Path]) -> Dict[str, Any]:
    """The part of a manifest that is known beforehand: stage, key, configuration, and the identities of the inputs."""
    return {
        "stage": stage,
        "key": key,
        "config": as_tables(config),
        "inputs": {role: _identity(folder) for role, folder in inputs.items()},
        "device": config.train.device if stage == "train" else "cpu",
    }


def read_manifest(folder: Path) -> Dict[str, Any]:
    """The manifest of an output folder; empty if there is none that can be read."""
    try:
        value = json.loads((folder / MANIFEST).read_text())
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def hash_files(folder: Path) -> Dict[str, str]:
    """sha256 of every file below a folder, by its path relative to it, sorted; the manifest is left out."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != MANIFEST)
    return {path.relative_to(folder).as_posix(): hash_file(path) for path in files}


def hash_file(path: Path) -> str:
    """sha256 of a file, 64 hexadecimal digits."""
    digest = hashlib.sha256()
    with open(str(path), "rb") as stream:
        for block in iter(lambda: stream.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()


def content_hash(files: Dict[str, str]) -> str:
    """One hash for a folder's files, from what `hash_files` returns."""
    return hashlib.sha256(json.dumps(sorted(files.items())).encode()).hexdigest()


def write_json(path: Path, value: Any) -> None:
    """Writes a JSON file that is there whole or not at all."""
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(json.dumps(value, indent=2, sort_keys=False) + "\n")
    os.replace(str(temporary), str(path))


def _identity(folder: Path) -> Dict[str, Any]:
    made = read_manifest(folder)
    return {name: made.get(name) for name in ("stage", "key", "content")}
