"""Finds the commit that changed a metric: git's own bisection in a worktree, with this program as its judge.

Every commit is run with its own code on the workspace that all share, so a commit runs only the stages that it changes
something for. A commit is bad if its metric lies nearer to the bad end's than to the good end's; one that cannot be run is
skipped. Figures are means over the run's seeds.
"""

import contextlib
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Callable, Dict, Iterator, List, NamedTuple

from fse.errors import DataError, StageError

# What is measured at a worktree's commit. Raises StageError if it cannot be.
Measure = Callable[[Path], float]


class Found(NamedTuple):
    """commits: the first bad one, or several where those between could not be run. values: of what was run, by commit."""

    commits: List[str]
    values: Dict[str, float]


def find(repository: Path, good: str, bad: str, measure: Measure, tolerance: float) -> Found:
    """Finds the first commit after `good`, up to `bad`, that is like `bad`.

    Args:
      repository: a checkout.
      good, bad: commits, `good` an ancestor of `bad`.
      measure: gives the metric of the commit that a worktree has.
      tolerance: share of the good end's value by which the ends must differ at least.

    Raises:
      DataError: there is no such commit, or the ends do not differ.
      StageError: an end cannot be run, or git fails.
    """
    ends = [_git(repository, "rev-parse", "--verify", name + "^{commit}").strip() for name in (good, bad)]
    if subprocess.call(["git", "-C", str(repository), "merge-base", "--is-ancestor", *ends]) or ends[0] == ends[1]:
        raise DataError(f"--good {good}: is not an ancestor of --bad {bad}")
    values: Dict[str, float] = {}
    with worktree(repository, ends[0]) as folder:
        for commit in ends:
            _git(folder, "checkout", "-q", "--detach", commit)
            values[commit] = measure(folder)
        low, high = (values[commit] for commit in ends)
        if not abs(high - low) > tolerance * abs(low):
            words = "the ends do not differ enough to tell commits apart: {:.6g} at {}, {:.6g} at {}"
            raise DataError(words.format(low, good, high, bad))
        said = _git(folder, "bisect", "start", ends[1], ends[0])
        while True:
            first = [line.split()[0] for line in said.splitlines() if line.endswith(" is the first bad commit")]
            if first:
                return Found(first, values)
            if "only 'skip'ped commits left" in said:
                lines = said.splitlines()
                return Found([line for line in lines if len(line) == 40 and " " not in line], values)
            commit = _git(folder, "rev-parse", "HEAD").strip()
            try:
                values[commit] = measure(folder)
            except StageError as error:
                print(f"{commit[:12]}: skipped: {error}", flush=True)
                said = _git(folder, "bisect", "skip", permitted=(0, 2))
                continue
            nearer_bad = abs(values[commit] - high) < abs(values[commit] - low)
            said = _git(folder, "bisect", "bad" if nearer_bad else "good", permitted=(0, 2))


@contextlib.contextmanager
def worktree(repository: Path, commit: str) -> Iterator[Path]:
    """A temporary worktree of a repository at a commit."""
    parent = Path(tempfile.mkdtemp(prefix="fse-bisect-"))
    try:
        _git(repository, "worktree", "add", "-q", "--detach", str(parent / "tree"), commit)
        yield parent / "tree"
    finally:
        shutil.rmtree(str(parent), ignore_errors=True)
        _git(repository, "worktree", "prune")


def _git(folder: Path, *arguments: str, permitted: "tuple[int, ...]" = (0,)) -> str:
    """What git prints.

    Raises:
      StageError: git ends with an exit code that is not permitted.
    """
    done = subprocess.run(
        ["git", "-C", str(folder), *arguments],
        capture_output=True,
        text=True,
    )
    if done.returncode not in permitted:
        raise StageError("git {}: {}".format(" ".join(arguments), done.stderr.strip() or done.stdout.strip()))
    return done.stdout
