"""The outputs in a workspace: folders `<workspace>/artifacts/<stage>/<key>`, and what refers to them.

A symbolic link of the same form stands for an output that was accepted for new code.
"""

import contextlib
import os
import re
from pathlib import Path
from typing import Iterator, List, Set

from tasks.caching import reasons

KEY = re.compile(r"\b[0-9a-f]{16}\b")

# Files that may name outputs by key, such as baselines and tables; larger files are not read.
_RECORD_SUFFIXES = (".json", ".jsonl", ".csv", ".toml")
_MAX_RECORD_BYTES = 20_000_000


def output_folders(root: Path) -> List[Path]:
    """Return the output folders of a workspace, sorted."""
    return sorted(path for path in _outputs_and_links(root) if path.is_dir() and not path.is_symlink())


def referenced_keys(root: Path, keys: List[str]) -> Set[str]:
    """Return `keys`, all keys that links and files in the workspace name, and the keys of all their inputs."""
    waiting = [*keys, *_named_keys(root)]
    referenced: Set[str] = set()
    folders = {path.name: path for path in _outputs_and_links(root)}
    while waiting:
        key = waiting.pop()
        if key in referenced:
            continue
        referenced.add(key)
        if key in folders:
            waiting.append(folders[key].resolve().name)
            inputs = reasons.readable_manifest(folders[key]).get("inputs", {})
            waiting += [str(identity.get("key")) for identity in inputs.values()]
    return referenced


def _outputs_and_links(root: Path) -> Iterator[Path]:
    return (path for path in (root / "artifacts").glob("*/*") if KEY.fullmatch(path.name))


def _named_keys(root: Path) -> Iterator[str]:
    """Yield the keys in the targets of links and in the contents of files of a workspace."""
    for parent, folders, files in os.walk(root):
        folders[:] = [name for name in folders if Path(parent, name) not in (root / "artifacts", root / "logs")]
        for path in (Path(parent, name) for name in [*folders, *files]):
            with contextlib.suppress(FileNotFoundError):  # another process replaced it
                if path.is_symlink():
                    yield from KEY.findall(os.readlink(path))
                elif path.suffix in _RECORD_SUFFIXES and path.stat().st_size < _MAX_RECORD_BYTES:
                    yield from KEY.findall(path.read_text(errors="replace"))
