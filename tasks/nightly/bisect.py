"""The search for the commit that changed a metric: `git bisect` in a worktree, with a measurement of each commit.

Each commit runs its own code on the shared workspace, so it reruns only the stages that the commit affects. A commit is bad
if its metric is closer to the bad end's than to the good end's. A commit that fails is skipped. The metric is the mean over
the run's seeds.
"""

import contextlib
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, Dict, Iterator, List, Tuple

from fse.errors import DataError, StageError
from fse.runtime.git import run_git

# Return the metric of the commit that is checked out in a folder. Raise StageError if it cannot be measured.
Measure = Callable[[Path], float]

# `git bisect` ends with 2 if only skipped commits are left.
_BISECT_CODES = (0, 2)


@dataclass(frozen=True)
class BisectResult:
    """The result of a bisection."""

    commits: List[str]  # the first bad commit; several if commits next to it were skipped
    values: Dict[str, float]  # the metric by commit


def first_bad_commit(repository: Path, good: str, bad: str, measure: Measure, tolerance: float) -> BisectResult:
    """Return the first commit after `good`, up to `bad`, whose metric is like that of `bad`.

    Args:
      repository: a checkout.
      good: a commit with the old value of the metric, an ancestor of `bad`.
      bad: a commit with the new value.
      measure: measures the metric of a worktree.
      tolerance: by how much the metric must differ between the ends, as a fraction of the good end's value.

    Raises:
      DataError: `good` is not an ancestor of `bad`, or the metric does not differ.
      StageError: an end cannot be measured, a commit does not exist, or git fails.
    """
    ends = _resolve_ends(repository, good, bad)
    with worktree(repository, ends[0]) as folder:
        values: Dict[str, float] = {}
        for commit in ends:
            run_git(folder, "checkout", "-q", "--detach", commit, timeout=None)
            values[commit] = measure(folder)
        good_value, bad_value = (values[commit] for commit in ends)
        if not abs(bad_value - good_value) > tolerance * abs(good_value):
            raise DataError(
                f"--good and --bad: the metric does not differ enough: {good_value:.6g} at {good}, {bad_value:.6g} at {bad}"
            )
        output = run_git(folder, "bisect", "start", ends[1], ends[0], timeout=None)
        while not _first_bad_commits(output):
            commit = run_git(folder, "rev-parse", "HEAD")
            try:
                values[commit] = measure(folder)
            except StageError as error:
                print(f"{commit[:12]}: skipped: {error}", flush=True)
                answer = "skip"
            else:
                is_bad = abs(values[commit] - bad_value) < abs(values[commit] - good_value)
                answer = "bad" if is_bad else "good"
            output = run_git(folder, "bisect", answer, accepted_codes=_BISECT_CODES, timeout=None)
        return BisectResult(_first_bad_commits(output), values)


@contextlib.contextmanager
def worktree(repository: Path, commit: str) -> Iterator[Path]:
    """Yield a temporary worktree of a repository at a commit."""
    parent = Path(tempfile.mkdtemp(prefix="fse-bisect-"))
    try:
        run_git(repository, "worktree", "add", "-q", "--detach", str(parent / "tree"), commit, timeout=None)
        yield parent / "tree"
    finally:
        shutil.rmtree(parent, ignore_errors=True)
        run_git(repository, "worktree", "prune", timeout=None)


def _resolve_ends(repository: Path, good: str, bad: str) -> Tuple[str, str]:
    """Return the hashes of both ends; check that the good one is an ancestor of the bad one."""
    good_commit, bad_commit = (
        run_git(repository, "rev-parse", "--verify", f"{name}^{{commit}}") for name in (good, bad)
    )
    try:
        run_git(repository, "merge-base", "--is-ancestor", good_commit, bad_commit)
        is_ancestor = good_commit != bad_commit
    except StageError:
        is_ancestor = False
    if not is_ancestor:
        raise DataError(f"--good {good}: is not an ancestor of --bad {bad}")
    return good_commit, bad_commit


def _first_bad_commits(output: str) -> List[str]:
    """Return the commits that `git bisect` names as its result; empty if it is not finished."""
    lines = output.splitlines()
    first_bad = [line.split()[0] for line in lines if line.endswith(" is the first bad commit")]
    if first_bad or "only 'skip'ped commits left" not in output:
        return first_bad
    return [line for line in lines if len(line) == 40 and " " not in line]
