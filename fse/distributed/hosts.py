"""Connections between the hosts of one training: they compare settings at the start and report failures.

The first host listens at its address; the others connect to it. Each sends facts about its settings, code and data. The
first host compares them and answers. After that, every host sends a heartbeat each second until it reports success or
failure. Anybody who can reach the port can take part, so it belongs in a trusted network, as TensorFlow's ports do.
"""

import contextlib
import json
import select
import socket
import threading
import time
from typing import Any, Dict, List, Optional, Tuple

from fse.distributed import ranks
from fse.errors import ConfigError, TrainingError

_BEAT_SECONDS = 1.0
_SILENCE_SECONDS = 8.0
_MAX_LINE_BYTES = 1 << 20
_RETRY_SECONDS = 0.2


class _Line:
    """A connection that carries one JSON object per line."""

    def __init__(self, connection: socket.socket, name: str):
        self.connection, self.name = connection, name
        self.heard = time.monotonic()
        self.done = False
        self._rest = b""

    def send(self, message: Dict[str, Any]) -> None:
        with contextlib.suppress(OSError):  # `receive` reports a lost connection
            self.connection.sendall(json.dumps(message).encode() + b"\n")

    def receive(self) -> List[Dict[str, Any]]:
        """Return the messages that have arrived; {"closed": True} stands for a closed or invalid connection."""
        messages: List[Dict[str, Any]] = []
        while select.select([self.connection], [], [], 0.0)[0]:
            try:
                block = self.connection.recv(65536)
            except OSError:
                block = b""
            self._rest += block
            if not block or len(self._rest) > _MAX_LINE_BYTES:
                return messages + [{"closed": True}]
            self.heard = time.monotonic()
            *lines, self._rest = self._rest.split(b"\n")
            try:
                messages += [dict(json.loads(line.decode())) for line in lines]
            except (ValueError, TypeError):
                return messages + [{"closed": True}]
        return messages

    def wait(self, deadline: float) -> Dict[str, Any]:
        """Return the next message; {} if none arrives before the deadline."""
        while time.monotonic() < deadline:
            for message in self.receive():
                return message
            time.sleep(0.02)
        return {}


class Links:
    """The connections from this host to the others; none if there is only one host."""

    def __init__(self, topology: ranks.Topology, timeout: float, facts: Dict[str, Any]):
        """Prepare the connections.

        Args:
          topology: the hosts.
          timeout: seconds to wait for the other hosts.
          facts: what must be equal on all hosts, by name.
        """
        self.topology, self.timeout, self.facts = topology, timeout, facts
        self._lines: List[_Line] = []
        self._ended = threading.Event()
        self._sending = threading.Lock()

    def connect(self) -> None:
        """Wait for the other hosts and compare their facts.

        Raises:
          ConfigError: the facts of a host differ, or this host cannot listen at its address.
          TrainingError: a host does not connect in time, or disconnects.
        """
        if not self.topology.hosts:
            return
        deadline = time.monotonic() + self.timeout
        if self.topology.host_index == 0:
            self._accept_hosts(deadline)
        else:
            self._connect_to_first_host(deadline)
        threading.Thread(target=self._beat, daemon=True).start()

    def problem(self) -> str:
        """Return why this host must stop, namely that another one failed or disconnected; '' if it need not."""
        for line in self._lines:
            for message in line.receive():
                line.done |= bool(message.get("done"))
                if "error" in message:
                    return str(message["error"])
                if "closed" in message and not line.done:
                    return f"{line.name} has gone away"
            if not line.done and time.monotonic() - line.heard > _SILENCE_SECONDS:
                return f"{line.name} has been silent for {_SILENCE_SECONDS:.0f} seconds"
        return ""

    def tell_failure(self, problem: str) -> None:
        """Tell the other hosts to stop, and why."""
        prefix = "" if problem.startswith("host ") else f"host {self.topology.host_index}: "
        self._send({"error": prefix + problem})

    def tell_done(self) -> None:
        """Tell the other hosts that all ranks of this host have succeeded."""
        self._send({"done": True})

    def close(self) -> None:
        """Close the connections."""
        self._ended.set()
        for line in self._lines:
            line.connection.close()

    def _send(self, message: Dict[str, Any]) -> None:
        with self._sending:
            for line in self._lines:
                line.send(message)

    def _beat(self) -> None:
        while not self._ended.wait(_BEAT_SECONDS):
            self._send({})

    def _accept_hosts(self, deadline: float) -> None:
        """Accept a connection from every other host, and compare the facts that each sends."""
        name, port = _address(self.topology.hosts[0])
        hellos: Dict[int, Tuple[_Line, Dict[str, Any]]] = {}
        with contextlib.ExitStack() as stack:
            try:
                listener = stack.enter_context(socket.socket())
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                listener.bind((name, port))
                listener.listen(len(self.topology.hosts))
            except OSError as error:
                raise ConfigError(
                    f"train.hosts: cannot listen at {self.topology.hosts[0]} ({error.strerror})"
                ) from None
            while len(hellos) < len(self.topology.hosts) - 1:
                listener.settimeout(max(0.01, deadline - time.monotonic()))
                try:
                    connection, _ = listener.accept()
                except socket.timeout:
                    missing = [number for number in range(1, len(self.topology.hosts)) if number not in hellos]
                    self._refuse(
                        f"waited {self.timeout:.0f} seconds for host {missing[0]} of train.hosts, "
                        f"{self.topology.hosts[missing[0]]}; run `fse join` there",
                        TrainingError,
                    )
                line = _Line(connection, "a host")
                hello = line.wait(min(deadline, time.monotonic() + _SILENCE_SECONDS))
                number = hello.get("host")
                if not isinstance(number, int) or not 0 < number < len(self.topology.hosts) or number in hellos:
                    line.send({"error": f"host {number} of {self.topology.hosts}: unexpected, or already connected"})
                    connection.close()
                    continue
                line.name = f"host {number} ({self.topology.hosts[number]})"
                hellos[number] = (line, hello.get("facts", {}))
                self._lines.append(line)
        for line, facts in hellos.values():
            difference = _difference(self.facts, facts)
            if difference:
                self._refuse(f"host 0 and {line.name} differ in {difference}; give all hosts the same", ConfigError)
        self._send({"go": True})

    def _refuse(self, problem: str, kind: Any) -> None:
        """Tell the other hosts why the training does not start, and raise the error here."""
        self._send({"error": problem})
        raise kind(problem)

    def _connect_to_first_host(self, deadline: float) -> None:
        """Connect to the first host, send this host's facts, and wait for the answer."""
        connection: Optional[socket.socket] = None
        while connection is None:
            try:
                connection = socket.create_connection(_address(self.topology.hosts[0]), 5.0)
            except OSError as error:
                if time.monotonic() >= deadline:
                    raise TrainingError(
                        f"waited {self.timeout:.0f} seconds for host 0 of train.hosts, {self.topology.hosts[0]} "
                        f"({error.strerror or error}); run `fse train` there"
                    ) from None
                time.sleep(_RETRY_SECONDS)
        line = _Line(connection, f"host 0 ({self.topology.hosts[0]})")
        self._lines.append(line)
        line.send({"host": self.topology.host_index, "facts": self.facts})
        answer = line.wait(deadline + _SILENCE_SECONDS)
        if "error" in answer:
            raise ConfigError(str(answer["error"]))
        if "go" not in answer:
            raise TrainingError(f"{line.name} went away, or gave no answer for {self.timeout:.0f} seconds")


def _address(host: str) -> Tuple[str, int]:
    name, port = host.rsplit(":", 1)
    return name, int(port)


def _difference(ours: Dict[str, Any], theirs: Any) -> str:
    """Return the first fact that differs between two hosts, with both values; '' if they are equal."""
    for name in sorted({*ours, *theirs} if isinstance(theirs, dict) else {*ours}):
        our_value, their_value = ours.get(name), theirs.get(name) if isinstance(theirs, dict) else None
        if our_value != their_value:
            return f"{name}: {our_value!r} and {their_value!r}"
    return ""
