"""Progress bars that are readable on a terminal and in a log file."""

import os
import sys
from typing import Any, Iterable, Optional

from tqdm import tqdm


def progress_bar(iterable: Optional[Iterable[Any]] = None, **options: Any) -> Any:
    """Return a tqdm progress bar on standard error.

    On a terminal it redraws its line twice a second. Otherwise it prints a line every 15 seconds. A parent process that
    relays standard error to a terminal sets FSE_TERMINAL=1.

    Args:
      iterable: what to iterate over, if anything.
      options: tqdm's options, such as `total`, `unit`, `desc` and `initial`.
    """
    terminal = sys.stderr.isatty() or os.environ.get("FSE_TERMINAL") == "1"
    options.setdefault("mininterval", 0.5 if terminal else 15.0)
    options.setdefault("maxinterval", options["mininterval"])
    options.setdefault("ascii", True)
    options.setdefault("ncols", 100)
    options.setdefault("file", sys.stderr)
    return tqdm(iterable, **options)
