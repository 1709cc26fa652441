"""`Lineage`, on the toy pipeline."""

from pathlib import Path

import pytest

from fse.errors import DataError
from tasks.commands.lineage import Lineage
from tests.tasks import toy
from tests.tasks.commands.helpers import Execute


def test_lineage_goes_back_to_the_first_stage(execute: Execute) -> None:
    toy.run()
    for artifact in (str(toy.folder()), str(toy.folder() / "number"), toy.folder().name[:8]):
        lines = execute(Lineage(artifact=artifact))
        assert [line.strip().split()[0] for line in lines if " made " in line] == ["third", "second", "first"]
        assert "        toy.first = 7" in lines
    link = Path("workspace/synthetic/stages/Third")
    assert execute(Lineage(artifact=str(link))) == lines


def test_lineage_says_that_an_input_was_rebuilt(execute: Execute) -> None:
    toy.sources["first"] = "def first(x):\n    import time\n    return time.time_ns()\n"
    toy.run("second")
    old = toy.folder("second")
    toy.run("first", force=True)
    assert execute(Lineage(artifact=str(old)))[2] == "  (rebuilt since then, with different content:)"


@pytest.mark.parametrize("artifact", ["", "nowhere", "workspace"])
def test_an_unknown_artifact_is_an_error(artifact: str, toy_full_run: None) -> None:
    toy.run()
    with pytest.raises(DataError, match="no output of this workspace"):
        Lineage(artifact=artifact).act()
