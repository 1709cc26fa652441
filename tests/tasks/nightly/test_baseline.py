"""The file of accepted baselines."""

from pathlib import Path

import pytest

from fse.errors import ConfigError, DataError
from tasks.nightly import baseline
from tests.tasks.nightly.records import make_record


def test_entries_are_only_added_and_the_newest_is_in_force(tmp_path: Path) -> None:
    path = tmp_path / "baselines.toml"
    assert baseline.read(path, "n") == []
    first = baseline.accept(path, make_record("2026-11-01", nme=7.0), 'Python 3, "cpu"', "the first")
    other = baseline.accept(path, make_record("2026-11-02", environment="elsewhere"), "NPU", "another machine\n")
    second = baseline.accept(
        path, make_record("2026-11-03", nme=6.0, verdict="regression"), "here", "intended: 50 % fewer steps"
    )
    accepted = baseline.read(path, "n")
    assert accepted == [first, other, second]
    assert baseline.in_force(accepted, "here") == second
    assert baseline.in_force(accepted, "nowhere") is None
    assert (second.replaces, second.values) == ("2026-11-01", {"a.nme": [7.0, 8.0]})
    assert (first.replaces, first.about, first.commit) == ("", 'Python 3, "cpu"', "c0ffee")
    assert "was 8, 9" in path.read_text()
    assert first.who and first.when and other.why == "another machine"
    assert baseline.read(path, "another nightly") == []


def test_a_night_without_reason_or_figures_cannot_be_accepted(tmp_path: Path) -> None:
    path = tmp_path / "baselines.toml"
    with pytest.raises(DataError, match="--reason"):
        baseline.accept(path, make_record("2026-11-01"), "", " ")
    for verdict in ("infrastructure", "no-data", ""):
        with pytest.raises(DataError, match="cannot be accepted"):
            baseline.accept(path, make_record("2026-11-01", verdict), "", "why not")
    assert not path.exists()
    path.write_text("[[accepted]]\nnightly = 'n'\n")
    with pytest.raises(ConfigError, match="not a file that AcceptBaseline wrote"):
        baseline.read(path, "n")
