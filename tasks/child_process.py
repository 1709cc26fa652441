"""Running a program in a child process that ends when this process ends."""

import collections
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, Callable, Deque, Dict, Iterable, List, Optional

from fse.errors import EXIT_DEVICE_UNUSED, EXIT_MACHINE, DeviceUnusedError, MachineError, StageError
from fse.redaction import redact_text
from fse.runtime import processes
from fse.runtime.relay import relay

# TensorFlow's C++ code prints these lines before any of its settings takes effect. Only the log file gets them.
_NOISE = re.compile(rb"^(?:I0000 |WARNING: All log messages before absl)")

# How long a child may take to end after SIGTERM, before SIGKILL.
_TERMINATE_SECONDS = 5

# The number of last lines that are kept to find the error message. A long training redraws its bar a million times.
_MAX_LINES = 100


def run(
    command: List[str],
    log: Path,
    report: Callable[[str], Any] = len,
    locks: Iterable[int] = (),
    folder: Optional[Path] = None,
    environment: Optional[Dict[str, str]] = None,
) -> None:
    """Run a command in a new process group. Its output goes to `log`; its standard error also goes to ours.

    The child ends however this process ends: `finally` sends it a signal; after a SIGKILL of this process the kernel kills
    the child, which asks for that because the variable FSE_PARENT is set.

    Args:
      command: program and arguments.
      log: file to append to.
      report: called with every line of standard error.
      locks: descriptors of locks that the child inherits, so that the locks last as long as the child.
      folder: the child's current folder, whose Python packages take precedence; by default the current folder.
      environment: variables to add to this process's environment.

    Raises:
      StageError: the command failed. The message is the child's last error, and `code` its exit code.
      MachineError: the machine failed, not the code: the child was killed, or its exit code says so.
      DeviceUnusedError: the child failed because its training did not use the NPU.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    variables = dict(os.environ, FSE_PARENT=str(os.getpid()), FSE_TERMINAL=str(int(sys.stderr.isatty())))
    variables.update(environment or {})
    if folder:
        variables["PYTHONPATH"] = str(folder)
    last_lines: Deque[str] = collections.deque(maxlen=_MAX_LINES)

    def record(line: str) -> None:
        if line:
            last_lines.append(line)
        report(line)

    with open(log, "ab") as file:
        file.write("$ {}\n".format(redact_text(" ".join(command))).encode())
        file.flush()
        child = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.PIPE,
            env=variables,
            cwd=folder,
            start_new_session=True,
            pass_fds=tuple(locks),
        )
        assert child.stderr is not None
        try:
            relay(child.stderr, file, sys.stderr, _NOISE, record)
            code = child.wait()
        finally:
            _stop(child)
            child.stderr.close()
    if code:
        raise _error(code, f"{processes.failure_message(code, list(last_lines))} (log: {log})")


def _error(code: int, message: str) -> Exception:
    """Return the error for a child that ended with `code`, which is negative for a signal."""
    if code == EXIT_DEVICE_UNUSED:
        return DeviceUnusedError(message)
    error = (MachineError if code < 0 or code == EXIT_MACHINE else StageError)(message)
    error.code = code
    return error


def _stop(child: "subprocess.Popen[bytes]") -> None:
    """End the child's process group: with SIGTERM, and with SIGKILL if that takes too long."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(child.pid, number)
        except ProcessLookupError:
            break
        try:
            child.wait(_TERMINATE_SECONDS)
        except subprocess.TimeoutExpired:
            continue
