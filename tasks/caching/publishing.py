"""The files beside an output `<workspace>/artifacts/<stage>/<key>`, and locks on outputs."""

import contextlib
from pathlib import Path
from typing import ContextManager

from fse.errors import StageError
from fse.runtime import integrity, locks

# How long a run waits for another run that makes the same output. A training may take days.
_LOCK_SECONDS = 7 * 24 * 3600


def lock_path(folder: Path) -> Path:
    """Return the lock file of an output."""
    return folder.with_name(folder.name + ".lock")


def config_path(folder: Path) -> Path:
    """Return the file with the configuration that the stage's child process reads."""
    return folder.with_name(folder.name + ".json")


def manifest_extra_path(folder: Path) -> Path:
    """Return the file with the entries that the scheduling process adds to the output's manifest."""
    return folder.with_name(folder.name + ".manifest-extra.json")


def lock_for_writing(folder: Path, purpose: str, shared: bool) -> ContextManager[int]:
    """Return a context that locks an output for the process that makes it; it yields the lock's descriptor.

    Args:
      folder: the output.
      purpose: what other processes read about the holder.
      shared: whether other processes may hold the lock too, each making other shards.
    """
    return locks.lock(lock_path(folder), purpose, _LOCK_SECONDS, shared=shared)


def lock_for_reading(folder: Path, stack: contextlib.ExitStack) -> None:
    """Lock an output against replacement and removal until `stack` closes, and verify its content.

    Raises:
      StageError: the content differs from the manifest.
    """
    stack.enter_context(locks.lock(lock_path(folder), str(folder), _LOCK_SECONDS, shared=True))
    problem = integrity.problem(folder, thorough=True)
    if problem:
        integrity.forget(folder)
        raise StageError(f"{folder}: {problem}; run the command again to rebuild it")
    integrity.remember(folder)
