"""Output folders that appear whole or not at all, with a manifest that says what made them.

Beside what a stage wrote, an output holds `manifest.json`, `files.sha256` (`sha256sum -c files.sha256` checks it) and
`.state`: sizes, times and inodes of the files when their content was last compared with the manifest, so that it need
not be read again while these are the same.
"""

import contextlib
import csv
import datetime
import fnmatch
import hashlib
import json
import os
import platform
import resource
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Dict, Iterable, Iterator, List, Optional, Tuple

from fse.config import Config, redact_config
from fse.errors import StageError

if sys.version_info >= (3, 8):
    from importlib import metadata
else:
    import importlib_metadata as metadata

MANIFEST = "manifest.json"
LISTING = "files.sha256"
_STATE = ".state"
_BEGUN = ".begun"
# Locks of what the processes that share the making of an output are at; not part of it.
CLAIMS = "claims"
_OWN = (MANIFEST, LISTING, _STATE, _BEGUN)

SCHEMA = 2

# What every manifest has, so that it can be relied on: what a hand or another program left without it is no manifest.
_FIELDS: Dict[str, type] = {
    **dict.fromkeys(("stage", "key", "content", "listing", "started"), str),
    **dict.fromkeys(("inputs", "covers", "files", "folders"), dict),
    "seconds": float,
}

# Of an output with more files, only the folders are looked at where it must be quick, and the files at its top.
MANY = 1000

# Distributions whose versions a manifest names.
_DISTRIBUTIONS = (
    "factorized-spatial-embeddings",
    "tensorflow",
    "numpy",
    "pandas",
    "pillow",
    "numba",
    "protobuf",
    "luigi",
)

# Parts of an output that differ from run to run: patterns of files, with the keys (of JSON) or columns (of CSV) that do;
# no names: all of the file.
Volatile = Dict[str, Tuple[str, ...]]


@contextlib.contextmanager
def atomic_output(
    output: Path,
    manifest: Dict[str, Any],
    keep: bool = False,
    replace: bool = False,
    volatile: Optional[Volatile] = None,
    summary: str = "",
) -> Iterator[Path]:
    """Yields a folder beside `output` to write into; when the block ends well, adds the manifest and renames it.

    Args:
      output: the folder to make.
      manifest: what to record besides what is measured here.
      keep: go on with what an earlier attempt left in the folder, instead of beginning with an empty one.
      replace: `output` may exist; it stays until the new one is whole.
      volatile: parts that do not count in the content hash.
      summary: name of the JSON file whose numbers go into the manifest.

    Raises:
      StageError: `output` exists, or cannot be written; `keep`, and the earlier attempt was begun with other settings or
        inputs.
    """
    if os.path.lexists(str(output)) and not replace:
        raise StageError(f"{output}: exists already; remove it, or name another --output")
    building = output.with_name(output.name + ".building")
    started, clock = datetime.datetime.now(datetime.timezone.utc), time.monotonic()
    try:
        resumed = building.exists() and keep
        if building.exists() and not keep:
            shutil.rmtree(str(building))
        building.mkdir(parents=True, exist_ok=True)
        _begin(building, manifest)
        yield building
        shutil.rmtree(str(building / CLAIMS), ignore_errors=True)
        for name in _OWN:  # of an attempt that was stopped while it was published
            with contextlib.suppress(FileNotFoundError):
                (building / name).unlink()
        measured = _describe(building, volatile or {}, summary)
        measured.update(
            host=socket.gethostname(),
            python=platform.python_version(),
            packages=versions(),
            started=started.replace(microsecond=0).isoformat(),
            seconds=round(time.monotonic() - clock, 3),
            resumed=resumed,
            peak_megabytes=_peak_megabytes(),
        )
        known = dict({name: kind() for name, kind in _FIELDS.items()}, **manifest)
        write_json(building / MANIFEST, dict(known, schema=SCHEMA, **measured))
        remember(building)
        _publish(building, output)
    except OSError as error:
        raise StageError(f"{error.filename or output}: cannot be written: {error.strerror or error}") from error


@contextlib.contextmanager
def shared_output(output: Path, manifest: Dict[str, Any]) -> Iterator[Path]:
    """Yields the folder in which `whole` makes `output` with `keep`, to one of several processes that make parts of it.

    Nobody may be in `whole` with it meanwhile.

    Args:
      output: the folder that is to be.
      manifest: as for `whole`.

    Raises:
      StageError: the folder cannot be written, or was begun with other settings or inputs.
    """
    building = output.with_name(output.name + ".building")
    try:
        (building / CLAIMS).mkdir(parents=True, exist_ok=True)
        _begin(building, manifest)
        yield building
    except OSError as error:
        raise StageError(f"{error.filename or output}: cannot be written: {error.strerror or error}") from error


def manifest(
    stage: str, config: Config, inputs: Dict[str, Path], facts: Optional[Dict[str, Any]] = None
) -> Dict[str, Any]:
    """The part of a manifest that is known beforehand: stage, configuration, inputs' identities, state of the code.

    `facts` are a scheduler's: the key, what it covers, why the stage runs.
    """
    known = {
        "stage": stage,
        "key": "",
        "config": redact_config(config),
        "inputs": {role: _identity(folder) for role, folder in inputs.items()},
        "device": config.train.device if stage == "train" else "cpu",
        "git": _git(),
    }
    return dict(known, **(facts or {}))


def read_manifest(folder: Path) -> Dict[str, Any]:
    """The manifest of an output folder; empty if there is none of this version that can be read.

    Raises:
      StageError: a newer version of this program wrote it.
    """
    try:
        value = json.loads((folder / MANIFEST).read_text())
    except (OSError, ValueError):
        return {}
    if not isinstance(value, dict):
        return {}
    schema = value.get("schema")
    if isinstance(schema, int) and schema > SCHEMA:
        raise StageError(
            f"{folder / MANIFEST}: written by a newer version of this program (schema {schema}, this one knows {SCHEMA}); update it, or use another "
            "workspace"
        )
    whole = schema == SCHEMA and all(isinstance(value.get(name), kind) for name, kind in _FIELDS.items())
    return value if whole else {}


def problem(folder: Path, thorough: bool = False) -> str:
    """Why an output cannot be used; '' if it can.

    Its content is compared with the manifest if a size, time or inode is not what it was. Changes nothing.

    Args:
      folder: the output.
      thorough: look at every file, however many there are.

    Raises:
      StageError: a newer version of this program wrote it.
    """
    if not folder.is_dir():
        return "output missing"
    made = read_manifest(folder)
    if not made:
        return "manifest cannot be read"
    try:
        kept = json.loads((folder / _STATE).read_text())
        if kept["all" if thorough else "quick"] == _state(folder, made, thorough):
            return ""
    except (OSError, ValueError, KeyError, TypeError):
        pass
    differing = differences(folder)
    return f"content differs from manifest: {_listed(differing)}" if differing else ""


def differences(folder: Path) -> List[str]:
    """Files of an output that are not what they were when it was made, or are missing or new; reads all of it."""
    try:
        listed = _listing(folder)
    except (OSError, ValueError):
        return [LISTING]
    if hash_file(folder / LISTING) != read_manifest(folder).get("listing"):
        return [LISTING]
    try:
        found = hash_files(folder)
    except OSError as error:
        return [str(error.filename)]
    return sorted(name for name in {*listed, *found} if listed.get(name) != found.get(name))


def remember(folder: Path) -> None:
    """Notes sizes, times and inodes of an output that is what its manifest says, unless they are noted or cannot be."""
    made = read_manifest(folder)
    with contextlib.suppress(OSError):
        quick = _state(folder, made, False)
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            if json.loads((folder / _STATE).read_text())["quick"] == quick:
                return
        write_json(folder / _STATE, {"quick": quick, "all": _state(folder, made, True)})


def forget(folder: Path) -> None:
    """Has the content of an output compared with its manifest when it is looked at next."""
    with contextlib.suppress(OSError):
        (folder / _STATE).unlink()


def hash_files(folder: Path) -> Dict[str, str]:
    """sha256 of every file below a folder, by its path relative to it, sorted; what this module adds is left out."""
    return {name: hash_file(folder / name) for name in _files(folder)}


def hash_file(path: Path) -> str:
    """sha256 of a file, 64 hexadecimal digits."""
    digest = hashlib.sha256()
    with open(str(path), "rb") as stream:
        for block in iter(lambda: stream.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()


def digests(folder: Path) -> Dict[str, str]:
    """As `hash_files`; an output's listing is taken if no size, time or inode has changed since they were compared.

    Raises:
      OSError: the folder cannot be read.
      StageError: a newer version of this program wrote it.
    """
    if problem(folder, thorough=True):
        return hash_files(folder)
    return _listing(folder)


def content_hash(folder: Path, files: Dict[str, str], volatile: Volatile) -> str:
    """One hash for what `hash_files` found in a folder, without its volatile parts."""
    counted = {}
    for name, digest in files.items():
        parts = [names for pattern, names in volatile.items() if fnmatch.fnmatchcase(name, pattern)]
        if not parts:
            counted[name] = digest
        elif all(parts):
            counted[name] = _hash_without(folder / name, {key for names in parts for key in names})
    return hashlib.sha256(json.dumps(sorted(counted.items())).encode()).hexdigest()


def write_json(path: Path, value: Any) -> None:
    """Writes a JSON file that is there whole or not at all."""
    # Two processes may write the same file.
    temporary = path.with_name(f"{path.name}.{socket.gethostname()}-{os.getpid()}.tmp")
    try:
        temporary.write_text(json.dumps(value, indent=2, sort_keys=False) + "\n")
        os.replace(str(temporary), str(path))
    except OSError:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise


def versions() -> Dict[str, str]:
    """Versions of the installed distributions that matter."""
    found = {name: version(name) for name in _DISTRIBUTIONS}
    found["tensorflow"] = tensorflow_version()
    return {name: value for name, value in found.items() if value}


def version(distribution: str) -> str:
    """Version of an installed distribution; '' if it is not installed."""
    try:
        return str(metadata.version(distribution))
    except metadata.PackageNotFoundError:
        return ""


def tensorflow_version() -> str:
    """Version of the installed TensorFlow, under whichever name it was installed."""
    names = ("tensorflow", "tensorflow-cpu", "tensorflow-gpu")
    return next((found for found in map(version, names) if found), "")


def _begin(building: Path, manifest: Dict[str, Any]) -> None:
    """Notes what an output is begun with, or compares it with the note of an earlier attempt that is gone on from."""
    # A scheduler's key stands for all that counts; without one it is the settings and the inputs.
    names = ("key",) if manifest.get("key") else ("config", "inputs")
    wanted = json.loads(json.dumps({name: manifest.get(name) for name in names}))
    try:
        found = json.loads((building / _BEGUN).read_text())
    except FileNotFoundError:
        write_json(building / _BEGUN, wanted)
        return
    if found != wanted:
        raise StageError(
            f"{building}: holds an interrupted attempt with other settings or inputs; give it the same ones to go on, or remove "
            "that folder"
        )


def _describe(folder: Path, volatile: Volatile, summary: str) -> Dict[str, Any]:
    """Hashes, sizes and figures of a finished folder; writes its listing."""
    digests = hash_files(folder)
    listing = "".join(f"{digest}  {name}\n" for name, digest in digests.items()).encode()
    sizes = {name: (folder / name).stat().st_size for name in digests}
    folders: Dict[str, int] = {}
    for name in digests:
        parent = name.rpartition("/")[0]
        folders[parent] = folders.get(parent, 0) + 1
    numbers = _numbers(folder / summary) if summary else {}
    (folder / LISTING).write_bytes(listing)
    return {
        "content": content_hash(folder, digests, volatile),
        "listing": hashlib.sha256(listing).hexdigest(),
        "bytes": sum(sizes.values()),
        "folders": folders,
        "files": sizes if len(sizes) <= MANY else {name: size for name, size in sizes.items() if "/" not in name},
        "counts": {name: value for name, value in numbers.items() if isinstance(value, int)},
        "metrics": {name: value for name, value in numbers.items() if isinstance(value, float)},
    }


def _numbers(path: Path) -> Dict[str, Any]:
    """The numbers in a JSON object and in the objects in it."""
    with contextlib.suppress(OSError, ValueError):
        value = json.loads(path.read_text())
        flat = {"": value} if isinstance(value, dict) else {}
        flat.update({name + ".": part for name, part in flat.get("", {}).items() if isinstance(part, dict)})
        pairs = ((prefix + str(name), number) for prefix, part in flat.items() for name, number in part.items())
        return {name: number for name, number in pairs if type(number) in (int, float)}
    return {}


def _listing(folder: Path) -> Dict[str, str]:
    """What `hash_files` said when the output was made."""
    lines = (folder / LISTING).read_text().splitlines()
    return {name: digest for digest, name in (line.split("  ", 1) for line in lines)}


def _publish(building: Path, output: Path) -> None:
    """Gives a finished folder its name; what had it before is removed."""
    old = output.with_name(output.name + ".old")
    if os.path.lexists(str(output)):
        shutil.rmtree(str(old), ignore_errors=True)
        os.replace(str(output), str(old))
    os.replace(str(building), str(output))
    if old.is_symlink():
        old.unlink()
    shutil.rmtree(str(old), ignore_errors=True)


def _state(folder: Path, made: Dict[str, Any], thorough: bool) -> str:
    """A mark that changes with the size, time or inode of a file, or the files of a folder."""
    names: Iterable[str] = _files(folder) if thorough else made["files"]
    digest = hashlib.sha256()
    for name in [*sorted(names), *sorted(made["folders"])]:
        if not name:
            continue  # the folder itself changes with .state
        found = os.stat(os.path.join(str(folder), name))
        size = 0 if name in made["folders"] else found.st_size
        digest.update(f"{name} {size} {found.st_mtime_ns} {found.st_ino}\n".encode())
    return digest.hexdigest()


def _files(folder: Path) -> List[str]:
    """Paths of the files below a folder, relative to it, sorted; what this module adds is left out."""
    found = []
    for parent, _, names in os.walk(str(folder)):
        inner = os.path.relpath(parent, str(folder))
        found += names if inner == "." else [os.path.join(inner, name) for name in names]
    return sorted(name for name in found if name not in _OWN)


def _hash_without(path: Path, names: Iterable[str]) -> str:
    """Hash of a JSON object without some keys, or of a CSV table without some columns."""
    with open(str(path), newline="") as stream:
        if path.suffix == ".json":
            value = json.load(stream)
            kept: Any = {name: item for name, item in value.items() if name not in names}
        else:
            kept = [{name: item for name, item in row.items() if name not in names} for row in csv.DictReader(stream)]
    return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()


def _identity(folder: Path) -> Dict[str, Any]:
    made = read_manifest(folder)
    return {name: made.get(name) for name in ("stage", "key", "content")}


def _git() -> Optional[Dict[str, Any]]:
    """Commit of the checkout that the code is run from, and whether it is unchanged; None outside a checkout."""

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(Path(__file__).resolve().parent), *arguments]
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True, timeout=30)
        return done.stdout.decode().strip()

    try:
        git("ls-files", "--error-unmatch", Path(__file__).name)
        return {"commit": git("rev-parse", "HEAD"), "clean": not git("status", "--porcelain")}
    except (OSError, subprocess.SubprocessError):
        return None


def _peak_megabytes() -> int:
    """Peak memory of this process or the largest of those it started."""
    kinds = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    return max(resource.getrusage(kind).ru_maxrss for kind in kinds) // 1024


def _listed(names: List[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
