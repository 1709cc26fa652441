"""Running a stage in a process of its own, which ends when this one does."""

import collections
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import IO, Any, Callable, Deque, Dict, Iterable, List, Optional

from fse.config import redact_text
from fse.errors import MACHINE, NOT_USED, DeviceUnusedError, MachineError, StageError
from fse.runtime import processes

# TensorFlow's C++ side prints these before any of its settings takes effect. They stay in the log file.
_CHATTER = re.compile(rb"(?:I0000 |WARNING: All log messages before absl)")

# How long a stopped child may take to end by itself.
_PATIENCE_SECONDS = 5

# How many of its last lines are kept, to tell why it failed; a training of days redraws its bar a million times.
_LINES = 100


def run(
    command: List[str],
    log: Path,
    report: Callable[[str], Any] = len,
    locks: Iterable[int] = (),
    folder: Optional[Path] = None,
    environment: Optional[Dict[str, str]] = None,
) -> None:
    """Runs a command in a new process group; what it prints goes to `log`, its standard error also to ours.

    However this process ends, the child ends too: it is told to by signal, or by the kernel (FSE_PARENT).

    Args:
      command: program and arguments.
      log: file that is added to.
      report: is told every line of standard error.
      locks: descriptors of locks that the child holds as well, so that they last as long as it does.
      environment: variables that the child gets besides ours.
      folder: the child's current folder, whose Python packages come before all others; None is this process's.

    Raises:
      StageError: the command failed; the message is the child's own last error, `code` its exit code.
      MachineError: so it did, by what is not its own fault: it was killed, or says so by its exit code.
      DeviceUnusedError: it failed since the NPU was not used.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    variables = dict(os.environ, FSE_PARENT=str(os.getpid()), FSE_TERMINAL=str(int(sys.stderr.isatty())))
    variables.update(environment or {})
    if folder:
        variables["PYTHONPATH"] = str(folder)
    with open(str(log), "ab") as file:
        file.write("$ {}\n".format(redact_text(" ".join(command))).encode())
        file.flush()
        child = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.PIPE,
            env=variables,
            cwd=str(folder) if folder else None,
            start_new_session=True,
            pass_fds=tuple(locks),
        )
        try:
            said = _relay(child, file, report)
            code = child.wait()
        finally:
            _stop(child)
            child.stderr.close()  # type: ignore[union-attr]
    if code:
        why = f"{processes.failure(code, said)} (log: {log})"
        if code == NOT_USED:
            raise DeviceUnusedError(why)
        error = (MachineError if code < 0 or code == MACHINE else StageError)(why)
        error.code = code
        raise error


def _relay(child: "subprocess.Popen[bytes]", log: IO[bytes], report: Callable[[str], Any]) -> List[str]:
    """Copies the child's standard error to ours and to the log until it closes; returns its last lines."""
    assert child.stderr is not None
    said: Deque[str] = collections.deque(maxlen=_LINES)
    rest, block = b"", b"begin"
    while block:
        block = os.read(child.stderr.fileno(), 65536)
        # A progress bar redraws its line after a carriage return.
        *lines, rest = re.split(rb"(?<=[\r\n])", rest + block)
        for line in lines + ([rest] if rest and not block else []):
            log.write(line.replace(b"\r", b"\n"))
            if not _CHATTER.match(line):
                sys.stderr.write(line.decode(errors="replace"))
                said.append(line.decode(errors="replace").strip())
                report(said[-1])
        sys.stderr.flush()
        log.flush()
    return [line for line in said if line]


def _stop(child: "subprocess.Popen[bytes]") -> None:
    """Ends the child's whole process group."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(child.pid, number)
        except ProcessLookupError:
            break
        try:
            child.wait(_PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            continue
