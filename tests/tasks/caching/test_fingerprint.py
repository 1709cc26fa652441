"""The identity of data sets."""

from pathlib import Path
from typing import Any, Dict

import pytest

from fse import config
from tasks.caching import fingerprint, key_cache


@pytest.fixture(autouse=True)
def new_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Start with an empty cache in memory."""
    forget(monkeypatch)


def forget(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drop the cache in memory, as in a new process."""
    monkeypatch.setattr(key_cache, "CACHE", key_cache.KeyCache())


def identity(path: Path, workspace: Path, **settings: Any) -> Dict[str, Any]:
    tables = {"dataset": dict({"name": "mine", "archive": str(path)}, **settings)}
    return fingerprint.dataset_identity(config.from_tables(tables), workspace)


def test_a_local_archive_is_identified_by_its_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, text in (("a.zip", "one"), ("b.zip", "one"), ("c.zip", "two")):
        (tmp_path / name).write_text(text)
    one, same, other = (identity(tmp_path / name, tmp_path / "w") for name in ("a.zip", "b.zip", "c.zip"))
    assert one == same != other
    assert not (tmp_path / "w").exists()
    key_cache.CACHE.save(tmp_path / "w")
    forget(monkeypatch)
    (tmp_path / "a.zip").unlink()
    assert identity(tmp_path / "a.zip", tmp_path / "w") == one  # saved in the workspace
    assert identity(tmp_path / "never.zip", tmp_path / "w")["content of dataset.archive"] == "missing"


def test_a_large_archive_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.zip").write_text("one")
    before = identity(tmp_path / "a.zip", tmp_path / "w")
    key_cache.CACHE.save(tmp_path / "w")
    forget(monkeypatch)
    monkeypatch.setattr(key_cache, "hash_file", None)  # a call would fail
    assert identity(tmp_path / "a.zip", tmp_path / "w") == before


def test_a_changed_archive_has_another_identity(tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_text("one")
    before = identity(tmp_path / "a.zip", tmp_path / "w")
    (tmp_path / "a.zip").write_text("other")
    assert identity(tmp_path / "a.zip", tmp_path / "w") != before


def test_a_given_checksum_is_the_identity_wherever_the_archive_is(tmp_path: Path) -> None:
    checksum = {"sha256": "ab" * 32}
    assert identity(tmp_path / "a.zip", tmp_path, **checksum) == identity(tmp_path / "b.zip", tmp_path, **checksum)


def test_a_folder_is_identified_by_names_and_contents(tmp_path: Path) -> None:
    for name in ("one", "same"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.jpg").write_text("a")
    before = identity(tmp_path / "one", tmp_path / "w")
    assert identity(tmp_path / "same", tmp_path / "w") == before
    (tmp_path / "one" / "b.jpg").write_text("b")
    assert identity(tmp_path / "one", tmp_path / "w") != before


def test_the_synthetic_data_set_is_identified_by_its_settings(tmp_path: Path) -> None:
    default = fingerprint.dataset_identity(config.from_tables({}), tmp_path)
    assert default == fingerprint.dataset_identity(config.from_tables({"dataset": {"max_files": 5}}), tmp_path)
    assert default != fingerprint.dataset_identity(config.from_tables({"dataset": {"seed": 5}}), tmp_path)
