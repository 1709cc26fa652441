import os
from pathlib import Path
from typing import Any, Iterator

import pytest

from fse import config
from tasks.caching import code_identity, fingerprint


@pytest.fixture(autouse=True)
def forget() -> Iterator[Any]:
    fingerprint._hashes.clear()
    yield
    fingerprint._hashes.clear()
    fingerprint._unsaved.clear()
    fingerprint.forget()


def test_digests_of_code_are_noted_and_worked_out_anew_when_a_source_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(code_identity, "PACKAGES", {"toy": tmp_path / "toy"})
    (tmp_path / "toy").mkdir()
    (tmp_path / "toy" / "__init__.py").write_text("def run(): return 1\n")
    fingerprint.forget()
    before = fingerprint.code("toy:run", tmp_path)
    assert not (tmp_path / "artifacts").exists()
    fingerprint.remember(tmp_path)
    fingerprint.forget()
    with monkeypatch.context() as patch:
        patch.setattr(code_identity, "functions", None)  # not needed any more
        assert fingerprint.code("toy:run", tmp_path) == before
    (tmp_path / "toy" / "__init__.py").write_text("def run(): return 2\n")
    fingerprint.forget()
    assert fingerprint.code("toy:run", tmp_path) != before


def test_digests_of_sources_that_are_edited_while_they_are_read_are_not_noted_for_what_they_were(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(code_identity, "PACKAGES", {"toy": tmp_path / "toy"})
    (tmp_path / "toy").mkdir()
    source = tmp_path / "toy" / "__init__.py"
    source.write_text("def run(): return 1\n")
    original = code_identity.functions

    def edited_first(entry: str) -> dict:
        source.write_text("def run(): return 2\n")
        return original(entry)

    with monkeypatch.context() as patch:
        patch.setattr(code_identity, "functions", edited_first)
        fingerprint.forget()
        after = fingerprint.code("toy:run", tmp_path)
        fingerprint.remember(tmp_path)
    source.write_text("def run(): return 1\n")
    fingerprint.forget()
    assert fingerprint.code("toy:run", tmp_path) != after


def test_broken_notes_are_as_good_as_none(tmp_path: Path) -> None:
    (tmp_path / "artifacts").mkdir()
    for text in ("{", "[]"):
        (tmp_path / "artifacts" / "code.json").write_text(text)
        fingerprint.forget()
        assert "fse.preprocessing.tfrecord.convert" in fingerprint.code("fse.preprocessing.tfrecord:convert", tmp_path)


def dataset(path: Path, workspace: Path, **settings: Any) -> dict:
    tables = {"dataset": dict({"name": "mine", "archive": str(path)}, **settings)}
    return fingerprint.dataset(config.from_tables(tables), workspace)


def test_a_local_archive_is_known_by_its_content(tmp_path: Path) -> None:
    for name, text in (("a.zip", "one"), ("b.zip", "one"), ("c.zip", "two")):
        (tmp_path / name).write_text(text)
    one, same, other = (dataset(tmp_path / name, tmp_path / "w") for name in ("a.zip", "b.zip", "c.zip"))
    assert one == same != other
    assert not (tmp_path / "w").exists()
    fingerprint.remember(tmp_path / "w")
    fingerprint._hashes.clear()
    os.remove(str(tmp_path / "a.zip"))
    assert dataset(tmp_path / "a.zip", tmp_path / "w") == one  # remembered
    assert dataset(tmp_path / "never.zip", tmp_path / "w")["content of dataset.archive"] == "missing"


def test_a_large_archive_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.zip").write_text("one")
    before = dataset(tmp_path / "a.zip", tmp_path / "w")
    fingerprint.remember(tmp_path / "w")
    fingerprint._hashes.clear()
    monkeypatch.setattr(fingerprint, "hash_file", None)
    assert dataset(tmp_path / "a.zip", tmp_path / "w") == before


def test_a_changed_archive_is_another_one(tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_text("one")
    before = dataset(tmp_path / "a.zip", tmp_path / "w")
    (tmp_path / "a.zip").write_text("other")
    assert dataset(tmp_path / "a.zip", tmp_path / "w") != before


def test_a_given_checksum_is_the_identity_wherever_the_archive_is(tmp_path: Path) -> None:
    sums = {"sha256": "ab" * 32}
    assert dataset(tmp_path / "a.zip", tmp_path, **sums) == dataset(tmp_path / "b.zip", tmp_path, **sums)


def test_a_folder_is_known_by_names_and_contents(tmp_path: Path) -> None:
    for name in ("one", "same"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.jpg").write_text("a")
    before = dataset(tmp_path / "one", tmp_path / "w")
    assert dataset(tmp_path / "same", tmp_path / "w") == before
    (tmp_path / "one" / "b.jpg").write_text("b")
    assert dataset(tmp_path / "one", tmp_path / "w") != before


def test_the_synthetic_set_is_known_by_its_settings(tmp_path: Path) -> None:
    one = fingerprint.dataset(config.from_tables({}), tmp_path)
    assert one == fingerprint.dataset(config.from_tables({"dataset": {"max_files": 5}}), tmp_path)
    assert one != fingerprint.dataset(config.from_tables({"dataset": {"seed": 5}}), tmp_path)
