"""A run that is stopped at any moment leaves nothing behind but work that the next run goes on with."""

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Any, List

import pytest

from benchmarks import kill_test
from tests.pipeline.program import command, environment

pytestmark = pytest.mark.slow

LONG = "train.steps=100000,train.save_freq=5,train.seed=2"


def begin(folder: Path, *more: str) -> "subprocess.Popen[bytes]":
    """Starts a long training."""
    marked = dict(environment(folder), FSE_KILL_TEST=str(folder))
    arguments = ["Train", "--config", "tiny.toml", "--set", LONG, *more]
    with open(str(folder / "log"), "wb") as log:
        return subprocess.Popen(command(*arguments), cwd=str(folder), env=marked, stdout=log, stderr=log)


def checkpoints(folder: Path, least: int = 1) -> List[Path]:
    """The checkpoints of the unfinished training, once there are some."""
    deadline = time.monotonic() + 180
    found: List[Path] = []
    while len(found) < least and time.monotonic() < deadline:
        time.sleep(0.1)
        found = sorted(folder.glob("workspace/artifacts/Train/*.building/checkpoints/*.index"))
    assert found, (folder / "log").read_text()
    return found


@pytest.fixture
def copy(finished: Path, tmp_path: Path) -> Path:
    shutil.copytree(str(finished), str(tmp_path / "copy"), symlinks=True)
    return tmp_path / "copy"


@pytest.mark.parametrize(
    ("way", "more"),
    [
        (signal.SIGKILL, []),
        (signal.SIGTERM, []),
        (signal.SIGINT, []),
        (signal.SIGKILL, ["--workers", "2"]),
        (signal.SIGTERM, ["--workers", "2"]),
        (signal.SIGINT, ["--workers", "2"]),
    ],
)
def test_a_stopped_run_leaves_no_process_no_lock_and_no_half_output(copy: Path, way: int, more: List[str]) -> None:
    run = begin(copy, *more)
    checkpoints(copy)
    assert len(kill_test.processes(copy)) >= 2
    os.kill(run.pid, way)
    assert run.wait(10) == (130 if way == signal.SIGINT else -way)
    assert kill_test.problems(copy) == []
    assert "Traceback" not in (copy / "log").read_text()


def test_luigis_own_timeout_leaves_nothing_either(copy: Path) -> None:
    run = begin(copy, "--worker-timeout", "12")
    assert run.wait(180) == 30
    assert kill_test.problems(copy) == []


def test_the_next_run_goes_on_from_the_last_checkpoint_that_can_be_read(copy: Path) -> None:
    run = begin(copy)
    newest = checkpoints(copy, least=3)
    run.kill()
    run.wait(10)
    assert kill_test.problems(copy) == []
    steps = sorted(int(path.stem.split("-")[1]) for path in newest[0].parent.glob("*.index"))
    data = newest[0].parent / f"model-{steps[-1]}.data-00000-of-00001"
    data.write_bytes(data.read_bytes()[:100])
    run = begin(copy)
    deadline = time.monotonic() + 180
    while "going on from step" not in (copy / "log").read_text() and time.monotonic() < deadline:
        time.sleep(0.1)
    run.kill()
    run.wait(10)
    said = (copy / "log").read_text()
    assert "Train: started: it was interrupted" in said
    assert f"model-{steps[-1]} cannot be read" in said
    assert "trying the one before" in said
    assert f"going on from step {steps[-2]} of 100000" in said


def test_random_stops_change_nothing_in_what_comes_out(tmp_path: Path, monkeypatch: Any, capsys: Any) -> None:
    """A few; benchmarks/kill_test.py does thirty."""
    monkeypatch.setattr("sys.argv", ["kill_test.py", "--moments", "3", "--seed", "1"])
    assert kill_test.main() == 0, capsys.readouterr().out
