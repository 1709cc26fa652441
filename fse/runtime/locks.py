"""Locks between processes, for example one builder per output and one training per card.

A lock is a file locked with flock(2). The kernel releases it when the last process that has the file descriptor ends, even
if that process is killed. A child process that inherits the descriptor therefore holds the lock too. The file's text says
who holds the lock.
"""

import contextlib
import errno
import fcntl
import getpass
import os
import socket
import sys
import time
from pathlib import Path
from typing import Dict, Iterable, Iterator, List, Optional, Type

from fse.errors import DeviceBusyError, FseError, StageError

_PAUSE_SECONDS = 0.2


@contextlib.contextmanager
def lock(path: Path, what: str, wait: float, shared: bool = False, error: Type[FseError] = StageError) -> Iterator[int]:
    """Hold a lock while the block runs; yield the lock's file descriptor.

    Args:
      path: the lock file; created if it does not exist.
      what: what the lock protects, for messages.
      wait: seconds to wait for another holder.
      shared: other processes may hold the lock at the same time if they ask for a shared lock too.
      error: the exception to raise.

    Raises:
      error: another process held the lock for `wait` seconds.
      OSError: the file cannot be created.
    """
    deadline, announced = time.monotonic() + wait, False
    descriptor = _acquire(path, shared)
    while descriptor is None:
        if time.monotonic() >= deadline:
            advice = f"waited {wait:.0f} seconds" if wait else "try again after it has ended"
            raise error(f"{what} is in use by {holder(path)}; {advice}")
        if not announced:
            print(f"waiting for {what}, in use by {holder(path)}", file=sys.stderr, flush=True)
            announced = True
        time.sleep(min(_PAUSE_SECONDS, max(0.0, deadline - time.monotonic())))
        descriptor = _acquire(path, shared)
    try:
        if not shared:
            _write(descriptor, _description(what))
        yield descriptor
    finally:
        if not shared:
            _write(descriptor, "")
        os.close(descriptor)


@contextlib.contextmanager
def try_lock(path: Path) -> Iterator[bool]:
    """Hold a lock while the block runs, unless another process holds it; yield whether this process holds it.

    Raises:
      OSError: the file cannot be created.
    """
    descriptor = _acquire(path, shared=False)
    try:
        yield descriptor is not None
    finally:
        if descriptor is not None:
            os.close(descriptor)


def holder(path: Path) -> str:
    """Return who holds a lock, as the lock file says."""
    try:
        return path.read_text().strip() or "another process"
    except OSError:
        return "another process"


def is_free(path: Path, shared: bool = False) -> bool:
    """Return whether a lock could be acquired now.

    Args:
      path: the lock file.
      shared: whether a shared lock could be acquired.
    """
    if not path.exists():
        return True
    try:
        descriptor = _acquire(path, shared)
    except OSError as error:
        return error.errno == errno.EROFS  # on a read-only file system no process can build anything
    if descriptor is not None:
        os.close(descriptor)
    return descriptor is not None


def device_lock_files(device: str, cards: Iterable[str]) -> Dict[str, Path]:
    """Return the lock files of some cards by name; the CPU counts as one card.

    All users of a host share them. They are in the folder that FSE_LOCKS names, by default /tmp.

    Args:
      device: cpu, gpu or npu.
      cards: numbers or names of the cards.
    """
    folder = Path(os.environ.get("FSE_LOCKS", "/tmp"))
    names = ["cpu"] if device == "cpu" else [f"{device}-{card}" for card in sorted({*cards})]
    return {name: folder / f"fse-device-{name.replace('/', '_')}.lock" for name in names}


@contextlib.contextmanager
def lock_devices(device: str, cards: Iterable[str], wait: float) -> Iterator[List[int]]:
    """Reserve some cards for this process while the block runs; yield the file descriptors of their locks.

    Args:
      device: cpu, gpu or npu.
      cards: numbers or names of the cards.
      wait: seconds to wait for each card.

    Raises:
      DeviceBusyError: another process held one of the locks for `wait` seconds.
    """
    with contextlib.ExitStack() as stack:
        yield [
            stack.enter_context(lock(path, f"device {name} of this host", wait, error=DeviceBusyError))
            for name, path in device_lock_files(device, cards).items()
        ]


def user_name() -> str:
    """Return the name of the user who runs this process, or the user's number if there is no name."""
    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):  # the user has no entry in the password database
        return str(os.getuid())


def _acquire(path: Path, shared: bool) -> Optional[int]:
    """Return a file descriptor that holds the lock; None if another process holds it."""
    descriptor = _open(path)
    try:
        fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        # If the file was removed since it was opened, other processes lock a new file: this lock protects nothing.
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(descriptor), path.stat()):
                return descriptor
    except OSError as error:
        if error.errno not in (errno.EAGAIN, errno.EACCES):
            os.close(descriptor)
            raise
    os.close(descriptor)
    return None


def _open(path: Path) -> int:
    """Open a lock file for all users, without following a symbolic link."""
    # In a sticky folder such as /tmp the kernel may refuse O_CREAT for other users' files, even to open them.
    with contextlib.suppress(FileNotFoundError):
        return os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
    with contextlib.suppress(OSError):
        os.fchmod(descriptor, 0o666)  # whatever the umask
    return descriptor


def _write(descriptor: int, text: str) -> None:
    with contextlib.suppress(OSError):
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, text.encode(), 0)


def _description(what: str) -> str:
    now = time.strftime("%Y-%m-%d %H:%M:%S")
    return f"process {os.getpid()} of {user_name()} on {socket.gethostname()} since {now} ({what})"
