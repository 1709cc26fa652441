import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Any, Dict

import pytest

from fse import config
from fse.errors import StageError
from fse.runtime import outputs


def make(output: Path, text: str = "hello", **options: Any) -> None:
    with outputs.atomic_output(output, {"stage": "demo"}, **options) as building:
        (building / "a.txt").write_text(text)


def test_an_output_appears_with_a_manifest(tmp_path: Path) -> None:
    make(tmp_path / "out")
    manifest = outputs.read_manifest(tmp_path / "out")
    assert manifest["stage"] == "demo"
    assert manifest["files"] == {"a.txt": 5}
    assert manifest["schema"] == outputs.SCHEMA
    assert {"content", "python", "packages", "host", "started", "seconds", "peak_megabytes"} <= set(manifest)
    assert manifest["packages"]["numpy"]
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_the_listing_is_what_sha256sum_checks(tmp_path: Path) -> None:
    make(tmp_path / "out")
    digest = hashlib.sha256(b"hello").hexdigest()
    assert (tmp_path / "out" / outputs.LISTING).read_text() == digest + "  a.txt\n"


def test_the_content_hash_is_of_names_and_contents_alone(tmp_path: Path) -> None:
    for name, text in (("one", "x"), ("two", "x"), ("three", "y")):
        make(tmp_path / name, text)
    one, two, three = (outputs.read_manifest(tmp_path / name)["content"] for name in ("one", "two", "three"))
    assert one == two != three


def content(output: Path, files: Dict[str, str]) -> str:
    volatile = {"logs/*": (), "a.json": ("seconds",), "b.csv": ("speed", "seconds")}
    with outputs.atomic_output(output, {}, volatile=volatile) as building:
        (building / "logs").mkdir()
        for name, text in files.items():
            (building / name).write_text(text)
    return str(outputs.read_manifest(output)["content"])


def test_volatile_parts_do_not_count_as_content(tmp_path: Path) -> None:
    files = {"logs/x": "1", "a.json": '{"seconds": 1, "loss": 2}', "b.csv": "step,speed\n1,20\n", "c": "c"}
    same = {"logs/y": "2", "a.json": '{"loss": 2, "seconds": 3}', "b.csv": "step,speed\n1,30\n", "c": "c"}
    first = content(tmp_path / "first", files)
    assert content(tmp_path / "same", same) == first
    for name, text in (("a.json", '{"loss": 3}'), ("b.csv", "step,speed\n2,20\n"), ("c", "d")):
        assert content(tmp_path / name, dict(files, **{name: text})) != first
    (tmp_path / "same" / "logs" / "y").write_text("changed")
    assert outputs.problem(tmp_path / "same") == "content differs from manifest: logs/y"  # but it is no other file


def test_the_numbers_of_a_summary_go_into_the_manifest(tmp_path: Path) -> None:
    with outputs.atomic_output(tmp_path / "out", {}, summary="sum.json") as building:
        (building / "sum.json").write_text('{"images": 3, "nme": 1.5, "name": "a", "ok": true, "splits": {"test": 2}}')
    manifest = outputs.read_manifest(tmp_path / "out")
    assert manifest["counts"] == {"images": 3, "splits.test": 2}
    assert manifest["metrics"] == {"nme": 1.5}


@pytest.fixture
def made(tmp_path: Path) -> Path:
    """An output with a file at the top and two in a folder."""
    with outputs.atomic_output(tmp_path / "out", {"stage": "demo"}) as building:
        (building / "top").write_text("top")
        (building / "in").mkdir()
        for name in "ab":
            (building / "in" / name).write_text(name)
    return tmp_path / "out"


def test_a_whole_output_has_no_problem(made: Path) -> None:
    assert outputs.problem(made) == outputs.problem(made, thorough=True) == ""
    assert outputs.differences(made) == []
    assert outputs.problem(made.with_name("none")) == "output missing"


def test_touched_or_copied_files_are_read_again_and_found_the_same(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.utime(str(made / "top"), (1, 1))
    copy = made.with_name("copy")
    shutil.copytree(str(made), str(copy))
    for folder in (made, copy):
        assert outputs.problem(folder) == ""
        outputs.remember(folder)
        with monkeypatch.context() as patch:
            patch.setattr(outputs, "hash_file", None)  # nothing is read any more
            assert outputs.problem(folder) == ""


@pytest.mark.parametrize("name", ["top", "in/a"])
def test_an_edited_output_is_noticed(made: Path, name: str) -> None:
    (made / name).write_text("edited")
    assert outputs.problem(made) == "content differs from manifest: " + name


def test_digests_are_read_from_the_listing_while_it_holds(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = outputs.hash_files(made)
    with monkeypatch.context() as patch:
        patch.setattr(outputs, "hash_files", None)  # is not called
        assert outputs.digests(made) == wanted
    (made / "top").write_text("other")
    assert outputs.digests(made)["top"] == hashlib.sha256(b"other").hexdigest()


def test_missing_and_additional_files_are_noticed(made: Path) -> None:
    (made / "in" / "a").unlink()
    (made / "in" / "c").write_text("")
    assert outputs.problem(made) == "content differs from manifest: in/a, in/c"


def test_an_edit_of_the_same_size_and_time_is_noticed_by_reading_all(made: Path) -> None:
    before = (made / "top").stat()
    (made / "top").write_text("pot")
    os.utime(str(made / "top"), ns=(before.st_atime_ns, before.st_mtime_ns))
    assert outputs.differences(made) == ["top"]


def test_an_edit_among_many_files_is_noticed_where_all_are_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outputs, "MANY", 2)
    folder = tmp_path / "out"
    with outputs.atomic_output(folder, {}) as building:
        (building / "in").mkdir()
        for name in "abc":
            (building / "in" / name).write_text(name)
    assert outputs.read_manifest(folder)["folders"] == {"in": 3}
    (folder / "in" / "a").write_text("A")
    assert outputs.problem(folder) == ""
    assert outputs.problem(folder, thorough=True) == "content differs from manifest: in/a"
    outputs.forget(folder)
    assert outputs.problem(folder) == "content differs from manifest: in/a"
    (folder / "in" / "d").write_text("d")
    assert outputs.problem(folder) == "content differs from manifest: in/a, in/d"


def test_looking_at_an_output_changes_nothing(made: Path) -> None:
    os.utime(str(made / "top"), (1, 1))
    before = {path: path.stat().st_mtime_ns for path in made.rglob("*")}
    assert outputs.problem(made) == ""
    assert {path: path.stat().st_mtime_ns for path in made.rglob("*")} == before


def test_a_manifest_of_a_newer_version_is_an_error(made: Path) -> None:
    (made / outputs.MANIFEST).write_text('{"schema": 99}')
    with pytest.raises(StageError, match=r"newer version of this program \(schema 99, this one knows \d+\)"):
        outputs.problem(made)


def test_a_truncated_manifest_is_a_problem(made: Path) -> None:
    text = (made / outputs.MANIFEST).read_text()
    (made / outputs.MANIFEST).write_text(text[: len(text) // 2])
    assert outputs.problem(made) == "manifest cannot be read"


def test_an_output_can_be_replaced_and_stays_until_then(made: Path) -> None:
    with outputs.atomic_output(made, {}, replace=True) as building:
        (building / "b.txt").write_text("new")
        assert (made / "top").read_text() == "top"
    assert sorted(outputs.hash_files(made)) == ["b.txt"]
    assert [path.name for path in made.parent.iterdir()] == ["out"]
    (made.parent / "alias").symlink_to("out")
    with outputs.atomic_output(made.parent / "alias", {}, replace=True) as building:
        (building / "c.txt").write_text("other")
    assert not (made.parent / "alias").is_symlink()
    assert sorted(outputs.hash_files(made)) == ["b.txt"]


def test_two_processes_may_write_the_same_json(tmp_path: Path) -> None:
    outputs.write_json(tmp_path / "a.json", {"a": 1})
    assert json.loads((tmp_path / "a.json").read_text()) == {"a": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


def test_a_failure_leaves_no_output(tmp_path: Path) -> None:
    def fail() -> None:
        with outputs.atomic_output(tmp_path / "out", {}) as building:
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


@pytest.mark.parametrize("name", ["config", "inputs", "key"])
def test_an_attempt_is_not_gone_on_from_with_other_settings_or_inputs(tmp_path: Path, name: str) -> None:
    def attempt(value: int) -> None:
        with outputs.atomic_output(tmp_path / "out", {name: {"a": value}}, keep=True) as building:
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
    make(tmp_path / "out")
    with pytest.raises(StageError, match="exists already"):
        make(tmp_path / "out", "other")
    assert (tmp_path / "out" / "a.txt").read_text() == "hello"


def test_a_full_disk_or_a_file_in_the_way_is_an_error_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StageError, match=r"file/out.building: cannot be written: Not a directory"):
        make(tmp_path / "file" / "out")

    def full() -> None:
        with outputs.atomic_output(tmp_path / "out", {}) as building, open("/dev/full", "w") as stream:
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


def test_a_manifest_names_configuration_inputs_and_commit(tmp_path: Path) -> None:
    make(tmp_path / "before")
    manifest = outputs.manifest("train", config.Config(), {"convert": tmp_path / "before"}, {"key": "k"})
    assert manifest["inputs"]["convert"]["content"] == outputs.read_manifest(tmp_path / "before")["content"]
    assert manifest["key"] == "k"
    assert json.loads(json.dumps(manifest))["config"]["train"]["seed"] == 1234
    assert manifest["git"] is None or (
        len(manifest["git"]["commit"]) == 40 and manifest["git"]["clean"] in (True, False)
    )
