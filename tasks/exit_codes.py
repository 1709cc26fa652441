"""Exit codes of the `luigi` program beside Luigi's own, and how a task sets one."""

import mmap
import sys
from typing import NoReturn

from luigi.cmdline_parser import CmdlineParser

from fse.errors import DeviceBusyError, DeviceUnusedError, FseError, is_machine_error

DATA_MISSING = 20
SCHEDULING_FAILED = 35
BAD_CONFIGURATION = 45
DEVICE_BUSY = 50
MACHINE_FAILED = 55
DEVICE_UNUSED = 58

# One byte of shared memory: a process that Luigi forks for a task records its exit code for the parent here.
_recorded = mmap.mmap(-1, 1)


def recorded_exit_code() -> int:
    """Return the exit code that failed tasks recorded; 0 if none did."""
    return _recorded[0]


def record_exit_code(code: int) -> None:
    """Record the process exit code. The largest recorded code wins."""
    _recorded[0] = max(_recorded[0], code)


def exit_code_of(error: BaseException) -> int:
    """Return the exit code for a task that failed with `error`; 0 if Luigi's own code applies."""
    if isinstance(error, DeviceBusyError):
        return DEVICE_BUSY
    if isinstance(error, DeviceUnusedError):
        return DEVICE_UNUSED
    return MACHINE_FAILED if isinstance(error, FseError) and is_machine_error(error) else 0


def exit_or_raise(error: FseError, code: int) -> NoReturn:
    """Print the error and exit the program on Luigi's command line; raise the error everywhere else.

    Raises:
      error: no Luigi command line is active.
      SystemExit: a Luigi command line is active.
    """
    if CmdlineParser.get_instance() is None:
        raise error
    print(f"error: {error}", file=sys.stderr)
    raise SystemExit(code) from None
