"""Checks that an output still has the content that its manifest describes.

Reading every file takes long. A check therefore notes sizes, times and inodes in `.state`, and the next check reads file
contents only if one of them changed.
"""

import contextlib
import hashlib
import json
from pathlib import Path
from typing import Any, Dict, Iterable, List

from fse.runtime.files import write_json
from fse.runtime.hashing import hash_file, hash_folder, relative_files
from fse.runtime.manifests import LISTING, OWN_FILES, STATE, read_listing, read_manifest

_MAX_NAMES = 3  # of files, in a message


def problem(folder: Path, thorough: bool = False) -> str:
    """Return why an output cannot be used; '' if it can. Changes nothing.

    File contents are compared with the manifest only if a size, time or inode changed since the last check.

    Args:
      folder: the output.
      thorough: look at every file; otherwise only at those that the manifest lists.

    Raises:
      StageError: a newer version of this program wrote the output.
    """
    if not folder.is_dir():
        return "output missing"
    manifest = read_manifest(folder)
    if not manifest:
        return "manifest cannot be read"
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        noted = json.loads((folder / STATE).read_text())
        if noted["all" if thorough else "quick"] == _file_state(folder, manifest, thorough):
            return ""
    names = differences(folder)
    return f"content differs from manifest: {_abbreviated(names)}" if names else ""


def differences(folder: Path) -> List[str]:
    """Return the files that changed, disappeared or were added since an output was written. Reads all of them."""
    try:
        listed = read_listing(folder)
        if hash_file(folder / LISTING) != read_manifest(folder).get("listing"):
            return [LISTING]
    except (OSError, ValueError):
        return [LISTING]
    try:
        present = hash_folder(folder, OWN_FILES)
    except OSError as error:
        return [str(error.filename)]
    return sorted(name for name in {*listed, *present} if listed.get(name) != present.get(name))


def remember(folder: Path) -> None:
    """Note sizes, times and inodes of an output whose content was just checked.

    Does nothing if they are noted already, or if the output cannot be written.
    """
    manifest = read_manifest(folder)
    with contextlib.suppress(OSError):
        quick = _file_state(folder, manifest, False)
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            if json.loads((folder / STATE).read_text())["quick"] == quick:
                return
        write_json(folder / STATE, {"quick": quick, "all": _file_state(folder, manifest, True)})


def forget(folder: Path) -> None:
    """Make the next check of an output read its content."""
    with contextlib.suppress(OSError):
        (folder / STATE).unlink()


def checked_digests(folder: Path) -> Dict[str, str]:
    """Return the SHA-256 of every file of an output, from its listing if the files are unchanged.

    Raises:
      OSError: the folder cannot be read.
      StageError: a newer version of this program wrote the output.
    """
    if problem(folder, thorough=True):
        return hash_folder(folder, OWN_FILES)
    return read_listing(folder)


def _file_state(folder: Path, manifest: Dict[str, Any], thorough: bool) -> str:
    """Return a hash that changes with the size, time or inode of a file, or with the files of a folder.

    Args:
      folder: the output.
      manifest: its manifest.
      thorough: include every file; otherwise only those that the manifest lists.
    """
    files: Iterable[str] = relative_files(folder, OWN_FILES) if thorough else manifest["files"]
    digest = hashlib.sha256()
    for name in [*sorted(files), *sorted(manifest["folders"])]:
        if not name:
            continue  # the top folder's time changes whenever .state is written
        status = (folder / name).stat()
        size = 0 if name in manifest["folders"] else status.st_size
        digest.update(f"{name} {size} {status.st_mtime_ns} {status.st_ino}\n".encode())
    return digest.hexdigest()


def _abbreviated(names: List[str]) -> str:
    more = len(names) - _MAX_NAMES
    return ", ".join(names[:_MAX_NAMES]) + (f" and {more} more" if more > 0 else "")
