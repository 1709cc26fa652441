"""The cache of code digests and file hashes."""

from pathlib import Path
from typing import Dict, Iterator

import pytest

from tasks.caching import code_identity, source_modules
from tasks.caching.key_cache import KeyCache


@pytest.fixture(autouse=True)
def parsed_modules() -> Iterator[None]:
    """Drop modules of the packages that a test parsed."""
    yield
    code_identity.forget()


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file of a package `toy`, the only one whose code counts."""
    code_identity.forget()
    monkeypatch.setattr(source_modules, "PACKAGES", {"toy": tmp_path / "toy"})
    (tmp_path / "toy").mkdir()
    file = tmp_path / "toy" / "__init__.py"
    file.write_text("def run(): return 1\n")
    return file


def test_saved_digests_of_code_are_used_until_a_source_changes(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = KeyCache()
    before = cache.code("toy:run", tmp_path)
    assert not (tmp_path / "artifacts").exists()
    cache.save(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(code_identity, "functions", None)  # a call would fail
        assert KeyCache().code("toy:run", tmp_path) == before
    source.write_text("def run(): return 2\n")
    cache.recheck_sources()
    assert cache.code("toy:run", tmp_path) != before


def test_sources_that_are_edited_while_they_are_read_are_read_again(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = code_identity.functions

    def edit_and_digest(entry: str) -> Dict[str, str]:
        source.write_text("def run(): return 2\n")
        return original(entry)

    cache = KeyCache()
    with monkeypatch.context() as patch:
        patch.setattr(code_identity, "functions", edit_and_digest)
        after = cache.code("toy:run", tmp_path)
        cache.save(tmp_path)
    source.write_text("def run(): return 1\n")
    cache.recheck_sources()
    assert cache.code("toy:run", tmp_path) != after


@pytest.mark.parametrize("text", ["{", "[]"])
def test_broken_files_in_the_workspace_are_ignored(tmp_path: Path, text: str) -> None:
    (tmp_path / "artifacts").mkdir()
    (tmp_path / "artifacts" / "code.json").write_text(text)
    digests = KeyCache().code("fse.preprocessing.tfrecord:convert", tmp_path)
    assert "fse.preprocessing.tfrecord.convert" in digests
