"""The commits of the checkout that the nightly runs from."""

from pathlib import Path
from typing import List, Tuple

from fse.runtime.git import git_output

# How many commits are listed.
_MAX_COMMITS = 30


def checkout_state(folder: Path) -> Tuple[str, bool]:
    """Return the commit of a checkout and whether the checkout is clean; ('', False) outside a checkout."""
    commit = git_output(folder, "rev-parse", "HEAD")
    return commit, bool(commit) and not git_output(folder, "status", "--porcelain")


def commits_between(folder: Path, good: str, bad: str) -> List[str]:
    """Return one line for each commit after `good` up to `bad`, newest first; empty if git does not know them."""
    if not good or not bad:
        return []
    return git_output(folder, "log", "--format=%h %an: %s", "-n", str(_MAX_COMMITS), f"{good}..{bad}").splitlines()
