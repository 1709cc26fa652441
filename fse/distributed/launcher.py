"""Starting a host's ranks, and stopping all of them when one fails.

Each rank is a process with a log, `train_<device>.log`, of what it prints. What the first rank prints is also shown. With
several hosts, `fse.distributed.hosts` tells the others' launchers how it goes.
"""

import contextlib
import os
import re
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import IO, Any, Dict, List, Optional, Tuple

from fse.ascend import rank_table
from fse.config import Train
from fse.distributed import hosts, ranks
from fse.errors import ConfigError, DeviceUnusedError, TrainingError
from fse.runtime import outputs, processes

# What npu_bridge logs for every graph that it compiled, and what we say when the first step comes next.
COMPILED = "The model has been compiled on the Ascend AI processor"
STEPS_BEGIN = "steps begin"

# The exit code of a rank that failed because another one was gone.
LEFT_ALONE = 75

_POLL_SECONDS = 0.1
# The rank that failed first may be noticed after those that it left alone.
_SETTLE_SECONDS = 1.0
_PATIENCE_SECONDS = 3.0

# TensorFlow's C++ log, which goes to the log files alone.
_CHATTER = re.compile(
    rb"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d+: [IW]|[IW]\d{4} |WARNING: All log messages before absl|To enable the following"
)


def run(train: Train, team: ranks.Team, command: List[str], logs: Path, facts: Dict[str, Any]) -> None:
    """Runs a command once for each rank of this host, to the end.

    Args:
      train: device, timeouts and rank table.
      team: what `ranks.team` says.
      command: program and arguments; its rank is in its environment.
      logs: existing folder for `train_<device>.log`.
      facts: what must be the same on all hosts, by name.

    Raises:
      ConfigError, TrainingError: a rank, or another host, failed; all others are stopped.
      DeviceUnusedError: npu ranks that took steps and did not compile them for the device.
    """
    with contextlib.ExitStack() as stack:
        links = hosts.Links(team, train.connect_timeout, facts)
        stack.callback(links.close)
        links.connect()
        table = _table(train, team, logs)
        started: List[Started] = []
        stack.callback(_stop, started)
        addresses = _addresses(team)
        for number, device in zip(team.numbers, team.devices):
            rank = ranks.Rank(number, team.size, device, addresses)
            environment = dict(os.environ, FSE_PARENT=str(os.getpid()), **ranks.environment_of(rank, train, table))
            started.append(Started(rank, command, environment, logs / f"train_{device}.log", number == 0))
        try:
            _watch(started, links, train.connect_timeout)
        except (ConfigError, TrainingError) as error:
            links.tell_failure(str(error))
            raise
        links.tell_done()
        for one in started:
            one.finish()
        if train.device == "npu":
            _check_use(started)


class Started:
    """A rank's process and its log."""

    def __init__(self, rank: ranks.Rank, command: List[str], environment: Dict[str, str], log: Path, shown: bool):
        """Starts it; `shown`: what it prints goes to our output as well."""
        self.rank, self.log = rank, log
        self._threads: List[threading.Thread] = []
        with open(str(log), "wb") as file:
            output: Any = subprocess.PIPE if shown else file
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=environment
            )
        if shown:
            for source, target in ((self.process.stdout, sys.stdout), (self.process.stderr, sys.stderr)):
                thread = threading.Thread(target=_copy, args=(source, log, target), daemon=True)
                thread.start()
                self._threads.append(thread)

    def finish(self) -> None:
        """Waits until the log has all that the ended process printed."""
        for thread in self._threads:
            thread.join(_PATIENCE_SECONDS)

    def failure(self) -> str:
        """What the ended process's log says went wrong, in one line."""
        self.finish()
        lines = [line.strip() for line in self.log.read_text(errors="replace").splitlines()]
        return processes.failure(self.process.returncode, [line for line in lines if line])


def _table(train: Train, team: ranks.Team, logs: Path) -> Optional[Path]:
    if train.device != "npu" or team.size == 1:
        return None
    if train.rank_table:
        return Path(train.rank_table).absolute()
    outputs.write_json(logs / "rank_table.json", rank_table.of_cards([int(card) for card in team.devices]))
    return logs / "rank_table.json"


def _addresses(team: ranks.Team) -> Tuple[str, ...]:
    """name:port of every rank: the ports after each host's own, or free ones if this host is alone."""
    if team.size == 1:
        return ()
    if team.hosts:
        pairs = [host.rsplit(":", 1) for host in team.hosts]
        each = team.size // len(pairs)
        return tuple(f"{name}:{int(port) + 1 + number}" for name, port in pairs for number in range(each))
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(team.size)]
        for each_socket in sockets:
            each_socket.bind(("127.0.0.1", 0))
        return tuple(f"127.0.0.1:{each_socket.getsockname()[1]}" for each_socket in sockets)


def _watch(started: List[Started], links: "hosts.Links", patience: float) -> None:
    """Returns when all ranks have ended well: all within `patience` seconds after the first.

    Raises:
      ConfigError, TrainingError: one did not, or another host says that it failed, or went away.
    """
    until = float("inf")
    while True:
        codes = [one.process.poll() for one in started]
        if all(code == 0 for code in codes):
            return
        problem = _settled(started, links) if any(codes) else links.problem()
        if problem:
            raise TrainingError(problem)
        if any(codes):
            raise _error(started)
        if 0 in codes:
            until = min(until, time.monotonic() + patience)
        if time.monotonic() > until:
            late = started[codes.index(None)]
            words = "waited {:.0f} seconds for rank {} of {} to end after another one; gave up (log: {})"
            raise TrainingError(words.format(patience, late.rank.number, late.rank.size, late.log))
        time.sleep(_POLL_SECONDS)


def _settled(started: List[Started], links: "hosts.Links") -> str:
    """Waits a moment for what failed first, which may be noticed last: a rank here, or another host.

    Returns:
      what another host says, or that it went away, if the ranks here failed for want of it alone; else ''.
    """
    until = time.monotonic() + _SETTLE_SECONDS
    problem, alone = "", True
    while time.monotonic() < until and (any(one.process.poll() is None for one in started) or (alone and not problem)):
        problem = problem or links.problem()
        alone = all(one.process.returncode in (None, 0, LEFT_ALONE) for one in started)
        time.sleep(_POLL_SECONDS)
    return problem if alone else ""


def _error(started: List[Started]) -> Exception:
    """The error of the rank that failed by itself rather than for want of another."""
    failed = [one for one in started if one.process.returncode]
    one = min(failed, key=lambda each: (each.process.returncode == LEFT_ALONE, each.rank.number))
    said = one.failure()
    if one.rank.size > 1:
        said = f"rank {one.rank.number} of {one.rank.size}: {said} (log: {one.log})"
    return ConfigError(said) if one.process.returncode == 2 else TrainingError(said)


def _stop(started: List[Started]) -> None:
    """Ends all ranks that still run."""
    running = [one.process for one in started if one.process.poll() is None]
    for process in running:
        process.terminate()
    until = time.monotonic() + _PATIENCE_SECONDS
    for process in running:
        try:
            process.wait(max(0.1, until - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    for one in started:
        one.finish()


def _check_use(started: List[Started]) -> None:
    for one in started:
        _, begun, after = one.log.read_text(errors="replace").partition(STEPS_BEGIN)
        if begun and COMPILED not in after:
            raise DeviceUnusedError(
                f"train.device is 'npu', but the log of rank {one.rank.number} does not say that a step was compiled for it ({COMPILED!r} is "
                f"missing after {STEPS_BEGIN!r}): it ran on the processor (log: {one.log})"
            )


def _copy(source: IO[bytes], log: Path, target: Any) -> None:
    """Copies what a process prints to its log and, without TensorFlow's chatter, to our output."""
    rest, block = b"", b"begin"
    with open(str(log), "ab") as file:
        while block:
            block = os.read(source.fileno(), 65536)
            # A progress bar redraws its line after a carriage return.
            *lines, rest = re.split(rb"(?<=[\r\n])", rest + block)
            for line in lines + ([rest] if rest and not block else []):
                file.write(line.replace(b"\r", b"\n"))
                if not _CHATTER.search(line):
                    target.write(line.decode(errors="replace"))
            file.flush()
            target.flush()
    source.close()
