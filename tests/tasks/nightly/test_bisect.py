"""Bisection in a repository of eight commits, whose metric is a number in a file."""

import subprocess
from pathlib import Path
from typing import List

import pytest

from fse.errors import DataError, StageError
from tasks.nightly import bisect


def git(folder: Path, *arguments: str) -> str:
    command = ["git", "-C", str(folder), "-c", "user.name=t", "-c", "user.email=t@t", *arguments]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout.decode().strip()


def repository(folder: Path, values: List[str]) -> List[str]:
    git(folder, "init", "-q")
    commits = []
    for number, value in enumerate(values):
        (folder / "metric").write_text(value)
        (folder / "number").write_text(str(number))
        git(folder, "add", "-A")
        git(folder, "commit", "-q", "-m", f"commit {number}")
        commits.append(git(folder, "rev-parse", "HEAD"))
    return commits


def measure(folder: Path) -> float:
    text = (folder / "metric").read_text()
    if text == "broken":
        raise StageError("it does not run")
    return float(text)


def test_the_commit_is_found_and_few_are_run(tmp_path: Path) -> None:
    commits = repository(tmp_path, ["7.0", "7.1", "7.0", "6.9", "7.0", "9.0", "9.1", "9.0"])
    found = bisect.find(tmp_path, commits[0], commits[-1], measure, 0.05)
    assert found.commits == [commits[5]]
    assert len(found.values) <= 5
    assert git(tmp_path, "worktree", "list").count("\n") == 0
    assert git(tmp_path, "status", "--porcelain") == ""


def test_commits_that_do_not_run_are_skipped(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    commits = repository(tmp_path, ["7.0", "7.0", "broken", "9.0", "9.0"])
    found = bisect.find(tmp_path, commits[0], commits[-1], measure, 0.05)
    assert sorted(found.commits) == sorted(commits[2:4])
    assert "skipped: it does not run" in capsys.readouterr().out


def test_ends_that_cannot_be_meant(tmp_path: Path) -> None:
    commits = repository(tmp_path, ["7.0", "7.1", "9.0"])
    with pytest.raises(DataError, match="do not differ enough"):
        bisect.find(tmp_path, commits[0], commits[1], measure, 0.05)
    with pytest.raises(DataError, match="not an ancestor"):
        bisect.find(tmp_path, commits[2], commits[0], measure, 0.05)
    with pytest.raises(StageError, match="git rev-parse"):
        bisect.find(tmp_path, "nothing", commits[0], measure, 0.05)
