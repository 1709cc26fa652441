import contextlib
import datetime
import email.utils
import hashlib
import re
import shutil
import time
from pathlib import Path
from typing import List

import pytest
import requests

from fse.datasets import http_download, source
from fse.errors import DataError, DownloadError, MachineError, StageError
from fse.runtime import locks
from tests.fse.datasets.web_server import (
    DIGEST,
    PAYLOAD,
    Answer,
    Handler,
    Server,
    body_until_close,
    cut,
    fetch,
    redirect,
    reset,
    stall,
    status,
    trickle,
)


def test_download_is_kept_until_it_is_discarded(server: Server, tmp_path: Path) -> None:
    path, digest = fetch(server.url, DIGEST.upper(), tmp_path)
    assert path.read_bytes() == PAYLOAD
    assert digest == DIGEST
    assert path.name == hashlib.sha256(server.url.encode()).hexdigest() + ".archive"
    fetch(server.url, "", tmp_path)
    assert len(server.requests) == 1  # the second call found the first download
    source.discard_download(server.url, tmp_path)
    assert list(tmp_path.iterdir()) == []


# Resuming --------------------------------------------------------------------------------------------------------------


def test_interrupted_download_resumes(server: Server, tmp_path: Path) -> None:
    server.script = [cut(1_000_000), cut(2_500_000)]
    assert fetch(server.url, DIGEST, tmp_path)[1] == DIGEST
    assert server.ranges == [None, "bytes=1000000-", "bytes=2500000-"]
    assert server.requests[1]["If-Range"] == '"one"'


def test_later_run_resumes(server: Server, tmp_path: Path) -> None:
    server.script = [cut(1_000_000)] + [status(503)] * (http_download.ATTEMPTS - 1)
    message = r"503 .*5 times in a row; 1,000,000 of 3,000,000 bytes were received and are kept; run again to resume"
    with pytest.raises(DownloadError, match=message):
        fetch(server.url, DIGEST, tmp_path)
    server.requests.clear()
    assert fetch(server.url, DIGEST, tmp_path)[1] == DIGEST
    assert server.ranges == ["bytes=1000000-"]


def test_attempts_with_progress_reset_the_count_of_failures(server: Server, tmp_path: Path) -> None:
    server.data = 4 * PAYLOAD
    server.script = [cut(end) for end in range(1_500_000, 12_000_000, 1_500_000)]
    path, _ = fetch(server.url, "", tmp_path)
    assert path.read_bytes() == server.data
    assert len(server.requests) == 8


def test_server_without_ranges_starts_over(server: Server, tmp_path: Path) -> None:
    server.script = [cut(1_000_000), cut(None, ranges=False)]
    assert fetch(server.url, DIGEST, tmp_path)[1] == DIGEST
    assert server.ranges == [None, "bytes=1000000-"]


def test_changed_file_starts_over(server: Server, tmp_path: Path) -> None:
    server.script = [cut(1_000_000), cut(None, etag='"two"')]
    assert fetch(server.url, DIGEST, tmp_path)[1] == DIGEST


@pytest.mark.parametrize("etag", ['W/"weak"', ""])
def test_last_modified_replaces_a_weak_etag(server: Server, tmp_path: Path, etag: str) -> None:
    server.script = [cut(1_000_000, etag=etag)]
    assert fetch(server.url, DIGEST, tmp_path)[1] == DIGEST
    assert server.requests[1]["If-Range"] == "Mon, 23 Nov 2026 00:00:00 GMT"


def test_download_without_validator_starts_over(server: Server, tmp_path: Path) -> None:
    server.script = [lambda handler: handler.answer(200, {"Content-Length": len(PAYLOAD)}, PAYLOAD[:1000])]
    assert fetch(server.url, DIGEST, tmp_path)[1] == DIGEST
    assert server.ranges == [None, None]


def test_interruption_after_the_last_byte(server: Server, tmp_path: Path) -> None:
    """The server's 416 says that no bytes are missing."""
    server.script = [cut(1_000_000)] + [status(503)] * (http_download.ATTEMPTS - 1)
    with pytest.raises(DownloadError):
        fetch(server.url, DIGEST, tmp_path)
    (part,) = tmp_path.glob("*.part")
    part.write_bytes(PAYLOAD)
    server.requests.clear()
    assert fetch(server.url, DIGEST, tmp_path)[1] == DIGEST
    assert server.ranges == ["bytes=3000000-"]


@pytest.mark.parametrize(
    "second",
    [
        lambda handler: handler.answer(416, {"Content-Range": "bytes */7"}, b""),
        lambda handler: handler.answer(206, {"Content-Range": "bytes 5-9/3000000"}, PAYLOAD[5:10]),
        lambda handler: handler.answer(206, {}, PAYLOAD[5:10]),
    ],
)
def test_wrong_range_starts_over(server: Server, tmp_path: Path, second: Answer) -> None:
    server.script = [cut(1_000_000), second]
    assert fetch(server.url, DIGEST, tmp_path)[1] == DIGEST
    assert server.ranges == [None, "bytes=1000000-", None]


@pytest.mark.parametrize(
    "second",
    [
        lambda handler: handler.answer(
            206, {"Content-Range": "bytes 1000000-2999999/3000000", "ETag": '"two"'}, PAYLOAD[1_000_000:]
        ),
        lambda handler: handler.answer(
            206, {"Content-Range": "bytes 1000000-2999999/3000001", "ETag": '"one"'}, PAYLOAD[1_000_000:]
        ),
    ],
)
def test_rest_of_another_version_is_not_appended(tmp_path: Path, server: Server, second: Answer) -> None:
    """The server supports Range but not If-Range."""
    server.script = [cut(1_000_000), second]
    assert fetch(server.url, DIGEST, tmp_path)[1] == DIGEST
    assert server.ranges == [None, "bytes=1000000-", None]


def test_connection_resets_are_resumed(tmp_path: Path, server: Server) -> None:
    server.script = [reset(1_000_000), reset(2_000_000)]
    assert fetch(server.url, DIGEST, tmp_path)[1] == DIGEST
    assert server.ranges[0] is None


# Lengths and contents --------------------------------------------------------------------------------------------------


def test_chunked_response_without_length(server: Server, tmp_path: Path) -> None:
    chunk = b"%x\r\n%s\r\n0\r\n\r\n" % (len(PAYLOAD), PAYLOAD)
    server.script = [body_until_close(chunk, {"Transfer-Encoding": "chunked", "Connection": "close"})]
    assert fetch(server.url, DIGEST, tmp_path)[1] == DIGEST


def test_content_encoding_is_not_decoded(server: Server, tmp_path: Path) -> None:
    server.script = [lambda handler: handler.answer(200, {"Content-Encoding": "gzip"}, PAYLOAD)]
    assert fetch(server.url, DIGEST, tmp_path)[1] == DIGEST


@pytest.mark.parametrize("length", ["x", "-1", "9" * 5000, "²", "1e3"])
def test_invalid_content_length_is_ignored(tmp_path: Path, server: Server, length: str) -> None:
    server.script = [body_until_close(PAYLOAD, {"Content-Length": length})]
    assert fetch(server.url, DIGEST, tmp_path)[1] == DIGEST


def test_longer_body_than_stated_starts_over(tmp_path: Path, server: Server) -> None:
    longer = PAYLOAD[1_000_000:] + b"more"
    server.script = [cut(1_000_000), body_until_close(longer, {"Content-Range": "bytes 1000000-2999999/3000000"}, 206)]
    assert fetch(server.url, DIGEST, tmp_path)[1] == DIGEST
    assert server.ranges == [None, "bytes=1000000-", None]


def test_endless_response_is_stopped_at_the_limit(tmp_path: Path, server: Server) -> None:
    """Without a length, the response would fill the disk."""

    def endless(handler: Handler) -> None:
        handler.start(200, {})
        with contextlib.suppress(OSError):
            while not handler.server.over.is_set():
                handler.wfile.write(PAYLOAD)
        handler.close_connection = True

    server.script = [endless]
    with pytest.raises(DownloadError, match=r"more than 10,000,000 bytes; .*dataset\.max_gigabytes"):
        fetch(server.url, "", tmp_path, gigabytes=0.01)
    assert not list(tmp_path.glob("*.part"))
    with pytest.raises(DownloadError, match=r"more than 1,000,000 bytes"):  # the server states the length
        fetch(server.url, "", tmp_path, gigabytes=0.001)


def test_empty_response_is_retried(tmp_path: Path, server: Server) -> None:
    server.script = [cut(1_000_000)] + [status(200), body_until_close(b"", {})] * http_download.ATTEMPTS
    message = "sent nothing, 5 times.*1,000,000 of 3,000,000 bytes were received and are kept"
    with pytest.raises(DownloadError, match=message):
        fetch(server.url, "", tmp_path)


@pytest.mark.parametrize(
    "body", [b"<!DOCTYPE html><title>Quota  &amp; more</title>", b"\n <html>", b"<?xml version='1.0'?>"]
)
def test_web_page_is_refused_and_earlier_bytes_are_kept(server: Server, tmp_path: Path, body: bytes) -> None:
    server.script = [cut(1_000_000), status(200, body)]
    with pytest.raises(DownloadError, match=r"a web page.*instead of the file") as caught:
        fetch(server.url, "", tmp_path)
    assert ("Quota  & more" in str(caught.value)) == (b"Quota" in body)
    assert [file.stat().st_size for file in tmp_path.glob("*.part")] == [1_000_000]


# Failing servers -------------------------------------------------------------------------------------------------------


def test_client_error_is_not_retried(server: Server, tmp_path: Path) -> None:
    server.script = [status(404)]
    with pytest.raises(DownloadError, match=r"set\.zip: the server answered 404 "):
        fetch(server.url, "", tmp_path)
    assert len(server.requests) == 1


def test_server_errors_are_retried(server: Server, tmp_path: Path) -> None:
    server.script = [status(500), status(503), status(429), status(200)]
    assert fetch(server.url, DIGEST, tmp_path)[1] == DIGEST
    assert len(server.requests) == 5


def test_refused_connection_and_invalid_url(tmp_path: Path, server: Server) -> None:
    server.server_close()
    with pytest.raises(DownloadError, match=r"Connection refused.*5 times") as caught:
        fetch(server.url.replace("://", "://me:secret@") + "?token=secret", "", tmp_path)
    assert "secret" not in str(caught.value)
    with pytest.raises(DownloadError, match="is not valid"):
        fetch("http://:99999/", "", tmp_path)


def test_stalled_server_is_retried(tmp_path: Path, server: Server) -> None:
    server.script = [lambda handler: handler.server.over.wait(10), stall(1_000_000)]
    assert fetch(server.url, DIGEST, tmp_path, stall=0.3)[1] == DIGEST
    first, second, third = server.ranges
    assert first is None and second is None and third is not None
    assert 900_000 < int(third[len("bytes=") : -1]) <= 1_000_000


def test_permanently_stalled_server_is_an_error(tmp_path: Path, server: Server) -> None:
    server.script = [stall(1_000_000)] * http_download.ATTEMPTS
    message = (
        r"nothing was received for 0\.05 seconds \(download\.stall\), 5 times in a row; "
        ".* of 3,000,000 bytes were received and are kept"
    )
    with pytest.raises(DownloadError, match=message):
        fetch(server.url, DIGEST, tmp_path, stall=0.05)


def test_slow_server_is_interrupted_at_the_deadline(tmp_path: Path, server: Server) -> None:
    server.script = [trickle]
    began = time.monotonic()
    message = (
        r"the download\.timeout of 1 seconds has expired; "
        r"[\d,]+ of 3,000,000 bytes were received and are kept; run again to resume"
    )
    with pytest.raises(DownloadError, match=message):
        fetch(server.url, DIGEST, tmp_path, timeout=1.0)
    assert time.monotonic() - began < 5
    assert fetch(server.url, DIGEST, tmp_path, timeout=10.0)[1] == DIGEST
    resumed = server.ranges[1]
    assert resumed is not None
    assert 65_536 <= int(resumed[len("bytes=") : -1]) < 100_500


def test_deadline_is_not_mistaken_for_the_end_of_the_file(tmp_path: Path, server: Server) -> None:
    """Without a length, the file ends where the server closes the connection; here it is closed at the deadline."""

    def endless(handler: Handler) -> None:
        handler.start(200, {})
        handler.wfile.write(PAYLOAD[:100_000])
        handler.server.over.wait(10)
        handler.close_connection = True

    server.script = [endless]
    with pytest.raises(DownloadError, match="has expired; .* bytes were received, but the server does not support"):
        fetch(server.url, "", tmp_path, timeout=1.0)
    assert not list(tmp_path.glob("*.archive"))


def test_reset_before_the_response(tmp_path: Path, server: Server) -> None:
    server.script = [Handler.reset] * http_download.ATTEMPTS
    message = r"the connection (failed|was cut).*5 times in a row; nothing was received"
    with pytest.raises(DownloadError, match=message):
        fetch(server.url, DIGEST, tmp_path)


@pytest.mark.parametrize("value", ["0", "Wed, 21 Oct 2015 07:28:00 GMT", "soon", "-5", "²", "Wed, 99 Oct"])
@pytest.mark.parametrize("code", [429, 503])
def test_retry_after_that_asks_for_no_pause_or_is_invalid(
    tmp_path: Path, server: Server, code: int, value: str
) -> None:
    server.script = [lambda handler: handler.answer(code, {"Retry-After": value}, b"")]
    assert fetch(server.url, DIGEST, tmp_path)[1] == DIGEST


def test_retry_after_sets_the_pause_up_to_a_limit(
    tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    def answer(code: int, pause: str) -> Answer:
        return lambda handler: handler.answer(code, {"Retry-After": pause}, b"")

    pauses: List[float] = []
    monkeypatch.setattr(time, "sleep", pauses.append)
    later = email.utils.format_datetime(datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(seconds=90))
    server.script = [answer(503, "7"), answer(503, later)]
    fetch(server.url, DIGEST, tmp_path)
    assert pauses[0] == 7
    assert 80 < pauses[1] <= 90
    server.script = [answer(429, "3600")]
    with pytest.raises(DownloadError, match=r"429 .*, and asked to wait 3600 seconds; nothing was received"):
        fetch(server.url + "2", DIGEST, tmp_path)
    server.script = [answer(429, "200")]
    with pytest.raises(DownloadError, match=r"429 .*download\.timeout of 100 seconds has expired"):
        fetch(server.url + "3", DIGEST, tmp_path, timeout=100.0)
    assert len(pauses) == 2


# Redirects -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
def test_redirects_are_followed_when_resuming(tmp_path: Path, server: Server, code: int) -> None:
    server.script = [redirect("/b/other.zip", code), cut(1_000_000), redirect("/b/other.zip", code)]
    assert fetch(server.url, DIGEST, tmp_path)[1] == DIGEST
    assert server.paths == ["/a/set.zip", "/b/other.zip"] * 2
    assert server.ranges[3] == "bytes=1000000-"


def test_endless_redirects(tmp_path: Path, server: Server) -> None:
    server.script = [redirect("/a/set.zip")] * 40
    with pytest.raises(DownloadError, match=r"set\.zip: too many redirects"):
        fetch(server.url, "", tmp_path)
    assert len(server.requests) == 31


@pytest.mark.parametrize("to", ["file:///etc/passwd", "ftp://127.0.0.1/x", "gopher://x"])
def test_redirect_to_another_scheme_is_refused(tmp_path: Path, server: Server, to: str) -> None:
    server.script = [redirect(to)]
    with pytest.raises(DownloadError, match=r"redirects to a URL that is not http\(s\)://"):
        fetch(server.url, "", tmp_path)
    assert len(server.requests) == 1


@pytest.mark.parametrize("to", ["http://:99999/", "http://[x"])
def test_redirect_to_an_invalid_url(tmp_path: Path, server: Server, to: str) -> None:
    server.script = [redirect(to)]
    with pytest.raises(DownloadError, match="that it redirects to, is not valid"):
        fetch(server.url, "", tmp_path)


def test_redirect_from_https_to_http_is_refused(
    tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    get = requests.Session.get  # the test server has no certificate, so it cannot answer https
    monkeypatch.setattr(requests.Session, "get", lambda self, url, **options: get(self, server.url, **options))
    with pytest.raises(DownloadError, match="to an unencrypted URL"):
        fetch(server.url.replace("http:", "https:"), "", tmp_path)


# Secrets, disk space and locks -----------------------------------------------------------------------------------------


def test_environment_variables_in_a_url_are_not_written(
    tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SET_TOKEN", "secret")
    url = server.url + "?token=${SET_TOKEN}"
    server.script = [cut(1_000_000)] + [status(503)] * (http_download.ATTEMPTS - 1)
    with pytest.raises(DownloadError) as caught:
        fetch(url, DIGEST, tmp_path)
    assert "secret" not in str(caught.value)
    assert server.paths[0] == "/a/set.zip?token=secret"
    assert not [path for path in tmp_path.iterdir() if b"secret" in path.read_bytes() + path.name.encode()]
    monkeypatch.setenv("SET_TOKEN", "other")  # the download resumes, since the URL is the same without the value
    assert fetch(url, DIGEST, tmp_path)[1] == DIGEST
    assert server.ranges[-1] == "bytes=1000000-"
    monkeypatch.delenv("SET_TOKEN")
    with pytest.raises(DataError, match=r"set\.zip: the environment variable SET_TOKEN is not set"):
        fetch(url + "&more", DIGEST, tmp_path)


def test_download_that_does_not_fit_on_the_disk_is_not_started(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(str(tmp_path))
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=2_000_000))
    with pytest.raises(MachineError, match=r"set\.zip: needs 0\.003 GB in .*0\.002 GB"):
        fetch(server.url, DIGEST, tmp_path)
    assert [path.stat().st_size for path in tmp_path.glob("*.part")] == []


def test_waiting_for_another_process_ends_at_the_deadline(tmp_path: Path, server: Server) -> None:
    path = tmp_path / (hashlib.sha256(server.url.encode()).hexdigest() + ".lock")
    message = f"the download of {re.escape(server.url)} into .* is in use by process"
    with locks.lock(path, "the download", 0.0), pytest.raises(StageError, match=message):
        fetch(server.url, "", tmp_path, timeout=1.0)
    assert server.requests == []
