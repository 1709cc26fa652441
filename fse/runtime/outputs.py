"""Output folders that are published by an atomic rename.

A stage writes into `<output>.building`. When it has finished, the folder gets its manifest and is renamed to `<output>`.
"""

import contextlib
import json
import os
import platform
import resource
import shutil
import socket
import time
from pathlib import Path
from typing import Any, Dict, Iterator, Optional

from fse.errors import StageError
from fse.runtime import clock, integrity, manifests
from fse.runtime.files import write_json
from fse.runtime.hashing import Volatile
from fse.runtime.versions import installed_versions

# Folder for the lock files of processes that write parts of an output together. It is removed before publishing.
CLAIMS = "claims"


@contextlib.contextmanager
def atomic_output(
    output: Path,
    manifest: Dict[str, Any],
    keep: bool = False,
    replace: bool = False,
    volatile: Optional[Volatile] = None,
    summary: str = "",
) -> Iterator[Path]:
    """Yield a folder to write into; when the block ends without an exception, publish it as `output`.

    Publishing adds the manifest and renames the folder. Until then `output` does not exist, or still is the previous output.

    Args:
      output: the folder to create.
      manifest: what `manifests.new_manifest` returned.
      keep: keep the files of an interrupted attempt, instead of starting with an empty folder.
      replace: `output` may exist; publishing replaces it.
      volatile: parts that the content hash ignores.
      summary: name of the JSON file whose numbers the manifest repeats.

    Raises:
      StageError: `output` exists or cannot be written; or `keep` is set and the interrupted attempt had other settings or
        inputs.
    """
    if os.path.lexists(output) and not replace:
        raise StageError(f"{output}: exists already; remove it, or name another --output")
    building = building_folder(output)
    started, start_time = clock.utc_timestamp(), time.monotonic()
    with _write_errors(output):
        resumed = building.exists() and keep
        if building.exists() and not keep:
            shutil.rmtree(building)
        building.mkdir(parents=True, exist_ok=True)
        _begin(building, manifest)
        yield building
        shutil.rmtree(building / CLAIMS, ignore_errors=True)
        for name in manifests.OWN_FILES:  # an attempt that was killed while publishing leaves them
            with contextlib.suppress(FileNotFoundError):
                (building / name).unlink()
        content = manifests.measure_output(building, volatile or {}, summary)
        run = {
            "host": socket.gethostname(),
            "python": platform.python_version(),
            "packages": installed_versions(),
            "started": started,
            "seconds": round(time.monotonic() - start_time, 3),
            "resumed": resumed,
            "peak_megabytes": _peak_megabytes(),
        }
        manifests.write_manifest(building, {**manifest, **content, **run})
        integrity.remember(building)
        _publish(building, output)


@contextlib.contextmanager
def shared_output(output: Path, manifest: Dict[str, Any]) -> Iterator[Path]:
    """Yield the folder in which `atomic_output` with `keep` will build `output`, to write a part of it.

    Any number of processes may write parts at the same time. None may still do so when `atomic_output` is entered.

    Args:
      output: the folder that will be created.
      manifest: as for `atomic_output`.

    Raises:
      StageError: the folder cannot be written, or an interrupted attempt had other settings or inputs.
    """
    building = building_folder(output)
    with _write_errors(output):
        (building / CLAIMS).mkdir(parents=True, exist_ok=True)
        _begin(building, manifest)
        yield building


def building_folder(output: Path) -> Path:
    """Return the folder in which an output is built."""
    return output.with_name(output.name + ".building")


@contextlib.contextmanager
def _write_errors(output: Path) -> Iterator[None]:
    """Turn operating system errors into a StageError that names the file."""
    try:
        yield
    except OSError as error:
        raise StageError(f"{error.filename or output}: cannot be written: {error.strerror or error}") from error


def _begin(building: Path, manifest: Dict[str, Any]) -> None:
    """Note what an attempt starts with, or compare it with the note of the interrupted attempt.

    Raises:
      StageError: the interrupted attempt had other settings or inputs.
    """
    # A scheduler's key covers settings, inputs and code. Without a key, settings and inputs are compared.
    names = ("key",) if manifest.get("key") else ("config", "inputs")
    # By way of JSON, tuples become lists, as in the file.
    current = json.loads(json.dumps({name: manifest.get(name) for name in names}))
    try:
        previous = json.loads((building / manifests.BEGUN).read_text())
    except FileNotFoundError:
        write_json(building / manifests.BEGUN, current)
        return
    if previous != current:
        raise StageError(
            f"{building}: holds an interrupted attempt with other settings or inputs; run again with the same ones to "
            "resume it, or remove that folder"
        )


def _publish(building: Path, output: Path) -> None:
    """Rename a finished folder to `output`; a previous output is moved aside first and removed afterwards."""
    old = output.with_name(output.name + ".old")
    if os.path.lexists(output):
        shutil.rmtree(old, ignore_errors=True)
        output.replace(old)
    building.replace(output)
    if old.is_symlink():
        old.unlink()
    shutil.rmtree(old, ignore_errors=True)


def _peak_megabytes() -> int:
    """Return the peak memory of this process, or of its largest child if that is higher."""
    usages = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return max(usage.ru_maxrss for usage in usages) // 1024  # Linux counts in KiB
