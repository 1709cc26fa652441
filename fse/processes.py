"""Work on a list in parallel processes that end with the process that started them."""

import ctypes
import multiprocessing
import os
import signal
import sys
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any, Callable, Iterator, Sequence

from fse.errors import StageError

# Starting a process takes as long as this many pictures.
FEW = 64

_PR_SET_PDEATHSIG = 1


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


def in_order(function: Callable[[Any], Any], items: Sequence[Any], processes: int, task: str) -> Iterator[Any]:
    """`function` of every item, in the items' order, computed in parallel.

    Processes are spawned, not forked (a fork of a process with threads may hang). Few items are worked on right here.

    Args:
      function: what a spawned process can import: a top-level function, or a `functools.partial` of one.
      items: what can be pickled, as can the results.
      processes: how many; 0 is one per processor.
      task: what is done, for the error message.

    Raises:
      StageError: a process was killed.
    """
    processes = processes or os.cpu_count() or 1
    if processes == 1 or len(items) < FEW:
        yield from map(function, items)
        return
    chunk = max(1, min(32, len(items) // (4 * processes)))
    processes = min(processes, -(-len(items) // chunk))
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, context, initializer=_begin, initargs=(os.getpid(),)) as pool:
        try:
            yield from pool.map(function, items, chunksize=chunk)
        except BrokenProcessPool:
            raise StageError(
                "{}: one of {} processes was killed, perhaps for want of memory; use fewer processes".format(
                    task, processes
                )
            ) from None


def _begin(parent: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent deals with it
    die_with_parent(parent)
