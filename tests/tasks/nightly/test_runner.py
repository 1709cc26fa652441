"""What a run of a night asks of the pipeline, and what it makes of how that ended."""

from pathlib import Path
from typing import Any, List

import pytest

from fse.errors import MachineError, StageError
from tasks import child_process
from tasks.nightly import runner
from tasks.nightly.settings import Run


def asked(kind: str, error: StageError, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The command of a run, which ends with an error, and what is made of that."""
    commands: List[List[str]] = []

    def run(command: List[str], log: Path) -> None:
        commands.append(command)
        raise error

    monkeypatch.setattr(child_process, "run", run)
    played = runner.run(Run("a", kind, "", "", (1,), {}), "train.seed=1", folder, 7, folder / "log", folder)
    return commands[0], played


def ended(code: int) -> StageError:
    error = StageError("so it ended")
    error.code = code
    return error


@pytest.mark.parametrize(("kind", "flags"), [("accuracy", []), ("performance", ["--Export-force", "--Evaluate-force"])])
def test_what_is_measured_is_run(kind: str, flags: List[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    command, _ = asked(kind, ended(30), tmp_path, monkeypatch)
    assert [argument for argument in command if argument.endswith("-force")] == flags
    assert command[-2:] == ["--Train-device-wait", "7"]


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (ended(30), "failed"),
        (ended(1), "failed"),
        (ended(20), "no-data"),
        (ended(50), "infrastructure"),
        (ended(55), "infrastructure"),
        (ended(58), "infrastructure"),
        (MachineError("killed"), "infrastructure"),
    ],
)
def test_whose_fault_it_was(error: StageError, outcome: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert asked("accuracy", error, tmp_path, monkeypatch)[1].outcome == outcome


def test_an_output_that_is_made_again_is_another(tmp_path: Path) -> None:
    assert runner._inodes(tmp_path / "nothing") == {}
    (tmp_path / "key").mkdir()
    before = runner._inodes(tmp_path)
    assert runner._inodes(tmp_path) == before
    (tmp_path / "key.building").mkdir()
    (tmp_path / "key").rename(tmp_path / "key.old")
    (tmp_path / "key.building").rename(tmp_path / "key")
    assert runner._inodes(tmp_path)["key"] != before["key"]
