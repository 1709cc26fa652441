import json
from pathlib import Path

import pytest

from fse.runtime.files import atomic_file, replace_symlink, write_json


def test_two_processes_may_write_the_same_json(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"a": 1})
    assert json.loads((tmp_path / "a.json").read_text()) == {"a": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("old")

    def fail() -> None:
        with atomic_file(tmp_path / "a", ".new") as temporary:
            assert temporary.name == "a.new"
            temporary.write_text("half")
            raise ValueError("stop")

    with pytest.raises(ValueError, match="stop"):
        fail()
    assert (tmp_path / "a").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_a_symbolic_link_is_created_relative_and_replaced(tmp_path: Path) -> None:
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        replace_symlink(tmp_path / "links" / "link", tmp_path / name)
        replace_symlink(tmp_path / "links" / "link", tmp_path / name)
        assert (tmp_path / "links" / "link").resolve() == tmp_path / name
        assert [path.name for path in (tmp_path / "links").iterdir()] == ["link"]
