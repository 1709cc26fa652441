"""Child processes that end with the process that started them: programs with a bound, and work on a list in parallel."""

import collections
import contextlib
import ctypes
import itertools
import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
import threading
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import IO, Any, Callable, Deque, Iterable, Iterator, List, NamedTuple, Optional, Sequence

from fse.errors import StageError

# Starting a process takes as long as this many images: fewer are not worth it.
FEW = 64

# Of what a program says, so much is kept.
_MAX_BYTES = 1 << 20

_PR_SET_PDEATHSIG = 1


class Ended(NamedTuple):
    """How a program ended: its exit code, None if it was stopped for want of time, and what it wrote.

    output: standard output. errors: standard error. The last mebibyte of each.
    """

    code: Optional[int]
    output: str
    errors: str


def run(command: List[str], seconds: float) -> Ended:
    """Runs a program that may hang, and stops it and whatever it started after so many seconds.

    Raises:
      OSError: it cannot be started.
    """
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:  # a pipe could be held open by others
        child = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=errors,
            start_new_session=True,
            preexec_fn=die_with_parent,
        )
        code: Optional[int] = None
        try:
            code = child.wait(seconds)
        except subprocess.TimeoutExpired:
            pass
        finally:
            if code is None:
                os.killpg(child.pid, signal.SIGKILL)
                child.wait()
        return Ended(code, _tail(output), _tail(errors))


@contextlib.contextmanager
def after(seconds: float, act: Callable[[], Any]) -> Iterator[None]:
    """Acts, in a thread of its own, if the block takes longer than so many seconds."""
    timer = threading.Timer(seconds, act)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def failure(code: int, said: Sequence[str]) -> str:
    """Why a program of ours failed, in one line: the last error that it told, its signal, or its exit code and last words.

    Args:
      code: its exit code, below zero a signal's number.
      said: what it printed, line by line.
    """
    errors = [line[len("error: ") :] for line in said if line.startswith("error: ")]
    if errors:
        return errors[-1]
    if code < 0:
        return f"it was ended by signal {signal.Signals(-code).name}"
    return "it ended with exit code {}; {}".format(code, said[-1] if said else "it said nothing")


def _tail(stream: IO[bytes]) -> str:
    size = stream.seek(0, os.SEEK_END)
    stream.seek(max(0, size - _MAX_BYTES))
    return stream.read().decode(errors="replace")


def die_with_parent(parent: int = 0) -> None:
    """Has the kernel kill this process when its parent ends, however that ends (on Linux; elsewhere does nothing).

    To the kernel the parent is the *thread* that started this process.

    Args:
      parent: process id of the parent. If it is given and the parent has already ended, this process ends at once.
    """
    if sys.platform != "linux":
        return
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if parent and os.getppid() != parent:
        os._exit(1)


def ordered_map(
    function: Callable[[Any], Any], items: Iterable[Any], processes: int, task: str, chunk: int = FEW // 2
) -> Iterator[Any]:
    """`function` of every item, in the items' order, computed in parallel.

    Items are taken as they are needed, so neither they nor the results are ever all in memory. Processes are spawned, not
    forked (a fork of a process with threads may hang). Fewer than two chunks are worked on right here. When it ends early,
    all processes that `multiprocessing` has started here are ended.

    Args:
      function: what a spawned process can import: a top-level function, or a `functools.partial` of one.
      items: what can be pickled, as can the results.
      processes: how many; 0 is one per processor.
      task: what is done, for the error message.
      chunk: items that a process is given at a time.

    Raises:
      StageError: a process was killed.
    """
    items = iter(items)
    processes = processes or os.cpu_count() or 1
    first = list(itertools.islice(items, max(2, processes) * chunk))
    items = itertools.chain(first, items)
    if processes == 1 or len(first) < 2 * chunk:
        yield from map(function, items)
        return
    processes = min(processes, -(-len(first) // chunk))
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, context, initializer=_begin, initargs=(os.getpid(),)) as pool:
        given: Deque[Any] = collections.deque()
        try:
            for part in iter(lambda: list(itertools.islice(items, chunk)), []):
                given.append(pool.submit(_each, function, part))
                if len(given) > 2 * processes:
                    yield from given.popleft().result()
            while given:
                yield from given.popleft().result()
        except BrokenProcessPool:
            raise StageError(
                f"{task}: one of {processes} processes was killed, perhaps for want of memory; use fewer processes"
            ) from None
        except BaseException:  # an interrupt, say: what is being worked on is wanted no more, and may take long
            for future in given:
                future.cancel()
            for child in multiprocessing.active_children():
                child.terminate()
            raise


def _each(function: Callable[[Any], Any], items: List[Any]) -> List[Any]:
    return [function(item) for item in items]


def _begin(parent: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent deals with it
    die_with_parent(parent)
