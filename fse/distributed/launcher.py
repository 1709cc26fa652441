"""The launcher of a host's ranks, which stops all of them when one fails.

Each rank is a child process whose output goes to a log, `train_<device>.log`. The output of rank 0 is also shown. With
several hosts, `fse.distributed.hosts` tells the launchers of the other hosts about success and failure.
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
from fse.runtime import processes
from fse.runtime.files import write_json
from fse.runtime.relay import relay

# What npu_bridge logs for every graph that it compiles, and what a rank logs just before its first step.
COMPILED = "The model has been compiled on the Ascend AI processor"
STEPS_BEGIN = "steps begin"

# The exit code of a rank that failed only because another rank ended.
LEFT_ALONE = 75

_POLL_SECONDS = 0.1
# Ranks that lost their peer may end before the rank that failed first, so the launcher waits this long for all of them.
_SETTLE_SECONDS = 1.0
# How long ranks may take to end after SIGTERM, and the relay threads to copy their last output.
_STOP_SECONDS = 3.0

# Messages of TensorFlow's C++ code, which go to the log files only.
_NOISE = re.compile(
    rb"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d+: [IW]|[IW]\d{4} |WARNING: All log messages before absl|To enable the following"
)


def run(train: Train, topology: ranks.Topology, command: List[str], logs: Path, host_facts: Dict[str, Any]) -> None:
    """Run a command once for each rank of this host and wait for all of them.

    Args:
      train: device, timeouts and rank table.
      topology: the ranks and cards of this host.
      command: program and arguments; the environment tells the process its rank.
      logs: existing folder for `train_<device>.log`.
      host_facts: what must be equal on all hosts, by name.

    Raises:
      ConfigError, TrainingError: a rank or another host failed; all ranks were stopped.
      DeviceUnusedError: NPU ranks took steps that were not compiled for the NPU.
    """
    with contextlib.ExitStack() as stack:
        links = hosts.Links(topology, train.connect_timeout, host_facts)
        stack.callback(links.close)
        links.connect()
        table = _rank_table_file(train, topology, logs)
        started: List[RankProcess] = []
        stack.callback(_stop, started)
        addresses = _addresses(topology)
        for number, device in zip(topology.rank_numbers, topology.devices):
            rank = ranks.Rank(number, topology.size, device, addresses)
            environment = dict(os.environ, FSE_PARENT=str(os.getpid()), **ranks.environment_of(rank, train, table))
            log = logs / f"train_{device}.log"
            started.append(RankProcess(rank, command, environment, log, shown=number == 0))
        try:
            _watch(started, links, train.connect_timeout)
        except (ConfigError, TrainingError) as error:
            links.tell_failure(str(error))
            raise
        links.tell_done()
        for process in started:
            process.finish_log()
        if train.device == "npu":
            _check_device_use(started)


class RankProcess:
    """The child process of a rank, and its log."""

    def __init__(self, rank: ranks.Rank, command: List[str], environment: Dict[str, str], log: Path, shown: bool):
        """Start the process.

        Args:
          rank: the rank.
          command: program and arguments.
          environment: all environment variables.
          log: file for the process's output; replaced.
          shown: relay the output to this process's standard output and error as well.
        """
        self.rank, self.log = rank, log
        self._relays: List[threading.Thread] = []
        with open(log, "wb") as file:
            output: Any = subprocess.PIPE if shown else file
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=environment
            )
        if shown:
            for source, terminal in ((self.process.stdout, sys.stdout), (self.process.stderr, sys.stderr)):
                thread = threading.Thread(target=_relay, args=(source, log, terminal), daemon=True)
                thread.start()
                self._relays.append(thread)

    def finish_log(self) -> None:
        """Wait until the log holds everything that the ended process printed."""
        for thread in self._relays:
            thread.join(_STOP_SECONDS)

    def failure_message(self) -> str:
        """Return in one line why the ended process failed, as its log says."""
        self.finish_log()
        lines = [line.strip() for line in self.log.read_text(errors="replace").splitlines()]
        return processes.failure_message(self.process.returncode, [line for line in lines if line])


def _relay(source: IO[bytes], log: Path, terminal: IO[str]) -> None:
    """Copy a rank's output to its log and to the terminal. Both of a rank's streams append to the same log."""
    with source, open(log, "ab") as file:
        relay(source, file, terminal, _NOISE)


def _rank_table_file(train: Train, topology: ranks.Topology, logs: Path) -> Optional[Path]:
    """Return the rank table file for HCCL, written if the settings name none; None if HCCL needs none."""
    if train.device != "npu" or topology.size == 1:
        return None
    if train.rank_table:
        return Path(train.rank_table).absolute()
    write_json(logs / "rank_table.json", rank_table.create([int(card) for card in topology.devices]))
    return logs / "rank_table.json"


def _addresses(topology: ranks.Topology) -> Tuple[str, ...]:
    """Return name:port of every rank.

    With several hosts these are the ports after the one of the host in `train.hosts`. On a single host they are free ports.
    """
    if topology.size == 1:
        return ()
    if topology.hosts:
        pairs = [host.rsplit(":", 1) for host in topology.hosts]
        per_host = topology.size // len(pairs)
        return tuple(f"{name}:{int(port) + 1 + number}" for name, port in pairs for number in range(per_host))
    with contextlib.ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(topology.size)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return tuple(f"127.0.0.1:{probe.getsockname()[1]}" for probe in probes)


def _watch(started: List[RankProcess], links: "hosts.Links", patience: float) -> None:
    """Wait until all ranks have ended with exit code 0.

    Args:
      started: the ranks of this host.
      links: the connections to other hosts.
      patience: seconds that the other ranks may take to end after the first one.

    Raises:
      ConfigError, TrainingError: a rank failed or did not end, or another host failed or went away.
    """
    deadline = float("inf")
    while True:
        codes = [rank.process.poll() for rank in started]
        if all(code == 0 for code in codes):
            return
        problem = _settled_problem(started, links) if any(codes) else links.problem()
        if problem:
            raise TrainingError(problem)
        if any(codes):
            raise _error(started)
        if 0 in codes:
            deadline = min(deadline, time.monotonic() + patience)
        if time.monotonic() > deadline:
            late = started[codes.index(None)]
            raise TrainingError(
                f"waited {patience:.0f} seconds for rank {late.rank.number} of {late.rank.size} to end after another one; "
                f"gave up (log: {late.log})"
            )
        time.sleep(_POLL_SECONDS)


def _settled_problem(started: List[RankProcess], links: "hosts.Links") -> str:
    """After a rank failed, wait a moment for the other ranks and hosts, which may have failed first.

    Returns:
      The problem of another host, if the ranks here failed only because of it; otherwise ''.
    """
    deadline = time.monotonic() + _SETTLE_SECONDS
    problem, left_alone = "", True
    while time.monotonic() < deadline:
        running = any(rank.process.poll() is None for rank in started)
        if not running and not (left_alone and not problem):
            break
        problem = problem or links.problem()
        left_alone = all(rank.process.returncode in (None, 0, LEFT_ALONE) for rank in started)
        time.sleep(_POLL_SECONDS)
    return problem if left_alone else ""


def _error(started: List[RankProcess]) -> Exception:
    """Return the error of the rank that failed by itself, rather than because another rank ended."""
    failed = [rank for rank in started if rank.process.returncode]
    first = min(failed, key=lambda rank: (rank.process.returncode == LEFT_ALONE, rank.rank.number))
    message = first.failure_message()
    if first.rank.size > 1:
        message = f"rank {first.rank.number} of {first.rank.size}: {message} (log: {first.log})"
    return ConfigError(message) if first.process.returncode == 2 else TrainingError(message)


def _stop(started: List[RankProcess]) -> None:
    """End all ranks that are still running, by SIGTERM and then by SIGKILL."""
    running = [rank.process for rank in started if rank.process.poll() is None]
    for process in running:
        process.terminate()
    deadline = time.monotonic() + _STOP_SECONDS
    for process in running:
        try:
            process.wait(max(0.1, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    for rank in started:
        rank.finish_log()


def _check_device_use(started: List[RankProcess]) -> None:
    """Check that every rank that took steps compiled a graph for the NPU after `STEPS_BEGIN`.

    Raises:
      DeviceUnusedError: a rank's log does not say so.
    """
    for rank in started:
        _, steps_begin, after = rank.log.read_text(errors="replace").partition(STEPS_BEGIN)
        if steps_begin and COMPILED not in after:
            raise DeviceUnusedError(
                f"train.device is 'npu', but rank {rank.rank.number} trained on the CPU: its log does not say that a step "
                f"was compiled for the NPU ({COMPILED!r} is missing after {STEPS_BEGIN!r}) (log: {rank.log})"
            )
