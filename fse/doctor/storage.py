"""Checks of the disk, and of write access to the workspace and the lock files."""

import fcntl
import os
import tempfile
from pathlib import Path
from typing import List

from fse.doctor.check import Check

# With less space than the first a run fails for certain; with less than the second it may fail.
MIN_GIGABYTES = 1.0
ENOUGH_GIGABYTES = 10.0
MIN_FILES = 10_000


def check_disk(workspace: Path) -> Check:
    """Check the disk for free space and for room for more files."""
    folder = _existing(workspace)
    state = os.statvfs(folder)
    free = state.f_bavail * state.f_frsize / 1e9
    found = f"{free:.1f} GB free at {folder}"
    fix = "free some space, or use another --workspace; `luigi --module pipeline Clean` lists outputs that nothing references"
    if free < MIN_GIGABYTES:
        return Check("disk", "failed", found, fix)
    if state.f_files and state.f_favail < MIN_FILES:
        return Check("disk", "failed", f"{found}, but room for only {state.f_favail} more files", fix)
    if free < ENOUGH_GIGABYTES:
        return Check("disk", "warning", found, fix)
    return Check("disk", "ok", found)


def check_write_access(workspace: Path) -> List[Check]:
    """Check that files can be created, written and locked in the workspace and in the folder of the device locks."""
    locks = Path(os.environ.get("FSE_LOCKS", "/tmp"))
    return [
        _check_writable("workspace", _existing(workspace), "--workspace"),
        _check_writable("locks", locks, "FSE_LOCKS"),
    ]


def _check_writable(name: str, folder: Path, option: str) -> Check:
    try:
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".fse-doctor-") as probe:
            probe.write(b"fse doctor")
            probe.flush()
            os.fsync(probe.fileno())
            fcntl.flock(probe, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        fix = f"make it writable for this user, or name another folder with {option}"
        return Check(name, "failed", f"{folder}: {error.strerror}", fix)
    return Check(name, "ok", f"{folder} can be written and locked")


def _existing(path: Path) -> Path:
    """Return the path itself if it is a folder, or else the nearest folder above it."""
    path = path.absolute()
    return next(folder for folder in [path, *path.parents] if folder.is_dir())
