"""Alarms: command hooks, and webhooks and e-mail with real servers on this host."""

import gc
import http.server
import logging
import socket
import socketserver
import threading
import time
from email import message_from_string
from email.message import Message
from pathlib import Path
from typing import Iterator, List, Tuple

import luigi.configuration
import pytest

from tasks.nightly import alarms
from tasks.nightly.config import Hook
from tests.tasks.nightly.fake_nightly import FakeNightly
from tests.tasks.nightly.servers import MailHandler, WebhookHandler, mail_server


def notify(nightly: FakeNightly, hooks: List[Hook], day: int, nme: float) -> List[Tuple[str, str]]:
    """Run a night and notify the hooks; return state and outcome of the notifications."""
    nightly.nme = [nme]
    return [(sent.state, sent.outcome) for sent in alarms.notify(nightly.run(day), nightly.history, hooks)]


def test_a_hook_is_notified_only_of_changes(nightly: FakeNightly, tmp_path: Path) -> None:
    hooks = [Hook(command=f"sh -c 'cat >> {tmp_path}/messages'")]
    assert notify(nightly, hooks, 2, 7.0) == []
    assert notify(nightly, hooks, 3, 13.0) == [("regression", "")]
    assert notify(nightly, hooks, 4, 13.0) == []
    assert notify(nightly, hooks, 1, 7.0) == []  # an older night that fills a gap
    assert notify(nightly, hooks, 5, 7.0) == [("good", "")]
    assert notify(nightly, hooks, 6, 7.0) == []
    text = (tmp_path / "messages").read_text()
    assert text.count('"verdict": "regression"') == 1
    assert '"before": "regression"' in text


@pytest.mark.parametrize(
    ("command", "error"),
    [
        ("sh -c 'echo no; exit 3'", "ended with exit code 3: no"),
        ("/no/such/program", "cannot be started"),
        ("sh -c 'sleep 60 & sleep 60'", "did not end within 0.3 s"),
        ("'", "cannot be started"),
    ],
)
def test_a_hook_that_fails_or_hangs_changes_no_verdict_and_is_notified_again(
    nightly: FakeNightly, command: str, error: str
) -> None:
    hooks = [Hook(command=command, seconds=0.3)]
    nightly.nme = [13.0]
    for day in (1, 2):
        record = nightly.run(day)
        (sent,) = alarms.notify(record, nightly.history, hooks)
        assert error in sent.outcome
        assert nightly.history.record(record["date"]) == record
    assert [stored.outcome for stored in nightly.history.notifications()] == [sent.outcome] * 2


@pytest.fixture()
def webhook_server(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Yield the URL of a web server; `WebhookHandler.requests` holds what it received."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    WebhookHandler.requests.clear()
    WebhookHandler.release.clear()
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), WebhookHandler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    WebhookHandler.release.set()
    server.shutdown()
    server.server_close()


def test_a_webhook_receives_the_verdict_when_the_state_changes(
    nightly: FakeNightly, webhook_server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NIGHTLY_WEBHOOK", webhook_server + "/200/secret")
    hooks = [Hook(url="$NIGHTLY_WEBHOOK")]
    sent = [notify(nightly, hooks, day, nme) for day, nme in enumerate((7.0, 13.0, 13.0, 7.0, 7.0), 1)]
    assert sent == [[], [("regression", "")], [], [("good", "")], []]
    assert [path for path, _, _ in WebhookHandler.requests] == ["/200/secret"] * 2
    _, content_type, body = WebhookHandler.requests[0]
    assert content_type == "application/json"
    assert (body["verdict"], body["state"], body["before"], body["date"]) == (
        "regression",
        "regression",
        "good",
        "2026-01-02",
    )
    assert body["reasons"][0]["words"] == "13 is above its maximum 12"
    assert [stored.hook for stored in nightly.history.notifications()] == ["$NIGHTLY_WEBHOOK"] * 2  # not the secret


@pytest.mark.parametrize(
    ("path", "error"),
    [
        ("/500/secret", "the response was 500 Internal Server Error"),
        ("/302/secret", "the response was 302 Found"),
    ],
)
def test_a_webhook_that_refuses_the_verdict_is_notified_again(
    nightly: FakeNightly, webhook_server: str, path: str, error: str
) -> None:
    hooks = [Hook(url=webhook_server + path)]
    for day in (1, 2):
        ((state, outcome),) = notify(nightly, hooks, day, 13.0)
        assert (state, outcome) == ("regression", "ended with exit code 1: " + error)
    assert len(WebhookHandler.requests) == 2


def test_a_webhook_that_hangs_or_cannot_be_reached(webhook_server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_SUCH", raising=False)
    began = time.monotonic()
    assert alarms.run_hook(Hook(url=webhook_server + "/hang", seconds=0.5), {}) == "did not end within 0.5 s"
    assert time.monotonic() - began < 30.0
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        refused = alarms.run_hook(Hook(url=f"http://127.0.0.1:{closed.getsockname()[1]}/secret"), {})
    assert refused == "ended with exit code 1: no response: ConnectionError"
    assert "$NO_SUCH: is not an http(s) URL" in alarms.run_hook(Hook(url="$NO_SUCH"), {})
    assert "no response: " in alarms.run_hook(Hook(url="http://["), {})


luigi_does_not_close_its_connection = pytest.mark.filterwarnings(
    "ignore:.*unclosed <socket", "ignore::pytest.PytestUnraisableExceptionWarning"
)


@pytest.fixture()
def luigi_mail(caplog: pytest.LogCaptureFixture) -> Iterator[socketserver.TCPServer]:
    """Configure Luigi's [email] and [smtp] for a mail server on this host; yield the server."""
    parser = luigi.configuration.get_config()
    values = {
        ("email", "receiver"): "team@example.org, boss@example.org",
        ("email", "sender"): "nightly@example.org",
        ("email", "prefix"): "[fse]",
        ("smtp", "host"): "127.0.0.1",
        ("smtp", "timeout"): "5",
    }
    with mail_server() as server:
        values["smtp", "port"] = str(server.server_address[1])
        for (section, name), value in values.items():
            parser.set(section, name, value)
        yield server
        for section, name in values:
            parser.remove_option(section, name)
    # The traceback of a logged error references the connection. Free it now, within this test's warning filters.
    caplog.clear()
    gc.collect()


@luigi_does_not_close_its_connection
def test_luigi_sends_one_mail_per_change_of_state(nightly: FakeNightly, luigi_mail: socketserver.TCPServer) -> None:
    sent = [notify(nightly, [], day, nme) for day, nme in enumerate((7.0, 13.0, 13.0, 7.0), 1)]
    assert sent == [[], [("regression", "")], [], [("good", "")]]
    bad, good = map(message_from_string, MailHandler.mails)
    assert (bad["Subject"], good["Subject"]) == ("[fse] toy 2026-01-02: regression", "[fse] toy 2026-01-04: pass")
    assert (bad["From"], bad["To"]) == ("nightly@example.org", "team@example.org,boss@example.org")
    parts = bad.get_payload()
    assert isinstance(parts, list) and len(parts) == 1 and isinstance(parts[0], Message)
    body = parts[0].get_payload(decode=True)
    assert isinstance(body, bytes)
    assert "accuracy.nme: 13 is above its maximum 12" in body.decode()
    assert "abc someone: a change" in body.decode()


@luigi_does_not_close_its_connection
def test_a_mail_that_was_not_accepted_is_sent_again(
    nightly: FakeNightly, luigi_mail: socketserver.TCPServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Luigi only logs the rejection, and here its log is disabled."""
    monkeypatch.setattr(logging.getLogger("luigi-interface"), "disabled", True)
    monkeypatch.setattr(MailHandler, "rejection", "550 nobody of that name")
    ((state, outcome),) = notify(nightly, [], 1, 13.0)
    assert state == "regression" and "nobody of that name" in outcome
    monkeypatch.setattr(MailHandler, "rejection", "")
    assert notify(nightly, [], 2, 13.0) == [("regression", "")]
    luigi_mail.shutdown()
    luigi_mail.server_close()
    ((state, outcome),) = notify(nightly, [], 3, 7.0)
    assert state == "good" and "Not able to connect to smtp server" in outcome


@luigi_does_not_close_its_connection
def test_a_mail_that_luigi_suppresses_in_a_terminal_does_not_count_as_sent(
    nightly: FakeNightly, luigi_mail: socketserver.TCPServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as terminal:
        terminal.setattr("sys.stdout.isatty", lambda: True)
        assert notify(nightly, [], 1, 13.0) == []
    assert notify(nightly, [], 2, 13.0) == [("regression", "")]
    assert len(MailHandler.mails) == 1
