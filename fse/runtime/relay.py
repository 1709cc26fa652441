"""The output of a child process, copied to a log file and to the terminal."""

import os
import re
from typing import IO, Any, Callable, Pattern

_BLOCK_BYTES = 65536


def relay(
    source: IO[bytes], log: IO[bytes], terminal: IO[str], noise: Pattern[bytes], report: Callable[[str], Any] = len
) -> None:
    """Copy what a child process prints until it closes the stream.

    A line ends with a line feed or a carriage return, with which a progress bar redraws its line. The log gets a line feed
    for either. Both copies are flushed after each block, so that they can be followed.

    Args:
      source: the reading end of the child's pipe.
      log: gets every line.
      terminal: gets the lines that `noise` does not match.
      noise: matches lines for the log only.
      report: called with each line that the terminal gets, without surrounding white space.
    """
    rest, block = b"", b"not empty"
    while block:
        block = os.read(source.fileno(), _BLOCK_BYTES)
        *lines, rest = re.split(rb"(?<=[\r\n])", rest + block)
        if rest and not block:  # the last line has no line end
            lines.append(rest)
        for line in lines:
            log.write(line.replace(b"\r", b"\n"))
            if not noise.search(line):
                text = line.decode(errors="replace")
                terminal.write(text)
                report(text.strip())
        terminal.flush()
        log.flush()
