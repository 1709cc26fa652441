"""Nights that are killed as a whole at any moment: the history opens, no lock is left, and this night or the next goes on."""

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
from tests.pipeline.test_nightly import NIGHTLY, night, verdict

pytestmark = pytest.mark.slow

# The real program, of which one function, when it is called for the last of a number of times, kills all of it: before the
# function does anything, or, of a block, before it ends.
PROGRAM = """
import contextlib, importlib, os, signal, sys

def kill():
    os.killpg(0, signal.SIGKILL)

def killed(function, calls):
    def instead(*arguments, **more):
        calls.append(None)
        if len(calls) == {calls}:
            kill()
        return function(*arguments, **more)
    return instead

def killed_at_its_end(function, calls):
    @contextlib.contextmanager
    def instead(*arguments, **more):
        with function(*arguments, **more) as value:
            yield value
            calls.append(None)
            if len(calls) == {calls}:
                kill()
    return instead

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
    """Starts a night in a process group of its own."""
    marked = dict(environment(folder), FSE_KILL_TEST=str(folder))
    command = [sys.executable, "-c", program, "--module", "pipeline", "NightlyRegression", "--config", "n.toml"]
    with open(str(folder / "log"), "ab") as log:
        return subprocess.Popen(
            [*command, "--date", date], cwd=str(folder), env=marked, stdout=log, stderr=log, start_new_session=True
        )


def killed_when(folder: Path, date: str, pattern: str) -> None:
    """Plays a night until there are files of a pattern in the workspace, and kills it."""
    run = begin(folder, date)
    deadline = time.monotonic() + 180
    while not list(folder.glob("workspace/" + pattern)) and time.monotonic() < deadline:
        time.sleep(0.02)
    os.killpg(run.pid, signal.SIGKILL)
    assert run.wait(10) == -signal.SIGKILL, (folder / "log").read_text()


def killed_in(folder: Path, date: str, where: str, calls: int = 1, way: str = "killed") -> None:
    """Plays a night until a function is called for the last of some times, and kills it there."""
    run = begin(folder, date, PROGRAM.format(where=where, calls=calls, way=way))
    assert run.wait(180) == -signal.SIGKILL, (folder / "log").read_text()


def left(folder: Path, date: str) -> str:
    """The verdict that the history has of a night that was killed, once it is seen that nothing else is left."""
    assert kill_test.problems(folder) == []
    record = History(folder / "workspace" / "nightly" / "n" / "history.sqlite").record(date)
    return "none" if record is None else str(record["verdict"])


def test_killed_nights_go_on(tmp_path: Path) -> None:
    (tmp_path / "tiny.toml").write_text(TINY.replace("steps = 6\nsave_freq = 2", "steps = 200\nsave_freq = 20"))
    (tmp_path / "n.toml").write_text(NIGHTLY)
    first, second = "2026-01-01", "2026-01-02"
    changing = "tasks.nightly.history:History._changing"

    killed_in(tmp_path, first, changing, 1, "killed_at_its_end")  # while the history is made
    assert left(tmp_path, first) == "none"
    killed_in(tmp_path, first, changing, 2, "killed_at_its_end")  # while the night is entered
    assert left(tmp_path, first) == "none"
    killed_when(tmp_path, first, "artifacts/AlignCrop/*.building")
    assert left(tmp_path, first) == ""

    # The next night comes first.
    killed_when(tmp_path, second, "artifacts/Train/*.building/checkpoints/*.index")
    assert left(tmp_path, second) == ""
    assert left(tmp_path, first) == verdict(tmp_path, first)["verdict"] == "infrastructure"
    killed_when(tmp_path, second, "artifacts/Evaluate/*.building")
    assert left(tmp_path, second) == ""
    killed_in(tmp_path, second, changing, 3, "killed_at_its_end")  # while what was played is entered
    assert left(tmp_path, second) == ""
    killed_in(tmp_path, second, "tasks.nightly.gates:judge")
    assert left(tmp_path, second) == ""
    killed_in(tmp_path, second, "tasks.nightly.commands:NightlyRegression.write_verdict")
    assert left(tmp_path, second) == "pass"
    assert not (tmp_path / "workspace" / "nightly" / "n" / second / "verdict.json").exists()
    killed_in(tmp_path, second, "tasks.nightly.page:write")
    assert verdict(tmp_path, second)["verdict"] == "pass"
    shown = night(tmp_path, second)
    assert shown.returncode == 0, shown.stderr
    assert "n 2026-01-02: pass" in shown.stdout
    assert "<h1>pass</h1>" in (tmp_path / "workspace" / "nightly" / "n" / "index.html").read_text()
    said = (tmp_path / "log").read_text()
    assert [said.count(stage + ": started") for stage in STAGES] == [1, 2, 1, 2, 1, 2, 1]
    assert "going on from step" in said
