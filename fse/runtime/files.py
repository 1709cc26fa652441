"""Files and symbolic links that are replaced atomically."""

import contextlib
import json
import os
import socket
from pathlib import Path
from typing import Any, Iterator


@contextlib.contextmanager
def atomic_file(path: Path, suffix: str = "") -> Iterator[Path]:
    """Yield a temporary path beside `path` to write; rename it to `path` when the block ends without an exception.

    Readers see the old file or the new one, never a part. After an exception the temporary file is removed.

    Args:
      path: the file to create or replace; its folder must exist.
      suffix: what the temporary name adds to the file's name. By default it contains host and process, so that several
        processes can write the same file. A fixed suffix lets the next attempt overwrite what a killed process left.

    Raises:
      OSError: the file cannot be written.
    """
    temporary = path.with_name(path.name + (suffix or _process_suffix()))
    try:
        yield temporary
        temporary.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 text file atomically.

    Raises:
      OSError: the file cannot be written.
    """
    with atomic_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write a value as an indented JSON file atomically.

    Raises:
      OSError: the file cannot be written.
    """
    write_text(path, json.dumps(value, indent=2) + "\n")


def replace_symlink(link: Path, target: Path) -> None:
    """Create or replace a symbolic link with a relative path to `target`; its folder is created if necessary.

    Raises:
      OSError: the link cannot be written.
    """
    relative = os.path.relpath(target, link.parent)
    if link.is_symlink() and os.readlink(link) == relative:
        return
    link.parent.mkdir(parents=True, exist_ok=True)
    with atomic_file(link) as temporary:
        with contextlib.suppress(FileNotFoundError):
            temporary.unlink()  # left by an earlier process with the same number
        temporary.symlink_to(relative)


def _process_suffix() -> str:
    return f".{socket.gethostname()}-{os.getpid()}.tmp"
