"""The result of a check, and checks that run Python code in a child process."""

import sys
from dataclasses import dataclass

from fse.runtime import processes

# Importing TensorFlow from a cold network disk takes a minute.
IMPORT_SECONDS = 300.0


@dataclass(frozen=True)
class Check:
    """The result of a check."""

    name: str  # what was checked
    status: str  # ok, warning (the experiment may work) or failed
    found: str  # what the check found, in words
    fix: str = ""  # what to do; '' if the status is ok
    busy: bool = False  # whether it failed because another process uses something, so that it may succeed later


def check_code(name: str, code: str, found: str, fix: str) -> Check:
    """Run Python code in a child process, so that a crash or a hang of it is only a failed check.

    Args:
      name: the name of the check.
      code: the code; it must end without an exception.
      found: what the check found if it does.
      fix: what to do if it does not.
    """
    result = processes.run([sys.executable, "-c", code], IMPORT_SECONDS)
    if result.code is None:
        return Check(name, "failed", f"it did not answer within {IMPORT_SECONDS:.0f} seconds", fix)
    if result.code:
        lines = result.errors.strip().splitlines() or [f"it ended with exit code {result.code}"]
        return Check(name, "failed", lines[-1], fix)
    return Check(name, "ok", found)
