import multiprocessing
import os
import signal
import time
from pathlib import Path
from typing import Any, Callable, Iterator

import pytest

from fse.errors import StageError
from fse.runtime import processes


def _square(number: int) -> int:
    return number * number


def _die(number: int) -> int:
    if number == 40:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def _fail(number: int) -> None:
    raise OSError(28, "No space left on device", "a.png")


def test_results_are_in_the_order_of_the_items() -> None:
    assert list(processes.ordered_map(_square, range(200), 2, "squares")) == [number * number for number in range(200)]
    assert list(processes.ordered_map(_square, range(5), 0, "squares")) == [0, 1, 4, 9, 16]


def test_items_are_read_only_as_results_are_consumed() -> None:
    taken = []

    def items() -> Iterator[int]:
        for number in range(100):
            taken.append(number)
            yield number

    results: Any = processes.ordered_map(_square, items(), 2, "squares", chunk=4)
    assert next(results) == 0
    assert len(taken) < 40
    results.close()
    assert len(taken) < 40


def _slow(number: int) -> None:
    time.sleep(60.0 if number else 0.0)


def test_closing_the_results_ends_running_work() -> None:
    results: Any = processes.ordered_map(_slow, range(4), 2, "test", chunk=1)
    next(results)
    began = time.monotonic()
    results.close()
    assert time.monotonic() - began < 30.0


def test_a_killed_process_is_an_error() -> None:
    with pytest.raises(StageError, match="test: one of 2 processes was killed"):
        list(processes.ordered_map(_die, range(100), 2, "test"))


def test_errors_are_raised_in_the_parent() -> None:
    with pytest.raises(OSError, match="No space left on device"):
        list(processes.ordered_map(_fail, range(100), 2, "test"))


def _write_pid_and_sleep(path: str) -> None:
    processes.die_with_parent()
    Path(path).write_text(str(os.getpid()))
    time.sleep(60)


def _parent(path: str) -> None:
    child = multiprocessing.get_context("spawn").Process(target=_write_pid_and_sleep, args=(path,))
    child.start()
    time.sleep(60)


def _wait_for(condition: Callable[[], Any]) -> bool:
    for _ in range(600):
        if condition():
            return True
        time.sleep(0.05)
    return False


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="only Linux signals the death of a parent process")
def test_children_die_with_their_parent(tmp_path: Path) -> None:
    path = tmp_path / "pid"
    parent = multiprocessing.get_context("spawn").Process(target=_parent, args=(str(path),))
    parent.start()
    assert _wait_for(lambda: path.exists() and path.read_text())
    stat = Path("/proc") / path.read_text() / "stat"
    assert stat.exists()
    parent.kill()
    parent.join(10)
    assert _wait_for(lambda: not stat.exists() or stat.read_text().rsplit(")", 1)[1].split()[0] == "Z")
    parent.close()
