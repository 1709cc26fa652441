from pathlib import Path

import pytest

from fse.errors import StageError
from fse.runtime import git

THIS_FILE = Path(__file__)


def test_git_prints_or_raises_what_git_says() -> None:
    folder = THIS_FILE.parent
    assert git.run_git(folder, "rev-parse", "--is-inside-work-tree") == "true"
    with pytest.raises(StageError, match="^git rev-parse --verify none: fatal: Needed a single revision$"):
        git.run_git(folder, "rev-parse", "--verify", "none")
    assert git.run_git(folder, "rev-parse", "-q", "--verify", "none", accepted_codes=(0, 1)) == ""
    assert git.git_output(folder, "rev-parse", "--verify", "none") == ""


def test_git_that_is_missing_or_hangs_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(StageError, match="^git status: cannot be run: No such file or directory"):
        git.run_git(tmp_path, "status")
    (tmp_path / "git").write_text("#!/bin/sh\nexec /bin/sleep 60\n")
    (tmp_path / "git").chmod(0o755)
    with pytest.raises(StageError, match="^git status: did not end within 0 seconds$"):
        git.run_git(tmp_path, "status", timeout=0.1)


def test_only_tracked_files_have_a_source_state(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("")
    assert git.source_state(tmp_path / "a.py") is None
