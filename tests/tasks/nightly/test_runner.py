"""The command of a run, and the outcome that follows from its exit code."""

from pathlib import Path
from typing import List, Tuple

import pytest

from fse.errors import MachineError, StageError
from tasks import child_process
from tasks.nightly import runner
from tasks.nightly.config import RunConfig
from tasks.nightly.night import RunOutcome


def execute(
    kind: str, error: StageError, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> Tuple[List[str], RunOutcome]:
    """Execute a run whose child process fails with an error; return the command and the outcome."""
    commands: List[List[str]] = []

    def run(command: List[str], log: Path) -> None:
        commands.append(command)
        raise error

    monkeypatch.setattr(child_process, "run", run)
    run_config = RunConfig("a", kind, "", "", (1,), {})
    outcome = runner.execute(run_config, "train.seed=1", folder, 7, folder / "log", folder)
    return commands[0], outcome


def error_with_code(code: int) -> StageError:
    error = StageError("failed")
    error.code = code
    return error


@pytest.mark.parametrize(("kind", "flags"), [("accuracy", []), ("performance", ["--Export-force", "--Evaluate-force"])])
def test_a_performance_run_reruns_the_stages_that_it_measures(
    kind: str, flags: List[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command, _ = execute(kind, error_with_code(30), tmp_path, monkeypatch)
    assert [argument for argument in command if argument.endswith("-force")] == flags
    assert command[-2:] == ["--Train-device-wait", "7"]


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (error_with_code(30), "failed"),
        (error_with_code(1), "failed"),
        (error_with_code(20), "no-data"),
        (error_with_code(50), "infrastructure"),
        (error_with_code(55), "infrastructure"),
        (error_with_code(58), "infrastructure"),
        (MachineError("killed"), "infrastructure"),
    ],
)
def test_the_exit_code_tells_code_data_and_machine_apart(
    error: StageError, outcome: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert execute("accuracy", error, tmp_path, monkeypatch)[1].outcome == outcome


def test_an_output_that_is_made_again_has_another_inode(tmp_path: Path) -> None:
    assert runner._inodes(tmp_path / "nothing") == {}
    (tmp_path / "key").mkdir()
    before = runner._inodes(tmp_path)
    assert runner._inodes(tmp_path) == before
    (tmp_path / "key.building").mkdir()
    (tmp_path / "key").rename(tmp_path / "key.old")
    (tmp_path / "key.building").rename(tmp_path / "key")
    assert runner._inodes(tmp_path)["key"] != before["key"]
