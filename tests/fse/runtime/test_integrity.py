import hashlib
import os
import shutil
from pathlib import Path

import pytest

from fse.errors import StageError
from fse.runtime import integrity, manifests
from fse.runtime.hashing import hash_folder
from fse.runtime.manifests import MANIFEST, OWN_FILES, read_manifest
from fse.runtime.outputs import atomic_output


def test_an_unchanged_output_has_no_problem(output: Path) -> None:
    assert integrity.problem(output) == integrity.problem(output, thorough=True) == ""
    assert integrity.differences(output) == []
    assert integrity.problem(output.with_name("none")) == "output missing"


def test_touched_or_copied_files_are_read_again_once(output: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.utime(output / "top", (1, 1))
    copy = output.with_name("copy")
    shutil.copytree(output, copy)
    for folder in (output, copy):
        assert integrity.problem(folder) == ""
        integrity.remember(folder)
        with monkeypatch.context() as patch:
            patch.setattr(integrity, "hash_file", None)  # reading a file would fail
            assert integrity.problem(folder) == ""


@pytest.mark.parametrize("name", ["top", "in/a"])
def test_an_edited_output_is_noticed(output: Path, name: str) -> None:
    (output / name).write_text("edited")
    assert integrity.problem(output) == "content differs from manifest: " + name


def test_digests_come_from_the_listing_while_files_are_unchanged(output: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = hash_folder(output, OWN_FILES)
    with monkeypatch.context() as patch:
        patch.setattr(integrity, "hash_folder", None)  # hashing the files would fail
        assert integrity.checked_digests(output) == wanted
    (output / "top").write_text("other")
    assert integrity.checked_digests(output)["top"] == hashlib.sha256(b"other").hexdigest()


def test_missing_and_additional_files_are_noticed(output: Path) -> None:
    (output / "in" / "a").unlink()
    (output / "in" / "c").write_text("")
    assert integrity.problem(output) == "content differs from manifest: in/a, in/c"


def test_reading_all_files_reveals_an_edit_of_the_same_size_and_time(output: Path) -> None:
    before = (output / "top").stat()
    (output / "top").write_text("pot")
    os.utime(output / "top", ns=(before.st_atime_ns, before.st_mtime_ns))
    assert integrity.differences(output) == ["top"]


def test_among_many_files_only_a_thorough_check_notices_an_edit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(manifests, "MAX_LISTED_FILES", 2)
    folder = tmp_path / "out"
    with atomic_output(folder, {}) as building:
        (building / "in").mkdir()
        for name in "abc":
            (building / "in" / name).write_text(name)
    assert read_manifest(folder)["folders"] == {"in": 3}
    (folder / "in" / "a").write_text("A")
    assert integrity.problem(folder) == ""
    assert integrity.problem(folder, thorough=True) == "content differs from manifest: in/a"
    integrity.forget(folder)
    assert integrity.problem(folder) == "content differs from manifest: in/a"
    (folder / "in" / "d").write_text("d")
    assert integrity.problem(folder) == "content differs from manifest: in/a, in/d"


def test_checking_an_output_changes_nothing(output: Path) -> None:
    os.utime(output / "top", (1, 1))
    before = {path: path.stat().st_mtime_ns for path in output.rglob("*")}
    assert integrity.problem(output) == ""
    assert {path: path.stat().st_mtime_ns for path in output.rglob("*")} == before


def test_a_truncated_manifest_is_a_problem(output: Path) -> None:
    text = (output / MANIFEST).read_text()
    (output / MANIFEST).write_text(text[: len(text) // 2])
    assert integrity.problem(output) == "manifest cannot be read"


def test_a_manifest_of_a_newer_version_is_an_error(output: Path) -> None:
    (output / MANIFEST).write_text('{"schema": 99}')
    with pytest.raises(StageError, match=r"newer version of this program \(schema 99; this version reads up to \d+\)"):
        integrity.problem(output)
