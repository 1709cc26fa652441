"""Locks between processes: one builder per output, one training per device and host.

A lock is a file that is locked with flock, so that the kernel frees it when its holder ends, however that ends. A child
process that is handed the descriptor holds it too. The file says who has it.
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
    """Holds a lock while the block runs, and yields its descriptor.

    Args:
      path: the lock file; made if it is not there.
      what: what is locked, for messages.
      wait: seconds to wait for another holder.
      shared: others may hold it shared as well.

    Raises:
      error: another process has had it all the while.
      OSError: the file cannot be made.
    """
    until, told = time.monotonic() + wait, False
    descriptor = _locked(path, shared)
    while descriptor is None:
        if time.monotonic() >= until:
            waited = f"waited {wait:.0f} seconds" if wait else "try again when that has ended"
            raise error(f"{what} is in use by {holder(path)}; {waited}")
        if not told:
            print(f"waiting for {what}, in use by {holder(path)}", file=sys.stderr, flush=True)
            told = True
        time.sleep(min(_PAUSE_SECONDS, max(0.0, until - time.monotonic())))
        descriptor = _locked(path, shared)
    try:
        if not shared:
            _write(descriptor, _me(what))
        yield descriptor
    finally:
        if not shared:
            _write(descriptor, "")
        os.close(descriptor)


@contextlib.contextmanager
def try_lock(path: Path) -> Iterator[bool]:
    """Has a lock while the block runs if no other process has it, and yields whether it has.

    Raises:
      OSError: the file cannot be made.
    """
    descriptor = _locked(path, False)
    try:
        yield descriptor is not None
    finally:
        if descriptor is not None:
            os.close(descriptor)


def holder(path: Path) -> str:
    """Who has a lock, as its file says."""
    try:
        return path.read_text().strip() or "another process"
    except OSError:
        return "another process"


def is_free(path: Path, shared: bool = False) -> bool:
    """Whether nobody holds a lock; `shared`: whether it could be held shared."""
    if not path.exists():
        return True
    try:
        descriptor = _locked(path, shared)
    except OSError as error:
        return error.errno == errno.EROFS  # where nobody can make anything
    if descriptor is not None:
        os.close(descriptor)
    return descriptor is not None


def of_devices(device: str, cards: Iterable[str]) -> Dict[str, Path]:
    """The lock files of some cards of a kind of device (cpu, gpu, npu), by name; the processor counts as one card.

    They are the same for all users of a host, in FSE_LOCKS or else /tmp.
    """
    folder = Path(os.environ.get("FSE_LOCKS", "/tmp"))
    names = ["cpu"] if device == "cpu" else [f"{device}-{card}" for card in sorted({*cards})]
    return {name: folder / "fse-device-{}.lock".format(name.replace("/", "_")) for name in names}


@contextlib.contextmanager
def devices(device: str, cards: Iterable[str], wait: float) -> Iterator[List[int]]:
    """Has some cards of a kind of device for this process alone while the block runs; yields the locks' descriptors.

    Raises:
      DeviceBusyError: another process has had one of them for `wait` seconds.
    """
    with contextlib.ExitStack() as stack:
        yield [
            stack.enter_context(lock(path, f"device {name} of this host", wait, error=DeviceBusyError))
            for name, path in of_devices(device, cards).items()
        ]


def _locked(path: Path, shared: bool) -> Optional[int]:
    """A descriptor that holds the lock; None if another process has it."""
    descriptor = _open(path)
    try:
        fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        # The file may have been removed meanwhile: then this is the lock of nobody.
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(descriptor), os.stat(str(path))):
                return descriptor
    except OSError as error:
        if error.errno not in (errno.EAGAIN, errno.EACCES):
            os.close(descriptor)
            raise
    os.close(descriptor)
    return None


def _open(path: Path) -> int:
    # Other users' files in /tmp may be opened, but not with O_CREAT.
    with contextlib.suppress(FileNotFoundError):
        return os.open(str(path), os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    descriptor = os.open(str(path), os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
    with contextlib.suppress(OSError):
        os.fchmod(descriptor, 0o666)  # whatever the umask
    return descriptor


def _write(descriptor: int, text: str) -> None:
    with contextlib.suppress(OSError):
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, text.encode(), 0)


def _me(what: str) -> str:
    try:
        user = getpass.getuser()
    except (KeyError, OSError, ImportError):  # a user without a name
        user = str(os.getuid())
    now = time.strftime("%Y-%m-%d %H:%M:%S")
    return f"process {os.getpid()} of {user} on {socket.gethostname()} since {now} ({what})"
