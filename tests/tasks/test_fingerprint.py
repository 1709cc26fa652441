import os
from pathlib import Path

import pytest

from fse import config
from tasks import fingerprint


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A toy `fse` of three modules, where a imports b."""
    folder = tmp_path / "fse"
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    (folder / "a.py").write_text('"""Doc."""\nfrom fse import b\n\ndef f():\n    return b.g()\n')
    (folder / "b.py").write_text("def g():\n    return 1\n")
    (folder / "c.py").write_text("def h():\n    return 1\n")
    monkeypatch.setattr(fingerprint, "PACKAGE", folder)
    return folder


def code(module: str) -> str:
    fingerprint.code.cache_clear()
    fingerprint._parsed.cache_clear()
    return fingerprint.code(module)


@pytest.fixture(autouse=True)
def forget():
    yield
    fingerprint.code.cache_clear()
    fingerprint._parsed.cache_clear()


def test_comments_docstrings_and_formatting_do_not_count(package: Path) -> None:
    before = code("fse.a")
    (package / "a.py").write_text('"""Other."""\n# why\nfrom fse import b\ndef f():\n  "doc"\n  return b.g()  # so\n')
    assert code("fse.a") == before


def test_a_change_in_an_imported_module_counts_and_one_elsewhere_does_not(package: Path) -> None:
    before = code("fse.a")
    (package / "c.py").write_text("def h():\n    return 2\n")
    assert code("fse.a") == before
    (package / "b.py").write_text("def g():\n    return 2\n")
    assert code("fse.a") != before


def test_the_real_stages_reach_what_they_use() -> None:
    names = {path.relative_to(fingerprint.PACKAGE).as_posix() for path in fingerprint._reached("fse.training")}
    assert {"training.py", "losses.py", "network.py", "augment.py", "geometry.py"} <= names
    assert "report/__init__.py" not in names
    assert "crop.py" not in names


def dataset(path: Path, workspace: Path, **settings) -> dict:
    tables = {"dataset": dict({"name": "mine", "archive": str(path)}, **settings)}
    return fingerprint.dataset(config.from_tables(tables), workspace)


def test_a_local_archive_is_known_by_its_content(tmp_path: Path) -> None:
    for name, text in (("a.zip", "one"), ("b.zip", "one"), ("c.zip", "two")):
        (tmp_path / name).write_text(text)
    one, same, other = (dataset(tmp_path / name, tmp_path / "w") for name in ("a.zip", "b.zip", "c.zip"))
    assert one == same != other
    os.remove(str(tmp_path / "a.zip"))
    assert dataset(tmp_path / "a.zip", tmp_path / "w") == one  # remembered
    assert dataset(tmp_path / "never.zip", tmp_path / "w")["content"] == "missing"


def test_a_changed_archive_is_another_one(tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_text("one")
    before = dataset(tmp_path / "a.zip", tmp_path / "w")
    (tmp_path / "a.zip").write_text("other")
    assert dataset(tmp_path / "a.zip", tmp_path / "w") != before


def test_a_given_checksum_is_the_identity_wherever_the_archive_is(tmp_path: Path) -> None:
    sums = {"sha256": "ab" * 32}
    assert dataset(tmp_path / "a.zip", tmp_path, **sums) == dataset(tmp_path / "b.zip", tmp_path, **sums)


def test_a_folder_is_known_by_its_files(tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    (folder / "a.jpg").write_text("a")
    before = dataset(folder, tmp_path / "w")
    assert dataset(folder, tmp_path / "w") == before
    (folder / "b.jpg").write_text("b")
    assert dataset(folder, tmp_path / "w") != before


def test_the_synthetic_set_is_known_by_its_settings(tmp_path: Path) -> None:
    one = fingerprint.dataset(config.from_tables({}), tmp_path)
    assert one == fingerprint.dataset(config.from_tables({"dataset": {"max_files": 5}}), tmp_path)
    assert one != fingerprint.dataset(config.from_tables({"dataset": {"seed": 5}}), tmp_path)
