"""Nights that are killed at any moment: the history is readable, no lock is left, and this or the next night resumes."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmarks import kill_test
from tasks.nightly.history import History
from tests.pipeline.program import STAGES, TINY, environment
from tests.pipeline.test_nightly import NIGHTLY, run_night, verdict

pytestmark = pytest.mark.slow

# The real program, in which a function kills the process group when it is called for the n-th time: `killed` wraps a function
# and kills before it runs, `killed_at_its_end` wraps a context manager and kills before its block ends.
PROGRAM = """
import contextlib, importlib, os, signal, sys

def kill():
    os.killpg(0, signal.SIGKILL)

def killed(function, calls):
    def wrapper(*arguments, **more):
        calls.append(None)
        if len(calls) == {calls}:
            kill()
        return function(*arguments, **more)
    return wrapper

def killed_at_its_end(function, calls):
    @contextlib.contextmanager
    def wrapper(*arguments, **more):
        with function(*arguments, **more) as value:
            yield value
            calls.append(None)
            if len(calls) == {calls}:
                kill()
    return wrapper

module, _, names = "{where}".partition(":")
holder = importlib.import_module(module)
*outer, name = names.split(".")
for part in outer:
    holder = getattr(holder, part)
setattr(holder, name, {way}(getattr(holder, name), []))
from luigi.cmdline import luigi_run
luigi_run()
"""


def begin(
    folder: Path, date: str, program: str = "from luigi.cmdline import luigi_run; luigi_run()"
) -> "subprocess.Popen[bytes]":
    """Start a night in a process group of its own."""
    variables = dict(environment(folder), FSE_KILL_TEST=str(folder))
    command = [sys.executable, "-c", program, "--module", "pipeline", "NightlyRegression", "--config", "n.toml"]
    with open(folder / "log", "ab") as log:
        return subprocess.Popen(
            [*command, "--date", date], cwd=str(folder), env=variables, stdout=log, stderr=log, start_new_session=True
        )


def kill_when_file_exists(folder: Path, date: str, pattern: str) -> None:
    """Run a night until a file in the workspace matches a pattern, and kill it."""
    run = begin(folder, date)
    deadline = time.monotonic() + 180
    while not list(folder.glob("workspace/" + pattern)) and time.monotonic() < deadline:
        time.sleep(0.02)
    os.killpg(run.pid, signal.SIGKILL)
    assert run.wait(10) == -signal.SIGKILL, (folder / "log").read_text()


def kill_in_function(folder: Path, date: str, where: str, calls: int = 1, way: str = "killed") -> None:
    """Run a night until a function `module:name` is called for the n-th time, and kill it there."""
    run = begin(folder, date, PROGRAM.format(where=where, calls=calls, way=way))
    assert run.wait(180) == -signal.SIGKILL, (folder / "log").read_text()


def stored_verdict(folder: Path, date: str) -> str:
    """Check that a killed night left no process and no lock; return its verdict in the history, or `none`."""
    assert kill_test.problems(folder) == []
    record = History(folder / "workspace" / "nightly" / "n" / "history.sqlite").record(date)
    return "none" if record is None else str(record["verdict"])


def test_killed_nights_resume(tmp_path: Path) -> None:
    (tmp_path / "tiny.toml").write_text(TINY.replace("steps = 6\nsave_freq = 2", "steps = 200\nsave_freq = 20"))
    (tmp_path / "n.toml").write_text(NIGHTLY)
    first, second = "2026-01-01", "2026-01-02"
    transaction = "tasks.nightly.history:History._transaction"

    kill_in_function(tmp_path, first, transaction, 1, "killed_at_its_end")  # while the history is created
    assert stored_verdict(tmp_path, first) == "none"
    kill_in_function(tmp_path, first, transaction, 2, "killed_at_its_end")  # while the night is stored
    assert stored_verdict(tmp_path, first) == "none"
    kill_when_file_exists(tmp_path, first, "artifacts/AlignCrop/*.building")
    assert stored_verdict(tmp_path, first) == ""

    # The next night starts before the first one resumed.
    kill_when_file_exists(tmp_path, second, "artifacts/Train/*.building/checkpoints/*.index")
    assert stored_verdict(tmp_path, second) == ""
    assert stored_verdict(tmp_path, first) == verdict(tmp_path, first)["verdict"] == "infrastructure"
    kill_when_file_exists(tmp_path, second, "artifacts/Evaluate/*.building")
    assert stored_verdict(tmp_path, second) == ""
    kill_in_function(tmp_path, second, transaction, 3, "killed_at_its_end")  # while the first run is stored
    assert stored_verdict(tmp_path, second) == ""
    kill_in_function(tmp_path, second, "tasks.nightly.gates:judge")
    assert stored_verdict(tmp_path, second) == ""
    kill_in_function(tmp_path, second, "tasks.nightly.verdict_file:write")
    assert stored_verdict(tmp_path, second) == "pass"
    assert not (tmp_path / "workspace" / "nightly" / "n" / second / "verdict.json").exists()
    kill_in_function(tmp_path, second, "tasks.nightly.page:write")
    assert verdict(tmp_path, second)["verdict"] == "pass"
    shown = run_night(tmp_path, second)
    assert shown.returncode == 0, shown.stderr
    assert "n 2026-01-02: pass" in shown.stdout
    assert "<h1>pass</h1>" in (tmp_path / "workspace" / "nightly" / "n" / "index.html").read_text()
    log = (tmp_path / "log").read_text()
    assert [log.count(stage + ": started") for stage in STAGES] == [1, 2, 1, 2, 1, 2, 1]
    assert "resuming from step" in log
