"""SHA-256 hashes of files and folders."""

import csv
import fnmatch
import hashlib
import json
import os
from pathlib import Path
from typing import Any, Container, Dict, List, Tuple

# Parts of an output that differ between runs with identical results, such as durations. Keys are patterns of file names.
# Values are the keys (JSON) or columns (CSV) that differ; an empty tuple means the whole file.
Volatile = Dict[str, Tuple[str, ...]]

_BLOCK_BYTES = 1 << 20


def hash_file(path: Path) -> str:
    """Return the SHA-256 of a file, as 64 hexadecimal digits."""
    digest = hashlib.sha256()
    with open(path, "rb") as stream:
        for block in iter(lambda: stream.read(_BLOCK_BYTES), b""):
            digest.update(block)
    return digest.hexdigest()


def hash_folder(folder: Path, exclude: Container[str] = ()) -> Dict[str, str]:
    """Return the SHA-256 of every file below a folder, by relative path, sorted.

    Args:
      folder: the folder.
      exclude: relative paths of files to leave out.
    """
    return {name: hash_file(folder / name) for name in relative_files(folder, exclude)}


def relative_files(folder: Path, exclude: Container[str] = ()) -> List[str]:
    """Return the paths of the files below a folder, relative to it, sorted, without those in `exclude`."""
    paths: List[str] = []
    for parent, _, names in os.walk(folder):
        inner = os.path.relpath(parent, folder)
        paths += names if inner == "." else [f"{inner}/{name}" for name in names]
    return sorted(path for path in paths if path not in exclude)


def content_hash(folder: Path, digests: Dict[str, str], volatile: Volatile) -> str:
    """Return one SHA-256 for the files of a folder, without their volatile parts.

    Args:
      folder: the folder.
      digests: SHA-256 of its files, as `hash_folder` returns them.
      volatile: the parts to ignore.
    """
    hashes: Dict[str, str] = {}
    for name, digest in digests.items():
        ignored = [fields for pattern, fields in volatile.items() if fnmatch.fnmatchcase(name, pattern)]
        if not ignored:
            hashes[name] = digest
        elif all(ignored):  # an empty tuple ignores the whole file
            hashes[name] = _hash_without_fields(folder / name, {field for fields in ignored for field in fields})
    return hashlib.sha256(json.dumps(sorted(hashes.items())).encode()).hexdigest()


def _hash_without_fields(path: Path, fields: Container[str]) -> str:
    """Return the SHA-256 of a JSON object without some keys, or of a CSV table without some columns."""
    with open(path, newline="") as stream:
        if path.suffix == ".json":
            kept: Any = _without(json.load(stream), fields)
        else:
            kept = [_without(row, fields) for row in csv.DictReader(stream)]
    return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()


def _without(record: Dict[str, Any], fields: Container[str]) -> Dict[str, Any]:
    return {name: value for name, value in record.items() if name not in fields}
