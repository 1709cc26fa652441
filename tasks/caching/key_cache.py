"""A cache of the digests that keys are made of, in memory and in the workspace.

It holds digests of the stages' code, which take half a second to compute, and hashes of local archives, which may take
minutes. Cached values are validated before use: code by a hash of all sources, files by size, time and inode.
"""

import contextlib
import hashlib
import json
import time
from pathlib import Path
from typing import Any, Dict, List, Set

from fse.datasets import split_file
from fse.runtime.files import write_json
from fse.runtime.hashing import hash_file
from tasks.caching import code_identity, source_modules, syntax

# Scheduling takes less than this, so it hashes our sources once. Later stages of a long run hash them again.
SOURCES_VALID_SECONDS = 2.0


def digest_of(value: Any) -> str:
    """Return a digest of 16 hexadecimal digits of JSON values."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]


class KeyCache:
    """Digests of code and hashes of files.

    Values are computed on demand and kept in memory; `save` writes new values to `<workspace>/artifacts/code.json` and
    `hashes.json`, where later processes find them.
    """

    def __init__(self) -> None:
        # Digests of the functions that a stage uses, by the stage's entry `module:name`.
        self._code: Dict[str, Dict[str, str]] = {}
        # Hashes of files and folders, by path: {"mark": …, "hash": …}. A checkpoint has no mark.
        self._hashes: Dict[str, Dict[str, str]] = {}
        # Hash of all our sources, and when it was computed (time.monotonic).
        self._sources = ""
        self._sources_time = -SOURCES_VALID_SECONDS
        # Names of the files ("code", "hashes") whose new values are not saved yet.
        self._unsaved: Set[str] = set()

    def code(self, entry: str, workspace: Path) -> Dict[str, str]:
        """Return digests of the code that `entry` (`module:name`) uses, by dotted name; see `code_identity.functions`.

        A run may last for days. Sources that were edited since are noticed, because later stages will use them.
        """
        if time.monotonic() - self._sources_time > SOURCES_VALID_SECONDS:
            self._hash_sources()
        if entry not in self._code:
            self._code.update(_read(workspace, "code").get(self._sources, {}))
        if entry not in self._code:
            digests = code_identity.functions(entry)
            if _sources_hash() != self._sources:  # edited while they were read
                self.recheck_sources()
                return self.code(entry, workspace)
            self._code[entry] = digests
            self._unsaved.add("code")
        return self._code[entry]

    def recheck_sources(self) -> None:
        """Hash our sources again at the next use of `code`."""
        self._sources_time = -SOURCES_VALID_SECONDS

    def content_hash(self, path: Path, workspace: Path) -> str:
        """Return the hash of a file, or of the names and contents of all files in a folder.

        For a path that no longer exists it is the last known hash, or 'missing' if there is none. So outputs stay complete
        after the archive that they were made from was deleted.
        """
        name = str(path.absolute())
        entry = self._entry(name, workspace)
        with contextlib.suppress(OSError):  # the path does not exist
            mark = _mark(path)
            if entry.get("mark") != mark:
                entry = self._hashes[name] = {"mark": mark, "hash": _hash(path)}
                self._unsaved.add("hashes")
        return str(entry.get("hash", "missing"))

    def combined_hash(self, name: str, files: List[Path], workspace: Path) -> str:
        """Return one hash of several files, and remember it under `name`.

        Returns:
          the hash; without files, the remembered hash, or 'missing' if there is none.
        """
        if not files:
            return str(self._entry(name, workspace).get("hash", "missing"))
        digest = digest_of([self.content_hash(file, workspace) for file in files])
        if _read(workspace, "hashes").get(name) != {"hash": digest}:
            self._hashes[name] = {"hash": digest}
            self._unsaved.add("hashes")
        return digest

    def save(self, workspace: Path) -> None:
        """Write new values to the workspace, if it is writable."""
        if not self._unsaved:
            return
        values = {"code": {self._sources: self._code}, "hashes": dict(_read(workspace, "hashes"), **self._hashes)}
        with contextlib.suppress(OSError):
            for name in sorted(self._unsaved):
                (workspace / "artifacts").mkdir(parents=True, exist_ok=True)
                write_json(_file(workspace, name), values[name])
                self._unsaved.discard(name)

    def _hash_sources(self) -> None:
        before = self._sources
        self._sources_time, self._sources = time.monotonic(), _sources_hash()
        if self._sources != before:
            self._code.clear()
            code_identity.forget()

    def _entry(self, name: str, workspace: Path) -> Dict[str, str]:
        return self._hashes.get(name) or _read(workspace, "hashes").get(name) or {}


# The cache of this process: Luigi makes task objects as it needs them, and they share it.
CACHE = KeyCache()


def _sources_hash() -> str:
    """Return a hash of all files of our packages, and of the code that computes their digests."""
    digest = hashlib.sha256()
    for module in (code_identity, source_modules, syntax):
        digest.update(Path(str(module.__file__)).read_bytes())
    for name, package in sorted(source_modules.PACKAGES.items()):
        for path in sorted(package.rglob("*")):
            if path.suffix != ".pyc" and path.is_file():
                digest.update(f"{name}/{path.relative_to(package).as_posix()}\n".encode())
                digest.update(path.read_bytes())
    return digest.hexdigest()


def _file(workspace: Path, name: str) -> Path:
    return workspace / "artifacts" / f"{name}.json"


def _read(workspace: Path, name: str) -> Dict[str, Any]:
    """Return the values that an earlier process saved; empty if there are none, or the file is broken."""
    try:
        value = json.loads(_file(workspace, name).read_text())
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def _mark(path: Path) -> str:
    """Return a hash of sizes, times and inodes of a file, or of all files in a folder."""
    lines: List[str] = []
    for file in _files(path):
        state = file.stat()
        lines.append(f"{file} {state.st_size} {state.st_mtime_ns} {state.st_ino}")
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _hash(path: Path) -> str:
    """Return the hash of a file's content, or of names and contents of several files."""
    files = _files(path)
    if files == [path]:
        return hash_file(path)
    folder = path if path.is_dir() else path.parent
    return digest_of([(file.relative_to(folder).as_posix(), hash_file(file)) for file in files])


def _files(path: Path) -> List[Path]:
    """Return the file, all parts of a split archive, or all files in a folder.

    Raises:
      OSError: the path does not exist.
    """
    if path.suffix == ".001":
        return split_file.volumes(path)
    if not path.is_dir():
        path.stat()
        return [path]
    return sorted(file for file in path.rglob("*") if file.is_file())
