"""Calls of git."""

import subprocess
from pathlib import Path
from typing import Any, Container, Dict, Optional

from fse.errors import StageError

# A query that takes longer hangs, for example on a network disk; the caller does without the answer.
_QUERY_SECONDS = 60.0


def run_git(
    folder: Path, *arguments: str, accepted_codes: Container[int] = (0,), timeout: Optional[float] = None
) -> str:
    """Run git in a folder and return its standard output without surrounding white space.

    Args:
      folder: the folder to run git in.
      arguments: the subcommand and its arguments.
      accepted_codes: exit codes that count as success.
      timeout: seconds before git is killed; by default there is no limit.

    Raises:
      StageError: git is not installed, did not end in time, or ended with another exit code.
    """
    command = f"git {' '.join(arguments)}"
    try:
        done = subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True, timeout=timeout)
    except OSError as error:
        raise StageError(f"{command}: cannot be run: {error.strerror}") from None
    except subprocess.TimeoutExpired:
        raise StageError(f"{command}: did not end within {timeout:.0f} seconds") from None
    output = done.stdout.decode(errors="replace").strip()
    if done.returncode not in accepted_codes:
        raise StageError(f"{command}: {done.stderr.decode(errors='replace').strip() or output}")
    return output


def git_output(folder: Path, *arguments: str) -> str:
    """Return what git prints in a folder; '' if it fails or hangs."""
    try:
        return run_git(folder, *arguments, timeout=_QUERY_SECONDS)
    except StageError:
        return ""


def source_state(file: Path) -> Optional[Dict[str, Any]]:
    """Return the commit of the checkout that tracks a source file, and whether the checkout is clean.

    Returns:
      {"commit": 40 hexadecimal digits, "clean": no uncommitted changes}; None if git does not track the file.
    """
    folder = file.resolve().parent
    try:
        run_git(folder, "ls-files", "--error-unmatch", file.name, timeout=_QUERY_SECONDS)
        commit = run_git(folder, "rev-parse", "HEAD", timeout=_QUERY_SECONDS)
        return {"commit": commit, "clean": not run_git(folder, "status", "--porcelain", timeout=_QUERY_SECONDS)}
    except StageError:
        return None
