"""Webhooks and e-mail against real servers of this host."""

import contextlib
import gc
import http.server
import json
import logging
import socket
import socketserver
import threading
import time
from email import message_from_string
from typing import Any, ClassVar, Dict, Iterator, List, Tuple

import luigi.configuration
import pytest

from tasks.nightly import alarms
from tasks.nightly.settings import Hook
from tests.tasks.nightly.test_night import Toy, toy  # noqa: F401 (a fixture)


class Receiver(http.server.BaseHTTPRequestHandler):
    """Answers with the number that a path names, or not at all; keeps what came."""

    came: ClassVar[List[Tuple[str, str, Dict[str, Any]]]] = []
    hang = threading.Event()

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.came.append((self.path, self.headers["Content-Type"], json.loads(body.decode())))
        if self.path == "/hang":
            self.hang.wait(60)
            return
        self.send_response(int(self.path[1:4]))
        self.send_header("Location", "/200")
        self.end_headers()

    def log_message(self, *arguments: Any) -> None:
        pass


@pytest.fixture()
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of a web server; `Receiver.came` is what it received."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    Receiver.came.clear()
    Receiver.hang.clear()
    running = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
    threading.Thread(target=running.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{running.server_address[1]}"
    Receiver.hang.set()
    running.shutdown()
    running.server_close()


def told(toy: Toy, hooks: List[Hook], day: int, nme: float) -> List[Tuple[str, str]]:  # noqa: F811
    toy.nme = [nme]
    return [(one.state, one.outcome) for one in alarms.tell(toy.play(day), toy.history, hooks)]


def test_a_webhook_gets_the_verdict_when_the_state_changes(
    toy: Toy,  # noqa: F811
    server: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("NIGHTLY_WEBHOOK", server + "/200/secret")
    hooks = [Hook(url="$NIGHTLY_WEBHOOK")]
    states = [told(toy, hooks, day, nme) for day, nme in enumerate((7.0, 13.0, 13.0, 7.0, 7.0), 1)]
    assert states == [[], [("regression", "")], [], [("good", "")], []]
    assert [path for path, _, _ in Receiver.came] == ["/200/secret"] * 2
    _, kind, red = Receiver.came[0]
    assert kind == "application/json"
    assert (red["verdict"], red["state"], red["before"], red["date"]) == (
        "regression",
        "regression",
        "good",
        "2026-01-02",
    )
    assert red["reasons"][0]["words"] == "13 is above its maximum 12"
    assert [one.hook for one in toy.history.told()] == ["$NIGHTLY_WEBHOOK"] * 2  # not the secret


@pytest.mark.parametrize(
    ("path", "words"),
    [("/500/secret", "the answer was 500 Internal Server Error"), ("/302/secret", "the answer was 302 Found")],
)
def test_a_webhook_that_does_not_take_it_is_told_again(
    toy: Toy,  # noqa: F811
    server: str,
    path: str,
    words: str,
) -> None:
    hooks = [Hook(url=server + path)]
    for day in (1, 2):
        ((state, outcome),) = told(toy, hooks, day, 13.0)
        assert (state, outcome) == ("regression", "ended with exit code 1: " + words)
    assert len(Receiver.came) == 2


def test_a_webhook_that_hangs_refuses_or_is_none(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_SUCH", raising=False)
    began = time.monotonic()
    assert alarms.run(Hook(url=server + "/hang", seconds=0.5), {}) == "did not end within 0.5 s"
    assert time.monotonic() - began < 30.0
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        refused = alarms.run(Hook(url=f"http://127.0.0.1:{closed.getsockname()[1]}/secret"), {})
    assert refused == "ended with exit code 1: no answer: ConnectionError"
    assert "$NO_SUCH: is no http(s) address" in alarms.run(Hook(url="$NO_SUCH"), {})
    assert "no answer: " in alarms.run(Hook(url="http://["), {})


class Post(socketserver.StreamRequestHandler):
    """As much of SMTP (RFC 5321) as a client needs; keeps the mails. `refuses` is what it answers to a mail's recipient."""

    mails: ClassVar[List[str]] = []
    refuses = ""

    def handle(self) -> None:
        self.say("220 here")
        for line in iter(self.rfile.readline, b""):
            word = line[:4].upper().strip()
            if word == b"DATA":
                self.say("354 go on")
                lines = list(iter(self.rfile.readline, b".\r\n"))
                self.mails.append(b"".join(lines).decode())
            if word == b"RCPT" and self.refuses:
                self.say(self.refuses)
                continue
            self.say("221 bye" if word == b"QUIT" else "250 ok")
            if word == b"QUIT":
                return

    def say(self, line: str) -> None:
        self.wfile.write(line.encode() + b"\r\n")


luigi_leaves_it_to_python_to_close_a_connection = pytest.mark.filterwarnings(
    "ignore:.*unclosed <socket", "ignore::pytest.PytestUnraisableExceptionWarning"
)


@contextlib.contextmanager
def post_office() -> Iterator[socketserver.TCPServer]:
    """A mail server of ours; `Post.mails` is what it received."""
    Post.mails.clear()
    running = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Post)
    running.daemon_threads = True  # Luigi leaves a connection open that was refused
    threading.Thread(target=running.serve_forever, daemon=True).start()
    yield running
    running.shutdown()
    running.server_close()


@pytest.fixture()
def post(caplog: pytest.LogCaptureFixture) -> Iterator[socketserver.TCPServer]:
    """Luigi's [email] and [smtp] lead to a mail server of ours."""
    parser = luigi.configuration.get_config()
    values = {
        ("email", "receiver"): "team@example.org, boss@example.org",
        ("email", "sender"): "nightly@example.org",
        ("email", "prefix"): "[fse]",
        ("smtp", "host"): "127.0.0.1",
        ("smtp", "timeout"): "5",
    }
    with post_office() as running:
        values["smtp", "port"] = str(running.server_address[1])
        for (section, name), value in values.items():
            parser.set(section, name, value)
        yield running
        for section, name in values:
            parser.remove_option(section, name)
    caplog.clear()  # a log's error has the connection
    gc.collect()


@luigi_leaves_it_to_python_to_close_a_connection
def test_luigis_mail_is_sent_once_when_the_state_changes(toy: Toy, post: Any) -> None:  # noqa: F811
    states = [told(toy, [], day, nme) for day, nme in enumerate((7.0, 13.0, 13.0, 7.0), 1)]
    assert states == [[], [("regression", "")], [], [("good", "")]]
    red, good = map(message_from_string, Post.mails)
    assert (red["Subject"], good["Subject"]) == ("[fse] toy 2026-01-02: regression", "[fse] toy 2026-01-04: pass")
    assert (red["From"], red["To"]) == ("nightly@example.org", "team@example.org,boss@example.org")
    (part,) = red.get_payload()
    words = part.get_payload(decode=True).decode()
    assert "accuracy.nme 13 is above its maximum 12" in words
    assert "abc someone: a change" in words


@luigi_leaves_it_to_python_to_close_a_connection
def test_a_mail_that_is_not_taken_is_sent_again(
    toy: Toy,  # noqa: F811
    post: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Luigi itself only logs that, if its log's level permits."""
    monkeypatch.setattr(logging.getLogger("luigi-interface"), "disabled", True)
    monkeypatch.setattr(Post, "refuses", "550 nobody of that name")
    ((state, outcome),) = told(toy, [], 1, 13.0)
    assert state == "regression" and "nobody of that name" in outcome
    monkeypatch.setattr(Post, "refuses", "")
    assert told(toy, [], 2, 13.0) == [("regression", "")]
    post.shutdown()
    post.server_close()
    ((state, outcome),) = told(toy, [], 3, 7.0)
    assert state == "good" and "Not able to connect to smtp server" in outcome


@luigi_leaves_it_to_python_to_close_a_connection
def test_from_a_terminal_luigi_sends_no_mail_and_none_counts_as_sent(
    toy: Toy,  # noqa: F811
    post: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with monkeypatch.context() as terminal:
        terminal.setattr("sys.stdout.isatty", lambda: True)
        assert told(toy, [], 1, 13.0) == []
    assert told(toy, [], 2, 13.0) == [("regression", "")]
    assert len(Post.mails) == 1
