"""The commits and the state of a checkout."""

from pathlib import Path

from tasks.nightly.commits import checkout_state, commits_between
from tests.tasks.nightly.repositories import create_repository


def test_commits_between_two_nights(tmp_path: Path) -> None:
    commits = create_repository(tmp_path, ["1", "2", "3", "4"])
    lines = commits_between(tmp_path, commits[0], commits[2])
    assert [line.split()[0] for line in lines] == [commit[:7] for commit in (commits[2], commits[1])]
    assert lines[0].endswith(" t: commit 2")
    assert commits_between(tmp_path, "", commits[2]) == commits_between(tmp_path, "0" * 40, commits[2]) == []
    assert checkout_state(tmp_path) == (commits[3], True)
    (tmp_path / "metric").write_text("5")
    assert checkout_state(tmp_path) == (commits[3], False)
