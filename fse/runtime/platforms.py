"""The check for a supported operating system, made before modules are imported that exist on Linux only."""

import sys

from fse.errors import MachineError

_NAMES = {"darwin": "macOS", "win32": "Windows", "cygwin": "Windows"}


def require_linux() -> None:
    """Refuse to run on another operating system than Linux.

    Raises:
      MachineError: the operating system is not Linux.
    """
    if sys.platform.startswith("linux"):
        return
    name = _NAMES.get(sys.platform, sys.platform)
    raise MachineError(f"{name} is not supported; use Linux, WSL 2 (on Windows) or a Linux container")
