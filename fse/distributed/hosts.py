"""The line between the hosts of one training: it compares what they begin with, and tells when one fails.

The first host listens at its address; the others connect to it. Each says what it is about to train with; the first
compares and answers. Then all send a sign of life every second, until they say that they are done or have failed.
Whoever can reach the port can take part, so it belongs in a network that is trusted, as do TensorFlow's own ports.
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
_LONGEST = 1 << 20  # bytes of a line
_RETRY_SECONDS = 0.2


class _Line:
    """A connection that carries JSON objects, one a line."""

    def __init__(self, connection: socket.socket, name: str):
        self.connection, self.name = connection, name
        self.heard = time.monotonic()
        self.done = False
        self._rest = b""

    def send(self, message: Dict[str, Any]) -> None:
        with contextlib.suppress(OSError):  # what receiving then says is enough
            self.connection.sendall(json.dumps(message).encode() + b"\n")

    def receive(self) -> List[Dict[str, Any]]:
        """What has come since; a closed or unreadable line is a message with `closed`."""
        messages: List[Dict[str, Any]] = []
        while select.select([self.connection], [], [], 0.0)[0]:
            try:
                block = self.connection.recv(65536)
            except OSError:
                block = b""
            self._rest += block
            if not block or len(self._rest) > _LONGEST:
                return messages + [{"closed": True}]
            self.heard = time.monotonic()
            *lines, self._rest = self._rest.split(b"\n")
            try:
                messages += [dict(json.loads(line.decode())) for line in lines]
            except (ValueError, TypeError):
                return messages + [{"closed": True}]
        return messages

    def wait(self, until: float) -> Dict[str, Any]:
        """The next message; empty if none comes in time."""
        while time.monotonic() < until:
            for message in self.receive():
                return message
            time.sleep(0.02)
        return {}


class Links:
    """The lines from this host to the others; none if it is alone."""

    def __init__(self, team: ranks.Team, timeout: float, facts: Dict[str, Any]):
        """`timeout`: seconds to wait for the other hosts; `facts`: what must be the same on all, by name."""
        self.team, self.timeout, self.facts = team, timeout, facts
        self._lines: List[_Line] = []
        self._ended = threading.Event()
        self._sending = threading.Lock()

    def connect(self) -> None:
        """Waits for the other hosts and compares what they begin with.

        Raises:
          ConfigError: a host begins with something else, or the address cannot be listened at.
          TrainingError: a host does not come, or goes away.
        """
        if not self.team.hosts:
            return
        until = time.monotonic() + self.timeout
        if self.team.here == 0:
            self._gather(until)
        else:
            self._join(until)
        threading.Thread(target=self._beat, daemon=True).start()

    def problem(self) -> str:
        """Why this host must stop: another one failed or went away; '' if none did."""
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

    def tell_failure(self, what: str) -> None:
        """Has the other hosts stop."""
        told = what if what.startswith("host ") else f"host {self.team.here}: {what}"
        self._send({"error": told})

    def tell_done(self) -> None:
        """Tells that all ranks of this host have ended well."""
        self._send({"done": True})

    def close(self) -> None:
        """Ends the lines."""
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

    def _gather(self, until: float) -> None:
        name, port = _address(self.team.hosts[0])
        hellos: Dict[int, Tuple[_Line, Dict[str, Any]]] = {}
        with contextlib.ExitStack() as stack:
            try:
                listener = stack.enter_context(socket.socket())
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                listener.bind((name, port))
                listener.listen(len(self.team.hosts))
            except OSError as error:
                raise ConfigError(f"train.hosts: cannot listen at {self.team.hosts[0]} ({error.strerror})") from None
            while len(hellos) < len(self.team.hosts) - 1:
                listener.settimeout(max(0.01, until - time.monotonic()))
                try:
                    connection, _ = listener.accept()
                except socket.timeout:
                    missing = [number for number in range(1, len(self.team.hosts)) if number not in hellos]
                    self._refuse(
                        f"waited {self.timeout:.0f} seconds for host {missing[0]} of train.hosts, {self.team.hosts[missing[0]]}; run `fse join` there",
                        TrainingError,
                    )
                line = _Line(connection, "a host")
                hello = line.wait(min(until, time.monotonic() + _SILENCE_SECONDS))
                number = hello.get("host")
                if not isinstance(number, int) or not 0 < number < len(self.team.hosts) or number in hellos:
                    line.send({"error": f"host {number} of {self.team.hosts}: not expected, or here already"})
                    connection.close()
                    continue
                line.name = f"host {number} ({self.team.hosts[number]})"
                hellos[number] = (line, hello.get("facts", {}))
                self._lines.append(line)
        for line, facts in hellos.values():
            difference = _difference(self.facts, facts)
            if difference:
                self._refuse(f"host 0 and {line.name} differ in {difference}; give all hosts the same", ConfigError)
        self._send({"go": True})

    def _refuse(self, what: str, kind: Any) -> None:
        self._send({"error": what})
        raise kind(what)

    def _join(self, until: float) -> None:
        connection: Optional[socket.socket] = None
        while connection is None:
            try:
                connection = socket.create_connection(_address(self.team.hosts[0]), 5.0)
            except OSError as error:
                if time.monotonic() >= until:
                    raise TrainingError(
                        f"waited {self.timeout:.0f} seconds for host 0 of train.hosts, {self.team.hosts[0]} ({error.strerror or error}); run `fse train` there"
                    ) from None
                time.sleep(_RETRY_SECONDS)
        line = _Line(connection, f"host 0 ({self.team.hosts[0]})")
        self._lines.append(line)
        line.send({"host": self.team.here, "facts": self.facts})
        answer = line.wait(until + _SILENCE_SECONDS)
        if "error" in answer:
            raise ConfigError(str(answer["error"]))
        if "go" not in answer:
            raise TrainingError(f"{line.name} went away, or gave no answer for {self.timeout:.0f} seconds")


def _address(host: str) -> Tuple[str, int]:
    name, port = host.rsplit(":", 1)
    return name, int(port)


def _difference(ours: Dict[str, Any], theirs: Any) -> str:
    """The first fact that differs, and how; '' if none does."""
    for name in sorted({*ours, *theirs} if isinstance(theirs, dict) else {*ours}):
        one, other = ours.get(name), theirs.get(name) if isinstance(theirs, dict) else None
        if one != other:
            return f"{name}: {one!r} and {other!r}"
    return ""
