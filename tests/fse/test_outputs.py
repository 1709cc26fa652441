import json
from pathlib import Path

import pytest

from fse import config, outputs
from fse.errors import StageError


def make(output: Path, text: str = "hello", **options) -> None:
    with outputs.whole(output, {"stage": "demo"}, **options) as building:
        (building / "a.txt").write_text(text)


def test_an_output_appears_with_a_manifest(tmp_path: Path) -> None:
    make(tmp_path / "out")
    manifest = outputs.read_manifest(tmp_path / "out")
    assert manifest["stage"] == "demo"
    assert manifest["files"] == {"a.txt": 5}
    assert {"content", "python", "host", "started", "seconds", "schema"} <= set(manifest)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_the_content_hash_is_of_names_and_contents_alone(tmp_path: Path) -> None:
    for name, text in (("one", "x"), ("two", "x"), ("three", "y")):
        make(tmp_path / name, text)
    one, two, three = (outputs.read_manifest(tmp_path / name)["content"] for name in ("one", "two", "three"))
    assert one == two != three


def test_a_failure_leaves_no_output(tmp_path: Path) -> None:
    def fail() -> None:
        with outputs.whole(tmp_path / "out", {}) as building:
            (building / "half.txt").write_text("half")
            raise ValueError("stop")

    with pytest.raises(ValueError, match="stop"):
        fail()
    assert not (tmp_path / "out").exists()
    make(tmp_path / "out")  # begins afresh
    assert not (tmp_path / "out" / "half.txt").exists()


def test_what_an_attempt_left_is_kept_where_a_stage_resumes(tmp_path: Path) -> None:
    (tmp_path / "out.building").mkdir()
    (tmp_path / "out.building" / "checkpoint").write_text("9")
    make(tmp_path / "out", keep=True)
    assert (tmp_path / "out" / "checkpoint").read_text() == "9"


def test_an_output_is_never_overwritten(tmp_path: Path) -> None:
    make(tmp_path / "out")
    with pytest.raises(StageError, match="exists already"):
        make(tmp_path / "out", "other")
    assert (tmp_path / "out" / "a.txt").read_text() == "hello"


def test_a_full_disk_or_a_file_in_the_way_is_an_error_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StageError, match=r"file/out.building: cannot be written: Not a directory"):
        make(tmp_path / "file" / "out")

    def full() -> None:
        with outputs.whole(tmp_path / "out", {}) as building, open("/dev/full", "w") as stream:
            (building / "a").write_text("a")
            stream.write("x" * 100_000)

    with pytest.raises(StageError, match="No space left on device"):
        full()
    assert not (tmp_path / "out").exists()


def test_a_broken_manifest_reads_as_none(tmp_path: Path) -> None:
    (tmp_path / outputs.MANIFEST).write_text("{")
    assert outputs.read_manifest(tmp_path) == {}
    (tmp_path / outputs.MANIFEST).write_text("[]")
    assert outputs.read_manifest(tmp_path) == {}


def test_a_manifest_names_configuration_and_inputs(tmp_path: Path) -> None:
    make(tmp_path / "before")
    manifest = outputs.manifest("train", config.Config(), "k", {"convert": tmp_path / "before"})
    assert manifest["inputs"]["convert"]["content"] == outputs.read_manifest(tmp_path / "before")["content"]
    assert json.loads(json.dumps(manifest))["config"]["train"]["seed"] == 1234
