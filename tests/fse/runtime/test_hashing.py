from pathlib import Path
from typing import Any, Dict

from fse.runtime import integrity
from fse.runtime.manifests import read_manifest
from fse.runtime.outputs import atomic_output


def write_output(output: Path, text: str = "hello", **options: Any) -> None:
    with atomic_output(output, {"stage": "demo"}, **options) as building:
        (building / "a.txt").write_text(text)


def test_the_content_hash_depends_only_on_names_and_contents(tmp_path: Path) -> None:
    for name, text in (("one", "x"), ("two", "x"), ("three", "y")):
        write_output(tmp_path / name, text)
    one, two, three = (read_manifest(tmp_path / name)["content"] for name in ("one", "two", "three"))
    assert one == two != three


def content_of(output: Path, files: Dict[str, str]) -> str:
    volatile = {"logs/*": (), "a.json": ("seconds",), "b.csv": ("speed", "seconds")}
    with atomic_output(output, {}, volatile=volatile) as building:
        (building / "logs").mkdir()
        for name, text in files.items():
            (building / name).write_text(text)
    return str(read_manifest(output)["content"])


def test_the_content_hash_ignores_volatile_parts(tmp_path: Path) -> None:
    files = {"logs/x": "1", "a.json": '{"seconds": 1, "loss": 2}', "b.csv": "step,speed\n1,20\n", "c": "c"}
    same = {"logs/y": "2", "a.json": '{"loss": 2, "seconds": 3}', "b.csv": "step,speed\n1,30\n", "c": "c"}
    first = content_of(tmp_path / "first", files)
    assert content_of(tmp_path / "same", same) == first
    for name, text in (("a.json", '{"loss": 3}'), ("b.csv", "step,speed\n2,20\n"), ("c", "d")):
        assert content_of(tmp_path / name, dict(files, **{name: text})) != first
    (tmp_path / "same" / "logs" / "y").write_text("changed")
    assert (
        integrity.problem(tmp_path / "same") == "content differs from manifest: logs/y"
    )  # the listing covers volatile files too
