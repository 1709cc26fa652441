"""Progress bars: rate and time left, readable on a terminal and in a log file."""

import os
import sys
from typing import Any, Iterable, Optional

from tqdm import tqdm


def progress_bar(iterable: Optional[Iterable[Any]] = None, **options: Any) -> Any:
    """A tqdm bar on standard error; `options` are tqdm's (`total`, `unit`, `desc`, `initial`, …).

    On a terminal it is redrawn twice a second, otherwise it adds a line every 15 seconds. A parent process that shows
    this one's standard error on its own terminal says so with FSE_TERMINAL=1.
    """
    terminal = sys.stderr.isatty() or os.environ.get("FSE_TERMINAL") == "1"
    options.setdefault("mininterval", 0.5 if terminal else 15.0)
    options.setdefault("maxinterval", options["mininterval"])
    options.setdefault("ascii", True)
    options.setdefault("ncols", 100)
    options.setdefault("file", sys.stderr)
    return tqdm(iterable, **options)
