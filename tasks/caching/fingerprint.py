"""What a stage's output depends on, as a key: settings, code, content of its inputs, the TensorFlow that computes it."""

import contextlib
import functools
import hashlib
import json
import time
from pathlib import Path
from typing import Any, Dict, List, Set

from fse.config import Config, is_remote, redact_url
from fse.runtime.outputs import hash_file, tensorflow_version, write_json
from fse.training import checkpoint_paths
from tasks.caching import code_identity

# Scheduling takes less; it looks at our sources once.
_TRUSTED_SECONDS = 2.0

# What was worked out or read in this process: functions of stages' code by entry, and hashes of archives by path.
_code: Dict[str, Dict[str, str]] = {}
_hashes: Dict[str, Dict[str, str]] = {}
# When our sources were last looked at, and the hash of all of them.
_looked: List[Any] = [-_TRUSTED_SECONDS, ""]
# Which of it is not noted in the workspace yet.
_unsaved: Set[str] = set()


def key(parts: Any) -> str:
    """A short name for what `parts` (JSON values) says."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


tensorflow = functools.lru_cache(maxsize=None)(tensorflow_version)


def code(entry: str, workspace: Path) -> Dict[str, str]:
    """Digests of the code that `entry` (`module:name`) uses, by dotted name; see `tasks.caching.code_identity`.

    They are noted in the workspace beside a hash of all sources, since working them out takes half a second. A run may
    last for days: sources that were changed meanwhile, which later stages will use, are noticed.
    """
    if time.monotonic() - _looked[0] > _TRUSTED_SECONDS:
        before = _looked[1]
        _looked[:] = [time.monotonic(), _sources()]
        if _looked[1] != before:
            _code.clear()
            code_identity.forget()
    if entry not in _code:
        _code.update(_noted(workspace, "code").get(_looked[1], {}))
    if entry not in _code:
        found = code_identity.functions(entry)
        if _sources() != _looked[1]:  # edited while they were read
            forget()
            return code(entry, workspace)
        _code[entry] = found
        _unsaved.add("code")
    return _code[entry]


def dataset(config: Config, workspace: Path) -> Dict[str, Any]:
    """What identifies the data set: its settings, and the content of a local archive or folder.

    A hash is noted in the workspace with path, size, time and inode; an archive that has gone since counts as what it was.
    """
    settings = config.dataset
    if settings.name == "synthetic":
        names = ("name", "train", "test", "size", "seed")
        return {"dataset." + name: getattr(settings, name) for name in names}
    if not settings.archive:
        return _known(config, workspace)
    where = ("test_share", "seed") if settings.name == "folder" else ("images",)
    identity: Dict[str, Any] = {"dataset." + name: getattr(settings, name) for name in ("name", "annotations", *where)}
    source = settings.archive
    if settings.sha256:
        identity["dataset.sha256"] = settings.sha256.lower()
    elif is_remote(source):
        # Its query may hold what is not for others to see.
        digest = hashlib.sha256(source.encode()).hexdigest()[:16]
        identity["dataset.archive"] = f"{redact_url(source)} ({digest})"
    else:
        identity["content of dataset.archive"] = _remembered_hash(local(source), workspace)
    return identity


def _known(config: Config, workspace: Path) -> Dict[str, Any]:
    """What identifies a known data set: its name and part, and the content of its files."""
    from fse.datasets import registry, source

    known = registry.KNOWN[config.dataset.name]
    identity: Dict[str, Any] = {"dataset.name": config.dataset.name}
    identity["dataset.part"] = config.dataset.part or next(iter(known.parts))
    for file in known.files:
        path = source.located(file, config.download.data_path)
        if path and (path.is_dir() or not file.hash):
            identity["content of " + file.name] = _remembered_hash(path, workspace)
        else:
            identity["content of " + file.name] = file.hash or "as downloaded"
    return identity


def start(init_from: str, workspace: Path) -> str:
    """Hash of the checkpoint that a training starts from; one that has gone since counts as what it was."""
    name, prefix = f"checkpoint of {Path(init_from).absolute()}", checkpoint_paths.resolve_checkpoint(init_from)
    if prefix:
        digest = key([_remembered_hash(file, workspace) for file in checkpoint_paths.files_of(prefix)])
        if _noted(workspace, "hashes").get(name) != {"hash": digest}:
            _hashes[name] = {"hash": digest}
            _unsaved.add("hashes")
        return digest
    return str((_hashes.get(name) or _noted(workspace, "hashes").get(name) or {}).get("hash", "missing"))


def missing(config: Config) -> Dict[str, str]:
    """Files of a known data set that have to be fetched by hand and are not there: paths, and what to do."""
    from fse.datasets import registry, source

    known, settings = registry.KNOWN[config.dataset.name], config.download
    return {
        str(Path(settings.data_path, file.name)): source.by_hand([file], settings, known.page, known.terms)
        for file in source.absent(known.files, settings)
    }


def local(source: str) -> Path:
    """The path of a `dataset.archive` that is a file or folder."""
    return Path(source[len("file://") :] if source.startswith("file://") else source)


def remember(workspace: Path) -> None:
    """Notes in the workspace what was worked out, if it can be written."""
    if not _unsaved:
        return
    notes = {"code": {_looked[1]: _code}, "hashes": dict(_noted(workspace, "hashes"), **_hashes)}
    with contextlib.suppress(OSError):
        for name in sorted(_unsaved):
            (workspace / "artifacts").mkdir(parents=True, exist_ok=True)
            write_json(workspace / "artifacts" / (name + ".json"), notes[name])
            _unsaved.discard(name)


def forget() -> None:
    """Looks at our sources again when they are asked for next."""
    _looked[0] = -_TRUSTED_SECONDS


def _sources() -> str:
    """Hash of all files of our packages, and of how they are looked at."""
    digest = hashlib.sha256(Path(code_identity.__file__).read_bytes())
    for name, package in sorted(code_identity.PACKAGES.items()):
        for path in sorted(package.rglob("*")):
            if path.suffix != ".pyc" and path.is_file():
                digest.update(f"{name}/{path.relative_to(package).as_posix()}\n".encode())
                digest.update(path.read_bytes())
    return digest.hexdigest()


def _noted(workspace: Path, name: str) -> Dict[str, Any]:
    try:
        value = json.loads((workspace / "artifacts" / (name + ".json")).read_text())
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def _remembered_hash(path: Path, workspace: Path) -> str:
    """Hash of a file, or of names and contents of the files in a folder; 'missing' if it was never seen."""
    name = str(path.absolute())
    noted = _hashes.get(name) or _noted(workspace, "hashes").get(name) or {}
    try:
        mark = _mark(path)
        if noted.get("mark") != mark:
            noted = _hashes[name] = {"mark": mark, "hash": _hash(path)}
            _unsaved.add("hashes")
    except OSError:  # it has gone
        pass
    return str(noted.get("hash", "missing"))


def _mark(path: Path) -> str:
    """Sizes, times and inodes of a file or of all files in a folder, hashed."""
    lines: List[str] = []
    for file in _files(path):
        state = file.stat()
        lines.append(f"{file} {state.st_size} {state.st_mtime_ns} {state.st_ino}")
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _hash(path: Path) -> str:
    files = _files(path)
    if files == [path]:
        return hash_file(path)
    return key(
        [(file.relative_to(path if path.is_dir() else path.parent).as_posix(), hash_file(file)) for file in files]
    )


def _files(path: Path) -> List[Path]:
    """The file, all parts of an archive, or all files in a folder."""
    if path.suffix == ".001":
        from fse.datasets import archive

        return archive.parts(path)
    if not path.is_dir():
        path.stat()
        return [path]
    return sorted(file for file in path.rglob("*") if file.is_file())
