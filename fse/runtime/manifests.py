"""Manifests: how an output was produced, and what it contains.

Besides the files of its stage, an output contains:

    manifest.json   stage, settings, inputs, code, versions, sizes and hashes
    files.sha256    the SHA-256 of every file; `sha256sum -c files.sha256` checks it
    .state          file sizes, times and inodes after the last check (see `fse.runtime.integrity`)
    .begun          settings and inputs of an attempt that may be resumed
"""

import contextlib
import hashlib
import json
from pathlib import Path
from typing import Any, Dict, Mapping, Optional

from fse.errors import StageError
from fse.runtime import git
from fse.runtime.files import write_json
from fse.runtime.hashing import Volatile, content_hash, hash_folder

MANIFEST = "manifest.json"
LISTING = "files.sha256"
STATE = ".state"
BEGUN = ".begun"
# The files above are not part of an output's content.
OWN_FILES = (MANIFEST, LISTING, STATE, BEGUN)

SCHEMA = 2

# Fields that every manifest has. A file without them was edited, or written by another program, and is ignored.
REQUIRED_FIELDS: Dict[str, type] = {
    **dict.fromkeys(("stage", "key", "content", "listing", "started"), str),
    **dict.fromkeys(("inputs", "covers", "files", "folders"), dict),
    "seconds": float,
}

# The manifest of an output with more files lists only the files at its top, so that quick checks stay quick.
MAX_LISTED_FILES = 1000


def new_manifest(
    stage: str, settings: Dict[str, Any], device: str, inputs: Dict[str, Path], extra: Optional[Dict[str, Any]] = None
) -> Dict[str, Any]:
    """Return the part of a manifest that is known before the stage runs.

    Args:
      stage: the stage's name.
      settings: the configuration, without secrets.
      device: what the stage computes on: cpu, gpu or npu.
      inputs: the input folders by role.
      extra: what a scheduler adds: the key, what the key covers, why the stage runs.
    """
    manifest = {
        "stage": stage,
        "key": "",
        "config": settings,
        "inputs": {role: _identity(folder) for role, folder in inputs.items()},
        "device": device,
        "git": git.source_state(Path(__file__)),
    }
    return {**manifest, **(extra or {})}


def read_manifest(folder: Path) -> Dict[str, Any]:
    """Return the manifest of an output; {} if it is missing, unreadable or of an older schema.

    Raises:
      StageError: a newer version of this program wrote it.
    """
    try:
        manifest = json.loads((folder / MANIFEST).read_text())
    except (OSError, ValueError):
        return {}
    if not isinstance(manifest, dict):
        return {}
    schema = manifest.get("schema")
    if isinstance(schema, int) and schema > SCHEMA:
        raise StageError(
            f"{folder / MANIFEST}: written by a newer version of this program (schema {schema}; this version reads up to "
            f"{SCHEMA}); update the program, or use another workspace"
        )
    has_fields = all(isinstance(manifest.get(name), kind) for name, kind in REQUIRED_FIELDS.items())
    return manifest if schema == SCHEMA and has_fields else {}


def write_manifest(folder: Path, manifest: Mapping[str, Any]) -> None:
    """Write a manifest into an output; missing required fields become empty."""
    defaults = {name: kind() for name, kind in REQUIRED_FIELDS.items()}
    write_json(folder / MANIFEST, {**defaults, **manifest, "schema": SCHEMA})


def measure_output(folder: Path, volatile: Volatile, summary: str) -> Dict[str, Any]:
    """Hash the files of a finished output, write its listing, and return the manifest's fields about its content.

    Args:
      folder: the output.
      volatile: parts that the content hash ignores.
      summary: name of a JSON file whose numbers the manifest repeats; '' for none.
    """
    digests = hash_folder(folder, OWN_FILES)
    listing = "".join(f"{digest}  {name}\n" for name, digest in digests.items()).encode()
    sizes = {name: (folder / name).stat().st_size for name in digests}
    folders: Dict[str, int] = {}
    for name in digests:
        parent = name.rpartition("/")[0]
        folders[parent] = folders.get(parent, 0) + 1
    listed = sizes if len(sizes) <= MAX_LISTED_FILES else {name: sizes[name] for name in sizes if "/" not in name}
    numbers = _numbers(folder / summary) if summary else {}
    (folder / LISTING).write_bytes(listing)
    return {
        "content": content_hash(folder, digests, volatile),
        "listing": hashlib.sha256(listing).hexdigest(),
        "bytes": sum(sizes.values()),
        "folders": folders,
        "files": listed,
        "counts": {name: value for name, value in numbers.items() if isinstance(value, int)},
        "metrics": {name: value for name, value in numbers.items() if isinstance(value, float)},
    }


def read_listing(folder: Path) -> Dict[str, str]:
    """Return the SHA-256 of each file of an output when it was written, by relative path.

    Raises:
      OSError, ValueError: the listing cannot be read.
    """
    lines = (folder / LISTING).read_text().splitlines()
    return {name: digest for digest, name in (line.split("  ", 1) for line in lines)}


def _identity(folder: Path) -> Dict[str, Any]:
    """Return what identifies an input: its stage, key and content hash."""
    manifest = read_manifest(folder)
    return {name: manifest.get(name) for name in ("stage", "key", "content")}


def _numbers(path: Path) -> Dict[str, Any]:
    """Return the numbers in a JSON object and in the objects directly inside it, as `name` and `object.name`."""
    with contextlib.suppress(OSError, ValueError):
        value = json.loads(path.read_text())
        objects = {"": value} if isinstance(value, dict) else {}
        objects.update({f"{name}.": part for name, part in objects.get("", {}).items() if isinstance(part, dict)})
        pairs = ((f"{prefix}{name}", number) for prefix, part in objects.items() for name, number in part.items())
        return {name: number for name, number in pairs if type(number) in (int, float)}  # bool is not a number here
    return {}
