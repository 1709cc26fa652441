"""Bisection in a repository whose metric is a number in a file."""

from pathlib import Path

import pytest

from fse.errors import DataError, StageError
from tasks.nightly.bisect import first_bad_commit
from tests.tasks.nightly.repositories import create_repository, git


def measure(folder: Path) -> float:
    text = (folder / "metric").read_text()
    if text == "broken":
        raise StageError("it does not run")
    return float(text)


def test_finds_the_commit_with_few_measurements(tmp_path: Path) -> None:
    commits = create_repository(tmp_path, ["7.0", "7.1", "7.0", "6.9", "7.0", "9.0", "9.1", "9.0"])
    result = first_bad_commit(tmp_path, commits[0], commits[-1], measure, 0.05)
    assert result.commits == [commits[5]]
    assert len(result.values) <= 5
    assert git(tmp_path, "worktree", "list").count("\n") == 0
    assert git(tmp_path, "status", "--porcelain") == ""


def test_skips_commits_that_fail(tmp_path: Path, capsys: "pytest.CaptureFixture[str]") -> None:
    commits = create_repository(tmp_path, ["7.0", "7.0", "broken", "9.0", "9.0"])
    result = first_bad_commit(tmp_path, commits[0], commits[-1], measure, 0.05)
    assert sorted(result.commits) == sorted(commits[2:4])
    assert "skipped: it does not run" in capsys.readouterr().out


def test_rejects_ends_that_cannot_be_bisected(tmp_path: Path) -> None:
    commits = create_repository(tmp_path, ["7.0", "7.1", "9.0"])
    with pytest.raises(DataError, match="does not differ enough: 7 at .*, 7.1 at "):
        first_bad_commit(tmp_path, commits[0], commits[1], measure, 0.05)
    with pytest.raises(DataError, match="not an ancestor"):
        first_bad_commit(tmp_path, commits[2], commits[0], measure, 0.05)
    with pytest.raises(StageError, match="git rev-parse"):
        first_bad_commit(tmp_path, "nothing", commits[0], measure, 0.05)
