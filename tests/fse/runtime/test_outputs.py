from pathlib import Path
from typing import Any

import pytest

from fse.errors import StageError
from fse.runtime.hashing import hash_folder
from fse.runtime.manifests import OWN_FILES, SCHEMA, read_manifest
from fse.runtime.outputs import atomic_output


def write_output(output: Path, text: str = "hello", **options: Any) -> None:
    with atomic_output(output, {"stage": "demo"}, **options) as building:
        (building / "a.txt").write_text(text)


def test_an_output_appears_with_a_manifest(tmp_path: Path) -> None:
    write_output(tmp_path / "out")
    manifest = read_manifest(tmp_path / "out")
    assert manifest["stage"] == "demo"
    assert manifest["files"] == {"a.txt": 5}
    assert manifest["schema"] == SCHEMA
    assert {"content", "python", "packages", "host", "started", "seconds", "peak_megabytes"} <= set(manifest)
    assert manifest["packages"]["numpy"]
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_an_output_stays_until_the_new_one_replaces_it(output: Path) -> None:
    with atomic_output(output, {}, replace=True) as building:
        (building / "b.txt").write_text("new")
        assert (output / "top").read_text() == "top"
    assert sorted(hash_folder(output, OWN_FILES)) == ["b.txt"]
    assert [path.name for path in output.parent.iterdir()] == ["out"]
    (output.parent / "alias").symlink_to("out")
    with atomic_output(output.parent / "alias", {}, replace=True) as building:
        (building / "c.txt").write_text("other")
    assert not (output.parent / "alias").is_symlink()
    assert sorted(hash_folder(output, OWN_FILES)) == ["b.txt"]


def test_a_failure_leaves_no_output(tmp_path: Path) -> None:
    def fail() -> None:
        with atomic_output(tmp_path / "out", {}) as building:
            (building / "half.txt").write_text("half")
            raise ValueError("stop")

    with pytest.raises(ValueError, match="stop"):
        fail()
    assert not (tmp_path / "out").exists()
    write_output(tmp_path / "out")  # starts with an empty folder
    assert not (tmp_path / "out" / "half.txt").exists()


def test_a_resumable_stage_keeps_the_files_of_an_interrupted_attempt(tmp_path: Path) -> None:
    (tmp_path / "out.building").mkdir()
    (tmp_path / "out.building" / "checkpoint").write_text("9")
    write_output(tmp_path / "out", keep=True)
    assert (tmp_path / "out" / "checkpoint").read_text() == "9"


@pytest.mark.parametrize("name", ["config", "inputs", "key"])
def test_an_attempt_with_other_settings_or_inputs_is_not_resumed(tmp_path: Path, name: str) -> None:
    def attempt(value: int) -> None:
        with atomic_output(tmp_path / "out", {name: {"a": value}}, keep=True) as building:
            (building / "part").write_text(str(value))
            if value == 1:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        attempt(1)
    with pytest.raises(StageError, match=r"out\.building: holds an interrupted attempt with other settings"):
        attempt(2)
    assert (tmp_path / "out.building" / "part").read_text() == "1"
    with pytest.raises(KeyboardInterrupt):
        attempt(1)


def test_an_output_is_never_overwritten(tmp_path: Path) -> None:
    write_output(tmp_path / "out")
    with pytest.raises(StageError, match="exists already"):
        write_output(tmp_path / "out", "other")
    assert (tmp_path / "out" / "a.txt").read_text() == "hello"


def test_a_full_disk_or_a_file_in_the_way_is_an_error_that_names_the_path(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StageError, match=r"file/out.building: cannot be written: Not a directory"):
        write_output(tmp_path / "file" / "out")

    def full() -> None:
        with atomic_output(tmp_path / "out", {}) as building, open("/dev/full", "w") as stream:
            (building / "a").write_text("a")
            stream.write("x" * 100_000)

    with pytest.raises(StageError, match="No space left on device"):
        full()
    assert not (tmp_path / "out").exists()
