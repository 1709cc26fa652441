"""The check for a supported operating system.

Programs call it before they import modules that need fcntl(2), prctl(2) or other parts of Linux. This module imports none.
"""

import sys

from fse.errors import EXIT_MACHINE

_NAMES = {"darwin": "macOS", "win32": "Windows", "cygwin": "Windows"}


def require_linux() -> None:
    """End the program with an error message unless it runs on Linux.

    Raises:
      SystemExit: the operating system is not Linux.
    """
    if sys.platform.startswith("linux"):
        return
    name = _NAMES.get(sys.platform, sys.platform)
    print(f"error: {name} is not supported; use Linux, WSL 2 (on Windows) or a Linux container", file=sys.stderr)
    raise SystemExit(EXIT_MACHINE)
