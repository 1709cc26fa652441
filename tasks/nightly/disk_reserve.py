"""A reserve of disk space, so that a night can store its verdict and page even if its trainings fill the disk."""

import contextlib
import os
from pathlib import Path

_BYTES = 2_000_000


def allocate(path: Path) -> None:
    """Write the reserve to a file; do nothing if the disk has no room for it."""
    try:
        with open(path, "wb") as stream:
            stream.write(os.urandom(_BYTES))  # random bytes, because some file systems compress
            stream.flush()
            os.fsync(stream.fileno())
    except OSError:
        release(path)


def release(path: Path) -> None:
    """Remove the reserve."""
    with contextlib.suppress(FileNotFoundError):
        path.unlink()
