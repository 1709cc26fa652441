"""`Accept`, on the toy pipeline."""

import pytest

from fse.errors import DataError
from fse.runtime.manifests import read_manifest
from tasks.commands.accept import Accept
from tasks.commands.lineage import Lineage
from tests.tasks import toy
from tests.tasks.commands.helpers import Execute


def test_outputs_of_older_code_are_accepted(execute: Execute) -> None:
    toy.run()
    toy.settings["third"] = 2
    toy.run()
    old = toy.folder()
    toy.sources["third"] = toy.sources["third"].replace("y // 2", "int(y / 2)")
    assert execute(Accept(reason="the same for small numbers")) == [
        "First            done",
        "Second           done",
        "Third            accepted: code of toy.code.helper changed",
    ]
    assert toy.run() == []
    assert toy.folder().resolve() == old
    (entry,) = read_manifest(old)["accepted"]
    assert entry["reason"] == "the same for small numbers"
    assert list(entry["code"]) == ["toy.code.helper"]
    toy.settings["third"] = 1  # an output that the same code made, for other settings
    assert toy.run() == []
    toy.sources["third"] = toy.sources["third"].replace("int(y / 2)", "y // 2")
    assert toy.run() == []
    assert "accepted" in "\n".join(execute(Lineage(artifact=old.name)))


def test_only_changes_of_code_are_accepted(execute: Execute) -> None:
    toy.run()
    toy.sources["second"] = "def second(x, y):\n    return y\n"
    toy.settings["second"] = 2
    assert execute(Accept(reason="why not"))[1:] == [
        "Second           not accepted: toy.second 1 → 2, code of toy.code.second changed",
        "Third            not accepted: an input is missing",
    ]
    assert toy.run() == ["second", "third"]
    with pytest.raises(DataError, match="say why"):
        Accept(reason=" ").act()


def test_an_edited_output_is_not_accepted(execute: Execute) -> None:
    toy.run()
    (toy.folder() / "number").write_text("99")
    toy.sources["third"] = toy.sources["third"].replace("y // 2", "int(y / 2)")
    lines = execute(Accept(reason="the same"))
    assert lines[2] == "Third            not accepted: content differs from manifest: number"
    assert toy.run() == ["third"]


def test_an_accepted_output_can_be_forced_and_accepted_again(execute: Execute) -> None:
    toy.run()
    for number in (3, 4):
        toy.sources["third"] = toy.sources["third"].replace(f"y // {number - 1}", f"y // {number}")
        execute(Accept(reason="again"))
        assert toy.run() == []
    assert len(read_manifest(toy.folder())["accepted"]) == 2
    assert toy.number() == 7
    assert toy.run(force=True) == ["third"]
    assert toy.number() == 4
