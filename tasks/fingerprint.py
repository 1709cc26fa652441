"""What a stage's output depends on, as a key: its settings, its code, its inputs, and the TensorFlow that computes it."""

import ast
import functools
import hashlib
import json
import sys
from pathlib import Path
from typing import Any, Dict, List, Set, Tuple

import fse
from fse.config import Config
from fse.outputs import hash_file, write_json

if sys.version_info >= (3, 8):
    from importlib import metadata
else:
    import importlib_metadata as metadata

PACKAGE = Path(fse.__file__).resolve().parent


def key(parts: Any) -> str:
    """A short name for what `parts` (JSON values) says."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


@functools.lru_cache(maxsize=None)
def code(module: str) -> str:
    """Hash of a module of `fse` and of all modules of `fse` that it reaches by imports, and of templates beside them.

    It is taken of the syntax trees: comments, docstrings and formatting do not count.
    """
    digest = hashlib.sha256()
    for path in sorted(_reached(module)):
        digest.update(path.relative_to(PACKAGE).as_posix().encode())
        digest.update(ast.dump(_without_docstrings(_parsed(path))).encode())
        for template in sorted(path.parent.glob("*.j2")) if path.name == "__init__.py" else ():
            digest.update(template.read_bytes())
    return digest.hexdigest()


@functools.lru_cache(maxsize=None)
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


def dataset(config: Config, workspace: Path) -> Dict[str, Any]:
    """What identifies the data set: its settings, and the content of a local archive.

    The checksum of an archive is remembered in the workspace by path, size, time and inode; one that has gone since
    counts as what it was. The Download stage is the one to complain about an archive that was never there.
    """
    settings = config.dataset
    if settings.name == "synthetic":
        return {name: getattr(settings, name) for name in ("train", "test", "size", "seed")}
    identity: Dict[str, Any] = {name: getattr(settings, name) for name in ("name", "images", "annotations")}
    source = settings.archive
    if settings.sha256:
        identity["sha256"] = settings.sha256.lower()
    elif source.startswith(("http://", "https://")):
        identity["address"] = source
    else:
        path = Path(source[len("file://") :] if source.startswith("file://") else source)
        identity["content"] = _folder_state(path) if path.is_dir() else _remembered_hash(path, workspace)
    return identity


def _folder_state(folder: Path) -> str:
    """A folder of pictures is identified by its files' names, sizes and times: hashing all of it at every start is slow."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return key([(path.relative_to(folder).as_posix(), path.stat().st_size, path.stat().st_mtime_ns) for path in files])


def _remembered_hash(path: Path, workspace: Path) -> str:
    memory = workspace / "artifacts" / "hashes.json"
    try:
        known: Dict[str, List[Any]] = json.loads(memory.read_text())
    except (OSError, ValueError):
        known = {}
    name = str(path.absolute())
    try:
        state = path.stat()
        mark = [state.st_size, state.st_mtime_ns, state.st_ino]
        if known.get(name, [])[:-1] != mark:
            known[name] = [*mark, hash_file(path)]
            memory.parent.mkdir(parents=True, exist_ok=True)
            write_json(memory, known)
    except OSError:  # there is no such file, or no place to remember it in
        pass
    return str(known.get(name, ["missing"])[-1])


def _reached(module: str) -> Set[Path]:
    """Files of `fse` that a module of it imports, directly or through others, itself included."""
    found: Set[Path] = set()
    waiting = [_file(module)]
    while waiting:
        path = waiting.pop()
        if path in found:
            continue
        found.add(path)
        for node in ast.walk(_parsed(path)):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module:
                names = [node.module] + ["{}.{}".format(node.module, alias.name) for alias in node.names]
            elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.startswith("fse."):
                names = [node.value]  # imported by name, as devices are
            else:
                continue
            waiting.extend(_file(name) for name in names if name.split(".")[0] == "fse" and _is_module(name))
    return found


def _is_module(name: str) -> bool:
    path = PACKAGE.joinpath(*name.split(".")[1:])
    return path.with_suffix(".py").is_file() or (path / "__init__.py").is_file()


def _file(module: str) -> Path:
    path = PACKAGE.joinpath(*module.split(".")[1:])
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


@functools.lru_cache(maxsize=None)
def _parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_bytes(), str(path))


def _without_docstrings(tree: ast.Module) -> ast.Module:
    kinds: Tuple[Any, ...] = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    for node in ast.walk(tree):
        if isinstance(node, kinds) and ast.get_docstring(node, clean=False) is not None:
            node.body = node.body[1:]
    return tree
