"""A run that is killed at any moment leaves nothing behind but work that the next run resumes."""

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import List

import pytest

from benchmarks import kill_test
from tests.pipeline.program import command, environment

pytestmark = pytest.mark.slow

LONG = "train.steps=100000,train.save_freq=5,train.seed=2"


def begin(folder: Path, *options: str) -> "subprocess.Popen[bytes]":
    """Start a long training."""
    marked = dict(environment(folder), FSE_KILL_TEST=str(folder))
    arguments = ["Train", "--config", "tiny.toml", "--set", LONG, *options]
    with open(str(folder / "log"), "wb") as log:
        return subprocess.Popen(command(*arguments), cwd=str(folder), env=marked, stdout=log, stderr=log)


def checkpoints(folder: Path, minimum: int = 1) -> List[Path]:
    """Wait until the unfinished training has at least `minimum` checkpoints, and return them."""
    deadline = time.monotonic() + 180
    paths: List[Path] = []
    while len(paths) < minimum and time.monotonic() < deadline:
        time.sleep(0.1)
        paths = sorted(folder.glob("workspace/artifacts/Train/*.building/checkpoints/*.index"))
    assert paths, (folder / "log").read_text()
    return paths


@pytest.fixture
def copy(finished: Path, tmp_path: Path) -> Path:
    shutil.copytree(str(finished), str(tmp_path / "copy"), symlinks=True)
    return tmp_path / "copy"


@pytest.mark.parametrize(
    ("number", "options"),
    [
        (signal.SIGKILL, []),
        (signal.SIGTERM, []),
        (signal.SIGINT, []),
        (signal.SIGKILL, ["--workers", "2"]),
        (signal.SIGTERM, ["--workers", "2"]),
        (signal.SIGINT, ["--workers", "2"]),
    ],
)
def test_a_stopped_run_leaves_no_process_no_lock_and_no_half_output(
    copy: Path, number: int, options: List[str]
) -> None:
    run = begin(copy, *options)
    checkpoints(copy)
    assert len(kill_test.processes(copy)) >= 2
    os.kill(run.pid, number)
    assert run.wait(10) == (130 if number == signal.SIGINT else -number)
    assert kill_test.problems(copy) == []
    assert "Traceback" not in (copy / "log").read_text()


def test_luigis_worker_timeout_leaves_nothing_behind(copy: Path) -> None:
    run = begin(copy, "--worker-timeout", "12")
    assert run.wait(180) == 30
    assert kill_test.problems(copy) == []


def test_the_next_run_resumes_from_the_newest_readable_checkpoint(copy: Path) -> None:
    run = begin(copy)
    newest = checkpoints(copy, minimum=3)
    run.kill()
    run.wait(10)
    assert kill_test.problems(copy) == []
    steps = sorted(int(path.stem.split("-")[1]) for path in newest[0].parent.glob("*.index"))
    data = newest[0].parent / f"model-{steps[-1]}.data-00000-of-00001"
    data.write_bytes(data.read_bytes()[:100])
    run = begin(copy)
    deadline = time.monotonic() + 180
    while "resuming from step" not in (copy / "log").read_text() and time.monotonic() < deadline:
        time.sleep(0.1)
    run.kill()
    run.wait(10)
    log = (copy / "log").read_text()
    assert "Train: started: an earlier attempt was interrupted" in log
    assert f"model-{steps[-1]} cannot be read" in log
    assert "trying the one before" in log
    assert f"resuming from step {steps[-2]} of 100000" in log


@pytest.mark.parametrize("moments", [1, pytest.param(3, marks=pytest.mark.long)])
def test_random_kills_do_not_change_the_results(
    moments: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A few kills; benchmarks/kill_test.py makes thirty by default."""
    monkeypatch.setattr("sys.argv", ["kill_test.py", "--moments", str(moments), "--seed", "1"])
    assert kill_test.main() == 0, capsys.readouterr().out
