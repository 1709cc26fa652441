"""Child processes that end with their parent: programs with a time limit, and parallel maps."""

import collections
import contextlib
import ctypes
import itertools
import multiprocessing
import os
import signal
import subprocess
import tempfile
import threading
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import IO, Any, Callable, Deque, Iterable, Iterator, List, NamedTuple, Optional, Sequence

from fse.errors import StageError

# Starting a process takes as long as processing this many images; with fewer items, parallel work is slower.
MIN_PARALLEL_ITEMS = 64

# How many bytes of a program's output are kept.
_MAX_BYTES = 1 << 20

_PR_SET_PDEATHSIG = 1  # from <linux/prctl.h>


class ProgramResult(NamedTuple):
    """How a program ended, and the last mebibyte of what it printed."""

    code: Optional[int]  # the exit code; None if the time limit was exceeded
    output: str  # standard output
    errors: str  # standard error


def run(command: List[str], seconds: float) -> ProgramResult:
    """Run a program; after `seconds`, kill it and every process it started.

    Raises:
      OSError: the program cannot be started.
    """
    # Files, not pipes: a grandchild that keeps a pipe open would block the reader.
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
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
        return ProgramResult(code, _tail(output), _tail(errors))


@contextlib.contextmanager
def call_after(seconds: float, function: Callable[[], Any]) -> Iterator[None]:
    """Call a function in another thread if the block takes longer than `seconds`."""
    timer = threading.Timer(seconds, function)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def failure_message(code: int, lines: Sequence[str]) -> str:
    """Return in one line why one of this project's programs failed.

    That is its last error message, or else the signal that killed it, or else its exit code and last line.

    Args:
      code: the exit code; the negative number of a signal if one killed the program.
      lines: the lines that it printed.
    """
    errors = [line[len("error: ") :] for line in lines if line.startswith("error: ")]
    if errors:
        return errors[-1]
    if code < 0:
        return f"it was killed by signal {signal.Signals(-code).name}"
    return f"it ended with exit code {code}; " + (lines[-1] if lines else "it printed nothing")


def _tail(stream: IO[bytes]) -> str:
    """Return the end of a file as text."""
    size = stream.seek(0, os.SEEK_END)
    stream.seek(max(0, size - _MAX_BYTES))
    return stream.read().decode(errors="replace")


def die_with_parent(parent: int = 0) -> None:
    """Ask the kernel to kill this process when its parent ends, even if the parent is killed.

    For the kernel, the parent is the *thread* that started this process.

    Args:
      parent: process id of the parent, if known. If that process has already ended, this process exits at once.
    """
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if parent and os.getppid() != parent:
        os._exit(1)


def ordered_map(
    function: Callable[[Any], Any],
    items: Iterable[Any],
    processes: int,
    task: str,
    chunk: int = MIN_PARALLEL_ITEMS // 2,
) -> Iterator[Any]:
    """Yield the function's result for every item, in the items' order, computed in parallel processes.

    Items are read only as fast as results are consumed, so neither is ever completely in memory. Processes are spawned
    rather than forked, because the fork of a process with threads may hang. Fewer than two chunks of items are processed
    without a child process. If the caller stops early, every child process that `multiprocessing` started here is ended.

    Args:
      function: a top-level function, or a `functools.partial` of one; a spawned process must be able to import it.
      items: picklable values; the results must be picklable too.
      processes: number of processes; 0 is one per CPU core.
      task: what the work is, for the error message.
      chunk: number of items that are sent to a process at a time.

    Raises:
      StageError: a process was killed.
    """
    items = iter(items)
    processes = processes or os.cpu_count() or 1
    head = list(itertools.islice(items, max(2, processes) * chunk))
    items = itertools.chain(head, items)
    if processes == 1 or len(head) < 2 * chunk:
        yield from map(function, items)
        return
    processes = min(processes, -(-len(head) // chunk))  # rounded up
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, context, initializer=_initialize_worker, initargs=(os.getpid(),)) as pool:
        pending: Deque[Any] = collections.deque()
        try:
            for part in iter(lambda: list(itertools.islice(items, chunk)), []):
                pending.append(pool.submit(_map_chunk, function, part))
                if len(pending) > 2 * processes:  # enough to keep every process busy
                    yield from pending.popleft().result()
            while pending:
                yield from pending.popleft().result()
        except BrokenProcessPool:
            raise StageError(
                f"{task}: one of {processes} processes was killed, perhaps because memory ran out; use fewer processes"
            ) from None
        except BaseException:  # such as an interrupt: nobody needs the pending results, which may take long
            for future in pending:
                future.cancel()
            for child in multiprocessing.active_children():
                child.terminate()
            raise


def _map_chunk(function: Callable[[Any], Any], items: List[Any]) -> List[Any]:
    return [function(item) for item in items]


def _initialize_worker(parent: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole process group; the parent handles it
    die_with_parent(parent)
