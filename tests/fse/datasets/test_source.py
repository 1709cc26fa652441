import contextlib
import datetime
import email.utils
import hashlib
import http.server
import io
import json
import re
import shutil
import socket
import struct
import subprocess
import sys
import threading
import time
import zipfile
from pathlib import Path
from typing import Any, Iterator

import filelock
import numpy as np
import pytest
import requests
from PIL import Image

from fse import cli, config
from fse.datasets import download, registry, source, spec
from fse.errors import MACHINE, ArchiveError, DataError, DownloadError, MachineError, StageError
from tests.fse.datasets import layouts

PAYLOAD = np.random.RandomState(0).bytes(3_000_000)  # begins with no `<`, ends with no `!`
DIGEST = hashlib.sha256(PAYLOAD).hexdigest()
FACES = Path(__file__).resolve().parents[4] / "shared" / "data" / "faces.zip"


def fetch(address: Any, sha256: Any, cache: Any, gigabytes: Any = 1.0, **download: Any) -> Any:
    dataset = config.Dataset(archive=address, sha256=sha256, max_gigabytes=gigabytes)
    return source.fetch(dataset, config.Download(**download), cache)


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves `server.data` as `server.script`, a list of functions, says: one per request, then `serve_well`."""

    protocol_version = "HTTP/1.1"

    def handle(self) -> None:
        with contextlib.suppress(OSError):  # those who ask may leave
            super().handle()

    def do_GET(self) -> None:
        self.server.requests.append(dict(self.headers, path=self.path))
        script = self.server.script
        (script.pop(0) if script else serve_well)(self)

    def answer(self, status: Any, headers: Any, body: Any, close: Any = True) -> None:
        self.send_response(status)
        for name, value in dict({"Content-Length": len(body)}, **headers).items():
            self.send_header(name, str(value))
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)
        self.close_connection = close

    def log_message(self, *arguments: Any) -> None:
        pass


def serve_well(handler: Any, end: Any = None, etag: Any = '"one"', ranges: Any = True, close: Any = True) -> Any:
    """A server that knows ranges; `end` cuts the connection after that byte of the file, unless it is not to close."""
    data, start = handler.server.data, 0
    headers = {"ETag": etag, "Last-Modified": "Mon, 23 Nov 2026 00:00:00 GMT"}
    wanted = handler.headers.get("Range")
    if ranges and wanted and handler.headers.get("If-Range") in (etag, headers["Last-Modified"]):
        start = int(wanted[len("bytes=") : -1])
        if start >= len(data):
            return handler.answer(416, {"Content-Range": f"bytes */{len(data)}"}, b"")
        headers["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
    headers["Content-Length"] = len(data) - start
    return handler.answer(206 if start else 200, headers, data[start:end], close)


def cut(end: Any, **options: Any) -> Any:
    return lambda handler: serve_well(handler, end, **options)


def status(code: Any, body: Any = b"") -> Any:
    return lambda handler: handler.answer(code, {}, body)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.setattr(source, "PAUSE", 0.001)
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    running = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    running.data, running.script, running.requests, running.over = PAYLOAD, [], [], threading.Event()
    running.url = f"http://127.0.0.1:{running.server_port}/a/set.zip"
    thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield running
    running.over.set()
    running.shutdown()
    running.server_close()
    thread.join(10)
    assert not thread.is_alive()


def ranges(server: Any) -> Any:
    return [headers.get("Range") for headers in server.requests]


def test_a_plain_download(server: Any, tmp_path: Path) -> None:
    path, digest = fetch(server.url, DIGEST.upper(), tmp_path)
    assert path.read_bytes() == PAYLOAD
    assert digest == DIGEST
    assert path.name == hashlib.sha256(server.url.encode()).hexdigest() + ".archive"
    fetch(server.url, "", tmp_path)
    assert len(server.requests) == 1  # the second time it was there
    source.discard(server.url, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_cut_download_goes_on_where_it_was(server: Any, tmp_path: Path) -> None:
    server.script = [cut(1_000_000), cut(2_500_000)]
    assert fetch(server.url, DIGEST, tmp_path)[1] == DIGEST
    assert ranges(server) == [None, "bytes=1000000-", "bytes=2500000-"]
    assert server.requests[1]["If-Range"] == '"one"'


def test_it_goes_on_in_a_later_run(server: Any, tmp_path: Path) -> None:
    server.script = [cut(1_000_000)] + [status(503)] * (source.ATTEMPTS - 1)
    told = r"503 .*5 times in a row; 1,000,000 of 3,000,000 bytes came and are kept; run again to go on from there"
    with pytest.raises(DownloadError, match=told):
        fetch(server.url, DIGEST, tmp_path)
    server.requests.clear()
    assert fetch(server.url, DIGEST, tmp_path)[1] == DIGEST
    assert ranges(server) == ["bytes=1000000-"]


def test_attempts_that_bring_something_do_not_count(server: Any, tmp_path: Path) -> None:
    server.data = 4 * PAYLOAD
    server.script = [cut(end) for end in range(1_500_000, 12_000_000, 1_500_000)]
    path, _ = fetch(server.url, "", tmp_path)
    assert path.read_bytes() == server.data
    assert len(server.requests) == 8


def test_a_server_without_ranges_begins_anew(server: Any, tmp_path: Path) -> None:
    server.script = [cut(1_000_000), cut(None, ranges=False)]
    assert fetch(server.url, DIGEST, tmp_path)[1] == DIGEST
    assert ranges(server) == [None, "bytes=1000000-"]


def test_another_file_since_then_begins_anew(server: Any, tmp_path: Path) -> None:
    server.script = [cut(1_000_000), cut(None, etag='"two"')]
    assert fetch(server.url, DIGEST, tmp_path)[1] == DIGEST


@pytest.mark.parametrize("etag", ['W/"weak"', ""])
def test_weak_tags_give_way_to_the_date(server: Any, tmp_path: Path, etag: str) -> None:
    server.script = [cut(1_000_000, etag=etag)]
    assert fetch(server.url, DIGEST, tmp_path)[1] == DIGEST
    assert server.requests[1]["If-Range"] == "Mon, 23 Nov 2026 00:00:00 GMT"


def test_without_a_validator_nothing_is_joined(server: Any, tmp_path: Path) -> None:
    server.script = [lambda handler: handler.answer(200, {"Content-Length": len(PAYLOAD)}, PAYLOAD[:1000])]
    assert fetch(server.url, DIGEST, tmp_path)[1] == DIGEST
    assert ranges(server) == [None, None]


def test_cut_at_the_very_end(server: Any, tmp_path: Path) -> None:
    """The server's 416 tells that nothing is missing."""
    server.script = [cut(1_000_000)] + [status(503)] * (source.ATTEMPTS - 1)
    with pytest.raises(DownloadError):
        fetch(server.url, DIGEST, tmp_path)
    (part,) = tmp_path.glob("*.part")
    part.write_bytes(PAYLOAD)
    server.requests.clear()
    assert fetch(server.url, DIGEST, tmp_path)[1] == DIGEST
    assert ranges(server) == ["bytes=3000000-"]


@pytest.mark.parametrize(
    "second",
    [
        lambda handler: handler.answer(416, {"Content-Range": "bytes */7"}, b""),
        lambda handler: handler.answer(206, {"Content-Range": "bytes 5-9/3000000"}, PAYLOAD[5:10]),
        lambda handler: handler.answer(206, {}, PAYLOAD[5:10]),
    ],
)
def test_wrong_ranges_begin_anew(server: Any, tmp_path: Path, second: Any) -> None:
    server.script = [cut(1_000_000), second]
    assert fetch(server.url, DIGEST, tmp_path)[1] == DIGEST
    assert ranges(server) == [None, "bytes=1000000-", None]


def test_a_length_that_nobody_told(server: Any, tmp_path: Path) -> None:
    def chunked(handler: Any) -> None:
        handler.send_response(200)
        handler.send_header("Transfer-Encoding", "chunked")
        handler.send_header("Connection", "close")
        handler.end_headers()
        handler.wfile.write(b"%x\r\n%s\r\n0\r\n\r\n" % (len(PAYLOAD), PAYLOAD))
        handler.close_connection = True

    server.script = [chunked]
    assert fetch(server.url, DIGEST, tmp_path)[1] == DIGEST


def test_what_the_server_says_it_compressed_is_kept_as_it_came(server: Any, tmp_path: Path) -> None:
    server.script = [lambda handler: handler.answer(200, {"Content-Encoding": "gzip"}, PAYLOAD)]
    assert fetch(server.url, DIGEST, tmp_path)[1] == DIGEST


def test_a_wrong_checksum_names_both_and_deletes(server: Any, tmp_path: Path) -> None:
    with pytest.raises(DownloadError, match="the download was deleted") as caught:
        fetch(server.url, "0" * 64, tmp_path)
    assert DIGEST in str(caught.value)
    assert "0" * 64 in str(caught.value)
    assert not list(tmp_path.glob("*.archive")) + list(tmp_path.glob("*.part"))


def test_an_answer_of_no(server: Any, tmp_path: Path) -> None:
    server.script = [status(404)]
    with pytest.raises(DownloadError, match=r"set\.zip: the server answered 404 "):
        fetch(server.url, "", tmp_path)
    assert len(server.requests) == 1


def test_server_errors_are_tried_again(server: Any, tmp_path: Path) -> None:
    server.script = [status(500), status(503), status(429), status(200)]
    assert fetch(server.url, DIGEST, tmp_path)[1] == DIGEST
    assert len(server.requests) == 5


@pytest.mark.parametrize(
    "body", [b"<!DOCTYPE html><title>Quota  &amp; more</title>", b"\n <html>", b"<?xml version='1.0'?>"]
)
def test_a_web_page_is_no_archive(server: Any, tmp_path: Path, body: bytes) -> None:
    server.script = [cut(1_000_000), status(200, body)]
    with pytest.raises(DownloadError, match=r"a web page.*instead of the file") as caught:
        fetch(server.url, "", tmp_path)
    assert ("Quota  & more" in str(caught.value)) == (b"Quota" in body)
    assert [file.stat().st_size for file in tmp_path.glob("*.part")] == [1_000_000]  # what had come is not lost


def test_nobody_answers(tmp_path: Path, server: Any) -> None:
    server.server_close()
    with pytest.raises(DownloadError, match=r"Connection refused.*5 times") as caught:
        fetch(server.url.replace("://", "://me:secret@") + "?token=secret", "", tmp_path)
    assert "secret" not in str(caught.value)
    with pytest.raises(DownloadError, match="no valid address"):
        fetch("http://:99999/", "", tmp_path)


def stall(end: Any) -> Any:
    """Sends a part, and then nothing."""

    def handler_of(handler: Any) -> None:
        serve_well(handler, end, close=False)
        handler.server.over.wait(10)

    return handler_of


def reset(end: Any) -> Any:
    """Sends a part and resets the connection."""

    def handler_of(handler: Any) -> None:
        serve_well(handler, end)
        handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        handler.connection.close()

    return handler_of


def trickle(handler: Any) -> None:
    """Sends a byte now and then."""
    handler.send_response(200)
    handler.send_header("ETag", '"one"')
    handler.send_header("Content-Length", str(len(handler.server.data)))
    handler.end_headers()
    handler.wfile.write(handler.server.data[:100_000])
    for place in range(100_000, 100_500):
        if handler.server.over.wait(0.02):
            break
        handler.wfile.write(handler.server.data[place : place + 1])


def redirect(to: Any, code: Any = 302) -> Any:
    return lambda handler: handler.answer(code, {"Location": to}, b"<html>moved")


def test_a_server_that_falls_asleep_is_asked_again(tmp_path: Path, server: Any) -> None:
    server.script = [stall(None), stall(1_000_000)]
    server.script[0] = lambda handler: handler.server.over.wait(10)
    assert fetch(server.url, DIGEST, tmp_path, stall=0.1)[1] == DIGEST
    assert ranges(server)[:2] == [None, None]
    assert 900_000 < int(ranges(server)[2][len("bytes=") : -1]) <= 1_000_000


def test_a_server_that_never_wakes_up(tmp_path: Path, server: Any) -> None:
    server.script = [stall(1_000_000)] * source.ATTEMPTS
    told = (
        r"nothing came for 0\.05 seconds \(download\.stall\), 5 times in a row; .* of 3,000,000 bytes came and are kept"
    )
    with pytest.raises(DownloadError, match=told):
        fetch(server.url, DIGEST, tmp_path, stall=0.05)


def test_a_server_that_sends_a_byte_now_and_then_is_left_in_time(tmp_path: Path, server: Any) -> None:
    server.script = [trickle]
    began = time.monotonic()
    told = r"download\.timeout, 1 seconds, is over; [\d,]+ of 3,000,000 bytes came and are kept; run again to go on"
    with pytest.raises(DownloadError, match=told):
        fetch(server.url, DIGEST, tmp_path, timeout=1.0)
    assert time.monotonic() - began < 5
    assert fetch(server.url, DIGEST, tmp_path, timeout=10.0)[1] == DIGEST
    assert 65_536 <= int(ranges(server)[1][len("bytes=") : -1]) < 100_500


def test_an_end_that_the_time_made_is_no_end(tmp_path: Path, server: Any) -> None:
    """Without a length the server's closing the connection tells that all has come; ours does not."""

    def endless(handler: Any) -> None:
        handler.send_response(200)
        handler.end_headers()
        handler.wfile.write(PAYLOAD[:100_000])
        handler.server.over.wait(10)
        handler.close_connection = True

    server.script = [endless]
    with pytest.raises(DownloadError, match="is over; .* bytes came, but the server cannot tell"):
        fetch(server.url, "", tmp_path, timeout=1.0)
    assert not list(tmp_path.glob("*.archive"))


def test_resets_in_the_middle_are_gone_on_from(tmp_path: Path, server: Any) -> None:
    server.script = [reset(1_000_000), reset(2_000_000)]
    assert fetch(server.url, DIGEST, tmp_path)[1] == DIGEST
    assert ranges(server)[0] is None


def test_a_reset_before_the_answer(tmp_path: Path, server: Any) -> None:
    def shut(handler: Any) -> None:
        handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        handler.connection.close()
        handler.close_connection = True

    server.script = [shut] * source.ATTEMPTS
    with pytest.raises(DownloadError, match=r"the connection (failed|was cut).*5 times in a row; nothing came"):
        fetch(server.url, DIGEST, tmp_path)


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
def test_redirects_are_followed_and_the_rest_is_asked_for_there(tmp_path: Path, server: Any, code: int) -> None:
    server.script = [redirect("/b/other.zip", code), cut(1_000_000), redirect("/b/other.zip", code)]
    assert fetch(server.url, DIGEST, tmp_path)[1] == DIGEST
    assert [request["path"] for request in server.requests] == ["/a/set.zip", "/b/other.zip"] * 2
    assert ranges(server)[3] == "bytes=1000000-"


def test_redirects_without_end(tmp_path: Path, server: Any) -> None:
    server.script = [redirect("/a/set.zip")] * 40
    with pytest.raises(DownloadError, match=r"set\.zip: redirected without end"):
        fetch(server.url, "", tmp_path)
    assert len(server.requests) == 31


@pytest.mark.parametrize("to", ["file:///etc/passwd", "ftp://127.0.0.1/x", "gopher://x"])
def test_redirects_to_addresses_of_another_kind(tmp_path: Path, server: Any, to: str) -> None:
    server.script = [redirect(to)]
    with pytest.raises(DownloadError, match="another kind than http"):
        fetch(server.url, "", tmp_path)
    assert len(server.requests) == 1


@pytest.mark.parametrize("to", ["http://:99999/", "http://[x"])
def test_redirects_to_what_is_no_address(tmp_path: Path, server: Any, to: str) -> None:
    server.script = [redirect(to)]
    with pytest.raises(DownloadError, match="no valid address"):
        fetch(server.url, "", tmp_path)


def test_redirects_do_not_leave_encryption(tmp_path: Path, server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    real = requests.Session.get  # without a certificate nothing here answers to https
    monkeypatch.setattr(requests.Session, "get", lambda self, url, **options: real(self, server.url, **options))
    with pytest.raises(DownloadError, match="not encrypted"):
        fetch(server.url.replace("http:", "https:"), "", tmp_path)


@pytest.mark.parametrize("length", ["x", "-1", "9" * 5000, "²", "1e3"])
def test_lengths_that_are_none(tmp_path: Path, server: Any, length: Any) -> None:
    def handler_of(handler: Any) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", length)
        handler.end_headers()
        handler.wfile.write(PAYLOAD)
        handler.close_connection = True

    server.script = [handler_of]
    assert fetch(server.url, DIGEST, tmp_path)[1] == DIGEST


@pytest.mark.parametrize("told", ["0", "Wed, 21 Oct 2015 07:28:00 GMT", "soon", "-5", "²", "Wed, 99 Oct"])
@pytest.mark.parametrize("code", [429, 503])
def test_a_server_that_wants_time_gets_it(tmp_path: Path, server: Any, code: int, told: str) -> None:
    server.script = [lambda handler: handler.answer(code, {"Retry-After": told}, b"")]
    assert fetch(server.url, DIGEST, tmp_path)[1] == DIGEST


def test_how_long_a_server_wants_to_be_left_alone(tmp_path: Path, server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    waits = []
    monkeypatch.setattr(source.time, "sleep", waits.append)
    later = email.utils.format_datetime(datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(seconds=90))
    server.script = [
        lambda handler, told=told: handler.answer(503, {"Retry-After": told}, b"") for told in ("7", later)
    ]
    fetch(server.url, DIGEST, tmp_path)
    assert waits[0] == 7
    assert 80 < waits[1] <= 90
    server.script = [lambda handler: handler.answer(429, {"Retry-After": "3600"}, b"")]
    with pytest.raises(DownloadError, match=r"429 .*, and to come back in 3600 seconds; nothing came"):
        fetch(server.url + "2", DIGEST, tmp_path)
    server.script = [lambda handler: handler.answer(429, {"Retry-After": "200"}, b"")]
    with pytest.raises(DownloadError, match=r"429 .*download\.timeout, 100 seconds, is over"):
        fetch(server.url + "3", DIGEST, tmp_path, timeout=100.0)
    assert len(waits) == 2


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
def test_a_rest_of_another_file_is_not_joined(tmp_path: Path, server: Any, second: Any) -> None:
    """A server that knows Range but not If-Range."""
    server.script = [cut(1_000_000), second]
    assert fetch(server.url, DIGEST, tmp_path)[1] == DIGEST
    assert ranges(server) == [None, "bytes=1000000-", None]


def test_more_than_was_said(tmp_path: Path, server: Any) -> None:
    def more(handler: Any) -> None:
        handler.send_response(206)
        handler.send_header("Content-Range", "bytes 1000000-2999999/3000000")
        handler.end_headers()
        handler.wfile.write(PAYLOAD[1_000_000:] + b"more")
        handler.close_connection = True

    server.script = [cut(1_000_000), more]
    assert fetch(server.url, DIGEST, tmp_path)[1] == DIGEST
    assert ranges(server) == [None, "bytes=1000000-", None]


def test_no_end_at_all(tmp_path: Path, server: Any) -> None:
    """An answer without a length, which would fill the disk."""

    def endless(handler: Any) -> None:
        handler.send_response(200)
        handler.end_headers()
        with contextlib.suppress(OSError):
            while not handler.server.over.is_set():
                handler.wfile.write(PAYLOAD)
        handler.close_connection = True

    server.script = [endless]
    with pytest.raises(DownloadError, match=r"more than 10,000,000 bytes; .*dataset\.max_gigabytes"):
        fetch(server.url, "", tmp_path, gigabytes=0.01)
    assert not list(tmp_path.glob("*.part"))
    with pytest.raises(DownloadError, match=r"more than 1,000,000 bytes"):  # told beforehand
        fetch(server.url, "", tmp_path, gigabytes=0.001)


def test_an_empty_answer(tmp_path: Path, server: Any) -> None:
    def empty(handler: Any) -> None:
        handler.send_response(200)
        handler.end_headers()
        handler.close_connection = True

    server.script = [cut(1_000_000)] + [status(200), empty] * source.ATTEMPTS
    with pytest.raises(DownloadError, match="sent nothing, 5 times.*1,000,000 of 3,000,000 bytes came and are kept"):
        fetch(server.url, "", tmp_path)


# Secrets ---------------------------------------------------------------------------------------------------------------


def test_environment_variables_in_an_address(tmp_path: Path, server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SET_TOKEN", "secret")
    address = server.url + "?token=${SET_TOKEN}"
    server.script = [cut(1_000_000)] + [status(503)] * (source.ATTEMPTS - 1)
    with pytest.raises(DownloadError) as caught:
        fetch(address, DIGEST, tmp_path)
    assert "secret" not in str(caught.value)
    assert server.requests[0]["path"] == "/a/set.zip?token=secret"
    assert not [path for path in tmp_path.iterdir() if b"secret" in path.read_bytes() + path.name.encode()]
    monkeypatch.setenv("SET_TOKEN", "other")  # a new token does not make another file
    assert fetch(address, DIGEST, tmp_path)[1] == DIGEST
    assert ranges(server)[-1] == "bytes=1000000-"
    monkeypatch.delenv("SET_TOKEN")
    with pytest.raises(DataError, match=r"set\.zip: the environment variable SET_TOKEN is not set"):
        fetch(address + "&more", DIGEST, tmp_path)


# Google Drive ----------------------------------------------------------------------------------------------------------

WARNING = """<!DOCTYPE html><html><head><title>Google Drive - Virus scan warning</title></head><body>
<p class="uc-warning-subcaption"><a href="/open?id=ID">set.zip</a> (1.3G) is too large for Google to scan for viruses.</p>
<form id="download-form" action="{}" method="get"><input type="submit" id="uc-download-link" value="Download anyway"/>
<input type="hidden" name="id" value="ID"><input type="hidden" name="export" value="download"><input type="hidden"
name="authuser" value="0"><input type="hidden" name="confirm" value="t"><input type="hidden" name="uuid" value="a-1&amp;b">
</form></body></html>"""
QUOTA = """<!DOCTYPE html><html><head><title>Google Drive - Quota exceeded</title></head><body>
<p class="uc-error-caption">Sorry, you can&#39;t view or download this file at this time.</p></body></html>"""


@pytest.fixture
def drive(server: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(source, "DRIVE", server.url.replace("/a/set.zip", "/download"))
    server.warning = status(200, WARNING.format(source.DRIVE).encode())
    return server


@pytest.mark.parametrize(
    ("address", "query"),
    [
        ("drive:ID", "id=ID"),
        ("https://drive.google.com/file/d/ID/view?usp=sharing", "id=ID"),
        ("https://drive.google.com/file/u/0/d/ID/view?usp=sharing&resourcekey=0-k", "id=ID&resourcekey=0-k"),
        ("https://drive.google.com/open?id=ID", "id=ID"),
        ("https://docs.google.com/uc?export=download&id=ID", "id=ID"),
    ],
)
def test_files_of_google_drive(drive: Any, tmp_path: Path, address: str, query: str) -> None:
    assert fetch(address, DIGEST, tmp_path)[1] == DIGEST
    assert [request["path"] for request in drive.requests] == ["/download?" + query + "&export=download&confirm=t"]


def test_large_files_of_google_drive_are_confirmed_each_time(drive: Any, tmp_path: Path) -> None:
    drive.script = [drive.warning, cut(1_000_000), drive.warning]
    assert fetch("drive:ID", DIGEST, tmp_path)[1] == DIGEST
    confirmed = "/download?id=ID&export=download&authuser=0&confirm=t&uuid=a-1%26b"
    assert [request["path"] for request in drive.requests][1::2] == [confirmed] * 2
    assert ranges(drive)[2:] == ["bytes=1000000-"] * 2


@pytest.mark.parametrize("script", [[QUOTA], [WARNING, QUOTA]])
def test_a_quota_of_google_drive(drive: Any, tmp_path: Path, script: Any) -> None:
    drive.script = [cut(1_000_000)] + [status(200, page.format(source.DRIVE).encode()) for page in script]
    with pytest.raises(
        DownloadError, match=r"drive:ID: the server sent a web page \('Google Drive - Quota exceeded'\)"
    ):
        fetch("drive:ID", DIGEST, tmp_path)
    assert [file.stat().st_size for file in tmp_path.glob("*.part")] == [1_000_000]


def test_google_drive_that_asks_for_ever(drive: Any, tmp_path: Path) -> None:
    drive.script = [drive.warning] * 5
    with pytest.raises(DownloadError, match="a web page .*Virus scan warning"):
        fetch("drive:ID", DIGEST, tmp_path)
    assert len(drive.requests) == 2


@pytest.mark.parametrize(
    "page", ["<form id=download-form", "<form id='download-form'></form>", WARNING.format("file:///x")]
)
def test_other_pages_of_google_drive(drive: Any, tmp_path: Path, page: Any) -> None:
    drive.script = [status(200, page.encode())]
    with pytest.raises(DownloadError):
        fetch("drive:ID", DIGEST, tmp_path)


def test_forms_of_others_are_not_sent(server: Any, tmp_path: Path) -> None:
    server.script = [status(200, WARNING.format(server.url).encode())]
    with pytest.raises(DownloadError, match="a web page"):
        fetch(server.url, DIGEST, tmp_path)
    assert len(server.requests) == 1


# Files of known data sets ----------------------------------------------------------------------------------------------

FILE = spec.File("set.zip", len(PAYLOAD), DIGEST, folder="set")


def obtain(server: Any, tmp_path: Path, file: Any = FILE, **download: Any) -> Any:
    options = dict({"mirrors": (server.url.rpartition("/")[0],)}, **download)
    return source.obtain(file, config.Download(**options), tmp_path, "https://page", 10**9)


def test_a_known_file_is_asked_for_once(server: Any, tmp_path: Path) -> None:
    path = obtain(server, tmp_path)
    assert path.read_bytes() == PAYLOAD
    assert path.name == "set.zip"
    assert obtain(server, tmp_path) == path
    assert len(server.requests) == 1


def test_what_turns_out_to_be_corrupt_is_downloaded_again(
    server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a file whose size and hash are not known a server that tells no length may send a part."""
    layouts.shoes(tmp_path)
    whole = (tmp_path / "ut-zap50k-images-square.zip").read_bytes()
    known = layouts.fitted(registry.KNOWN["shoes"], tmp_path / "none", {"": {}})
    monkeypatch.setitem(registry.KNOWN, "shoes", known)
    tables = {"dataset": {"name": "shoes"}, "download": {"mirrors": [server.url.rpartition("/")[0]]}}
    server.data = whole[:-100]
    with pytest.raises(ArchiveError, match="truncated or corrupt"):
        download.download(config.from_tables(tables), tmp_path / "out", tmp_path / "cache")
    server.data = whole
    download.download(config.from_tables(tables), tmp_path / "out2", tmp_path / "cache")
    assert len(server.requests) == 2


def test_the_second_mirror_serves_where_the_first_fails(server: Any, tmp_path: Path) -> None:
    root = server.url.rpartition("/a/")[0]
    server.script = [status(404)]
    obtain(server, tmp_path, mirrors=(root + "/one/?key=1", root + "/two"))
    assert [request["path"] for request in server.requests] == ["/one/set.zip?key=1", "/two/set.zip"]
    (tmp_path / "downloads" / "set.zip").unlink()
    own = FILE._replace(addresses=(server.url,))
    server.script = [status(200, PAYLOAD[:-1] + b"!"), status(200, QUOTA.encode())]
    obtain(server, tmp_path, own, mirrors=(root + "/one", root + "/two"))
    assert server.requests[-1]["path"] == "/a/set.zip"


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (PAYLOAD[:-1] + b"!", "its sha256 is .*, wanted " + DIGEST),
        (PAYLOAD[:-1], "the server has a file of 2,999,999 bytes, wanted 3,000,000"),
        (PAYLOAD + b"!", "the server has a file of 3,000,001 bytes, wanted 3,000,000"),
        (QUOTA.encode(), "a web page .*Quota exceeded"),
    ],
    ids=["hash", "short", "long", "page"],
)
def test_what_is_not_the_known_file_is_not_kept(server: Any, tmp_path: Path, answer: Any, message: Any) -> None:
    server.script = [status(200, answer)]
    with pytest.raises(DownloadError, match=r"set\.zip, http.*" + message):
        obtain(server, tmp_path)
    assert not [path for path in (tmp_path / "downloads").iterdir() if path.suffix in (".archive", ".part", ".zip")]


def test_a_file_that_is_longer_than_known_is_not_read_to_its_end(server: Any, tmp_path: Path) -> None:
    def longer(handler: Any) -> None:
        handler.send_response(200)
        handler.end_headers()
        handler.wfile.write(PAYLOAD + b"more")
        handler.close_connection = True

    server.script = [longer]
    with pytest.raises(DownloadError, match="more than 3,000,000 bytes; wanted 3,000,000"):
        obtain(server, tmp_path)


def test_of_a_known_file_the_rest_is_asked_for_though_the_server_tells_no_length(server: Any, tmp_path: Path) -> None:
    def partly(handler: Any) -> None:
        handler.send_response(200)
        handler.send_header("ETag", '"one"')
        handler.end_headers()
        handler.wfile.write(PAYLOAD[:1_000_000])
        handler.close_connection = True

    server.script = [partly]
    assert obtain(server, tmp_path).read_bytes() == PAYLOAD
    assert ranges(server) == [None, "bytes=1000000-"]


def test_the_time_is_that_of_all_mirrors_together(server: Any, tmp_path: Path) -> None:
    root = server.url.rpartition("/a/")[0]
    server.script = [trickle] * 3
    began = time.monotonic()
    with pytest.raises(DownloadError, match="is over.*is over.*is over"):
        obtain(server, tmp_path, mirrors=(root + "/1", root + "/2", root + "/3"), timeout=1.0)
    assert time.monotonic() - began < 5


# A full disk -----------------------------------------------------------------------------------------------------------


def test_what_will_not_fit_is_not_begun(server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(str(tmp_path))
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=2_000_000))
    with pytest.raises(MachineError, match=r"set\.zip: needs 0\.003 GB in .*, where 0\.002 GB are free; free some"):
        fetch(server.url, DIGEST, tmp_path)
    assert [path.stat().st_size for path in tmp_path.glob("*.part")] == []


LIMITED = """
import resource, signal, sys
from fse import cli
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, resource.RLIM_INFINITY))
sys.exit(cli.main(sys.argv[1:]))
"""


def test_a_disk_that_is_full_in_the_middle(server: Any, tmp_path: Path) -> None:
    """No file may be longer than a megabyte, which to a program is what a full disk is."""
    server.data = zipped(dict(files(), **{"images/large.png": PAYLOAD}))
    settings = f"dataset.name=mine,dataset.archive={server.url}"
    command = ["download", "--set", settings, "--output", str(tmp_path / "out")]
    done = subprocess.run([sys.executable, "-c", LIMITED, *command], stderr=subprocess.PIPE, text=True, timeout=100)
    assert done.returncode == MACHINE, done.stderr
    assert "Traceback" not in done.stderr
    assert f"set.zip: cannot be written into {tmp_path}: File too large; 1,000,000 of 3,00" in done.stderr
    assert "bytes came and are kept; run again to go on from there" in done.stderr
    assert cli.main(command) == 0
    assert ranges(server) == [None, "bytes=1000000-"]
    assert (tmp_path / "out" / "images" / "large.png").read_bytes() == PAYLOAD
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out"]


def test_a_disk_that_is_full_while_the_archive_is_unpacked(server: Any, tmp_path: Path) -> None:
    server.data = zipped(dict(files(), **{"images/large.png": bytes(3_000_000)}), zipfile.ZIP_DEFLATED)
    settings = f"dataset.name=mine,dataset.archive={server.url}"
    command = ["download", "--set", settings, "--output", str(tmp_path / "out")]
    done = subprocess.run([sys.executable, "-c", LIMITED, *command], stderr=subprocess.PIPE, text=True, timeout=100)
    assert done.returncode == MACHINE, done.stderr
    assert re.search(r"archive: cannot be unpacked into .*: File too large", done.stderr)
    assert not (tmp_path / "out").exists()
    assert cli.main(command) == 0
    assert len(server.requests) == 1
    assert (tmp_path / "out" / "images" / "large.png").stat().st_size == 3_000_000


def test_two_at_once(tmp_path: Path, server: Any) -> None:
    """The second waits for the first, and asks for nothing."""
    go_on = threading.Event()

    def slow(handler: Any) -> None:
        go_on.wait(10)
        serve_well(handler)

    server.script = [slow]
    found = []
    first, second = (threading.Thread(target=lambda: found.append(obtain(server, tmp_path))) for _ in range(2))
    first.start()
    while not server.requests:
        time.sleep(0.01)
    second.start()
    time.sleep(0.2)
    go_on.set()
    for thread in (first, second):
        thread.join(10)
    assert found == [tmp_path / "downloads" / "set.zip"] * 2
    assert len(server.requests) == 1


def test_another_that_takes_too_long(tmp_path: Path, server: Any) -> None:
    lock = str(source._stem(server.url, tmp_path)) + ".lock"
    with filelock.FileLock(lock), pytest.raises(StageError, match="another process"):
        fetch(server.url, "", tmp_path, timeout=1.0)


def test_paths_are_used_where_they_are(tmp_path: Path) -> None:
    path = tmp_path / "a set.zip"
    path.write_bytes(PAYLOAD)
    for address in (str(path), "file://" + str(path).replace(" ", "%20"), path.as_uri()):
        assert fetch(address, DIGEST, tmp_path) == (path, DIGEST)
    assert fetch(str(tmp_path), "", tmp_path) == (tmp_path, None)
    with pytest.raises(DownloadError, match=DIGEST):
        fetch(str(path), "1" * 64, tmp_path)
    assert path.exists()


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("/no/such/set.zip", r"/no/such/set\.zip: no such file or folder; dataset\.archive"),
        ("file:///no/such/set.zip", r"/no/such/set\.zip: no such file"),
        ("file://relative/set.zip", "three slashes"),
        ("s3://me:secret@bucket/set.zip", "dataset.archive s3://bucket/set.zip: s3:// is not supported"),
    ],
)
def test_addresses_that_lead_nowhere(tmp_path: Path, address: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        fetch(address, "", tmp_path)


def test_a_folder_has_no_checksum(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no checksum"):
        fetch(str(tmp_path), DIGEST, tmp_path)


# The Download stage ----------------------------------------------------------------------------------------------------


def image() -> Any:
    stream = io.BytesIO()
    Image.new("RGB", (20, 20)).save(stream, "PNG")
    return stream.getvalue()


def files(wrap: Any = "") -> Any:
    table = "file,split,nose_x,nose_y\na.png,train,1,2\nsub/b.PNG,test,3,4\nmissing.png,train,1,1\n"
    return {
        wrap + "images/a.png": image(),
        wrap + "images/sub/b.PNG": image(),
        wrap + "images/c.png": image(),
        wrap + "images/notes.txt": b"not an image",
        wrap + "landmarks.csv": table.encode(),
        wrap + "README": b"read me",
    }


def write(folder: Any, contents: Any) -> Any:
    for name, data in contents.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


def zipped(contents: Any, kind: Any = zipfile.ZIP_STORED) -> Any:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", kind) as package:
        for name, data in contents.items():
            package.writestr(name, data)
    return stream.getvalue()


def settings(archive: Any, **values: Any) -> Any:
    return config.from_tables({"dataset": dict({"name": "mine", "archive": str(archive)}, **values)})


def contents(folder: Any) -> Any:
    return sorted(str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file())


WANTED = ["dataset.json", "images/a.png", "images/c.png", "images/sub/b.PNG", "landmarks.csv"]


@pytest.mark.parametrize("wrap", ["", "wrapper/"])
@pytest.mark.parametrize("kind", ["zip", "folder"])
def test_download_of_an_archive_or_a_folder(tmp_path: Path, wrap: str, kind: str) -> None:
    if kind == "zip":
        path = tmp_path / "set.zip"
        path.write_bytes(zipped(files(wrap)))
    else:
        path = write(tmp_path / "set", files(wrap))
    download.download(settings(path), tmp_path / "work" / "out")
    assert contents(tmp_path / "work") == ["out/" + name for name in WANTED]
    assert json.loads((tmp_path / "work" / "out" / "dataset.json").read_text()) == {
        "name": "mine",
        "images": 3,
        "splits": {"train": 1, "test": 1},
        "landmarks": ["nose"],
        "source": path.name,
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest() if kind == "zip" else None,
    }


def test_download_over_http_leaves_nothing_else(server: Any, tmp_path: Path) -> None:
    server.data = zipped(files())
    url = server.url + "?token=secret"
    download.download(settings(url), tmp_path / "work" / "out")
    assert contents(tmp_path / "work") == ["out/" + name for name in WANTED]
    assert json.loads((tmp_path / "work" / "out" / "dataset.json").read_text())["source"] == server.url


def test_download_keeps_what_a_later_attempt_can_use(server: Any, tmp_path: Path) -> None:
    server.data = zipped(files())
    with pytest.raises(DataError, match=r"no images .* below folder 'faces'; .*folders: \., images, images/sub"):
        download.download(settings(server.url, images="faces"), tmp_path / "out1", tmp_path / "cache")
    download.download(settings(server.url), tmp_path / "out2", tmp_path / "cache")
    assert len(server.requests) == 1
    with pytest.raises(DataError, match="more than 2 entries"):
        download.download(settings(server.url + "2", max_files=2), tmp_path / "out3", tmp_path / "cache")
    download.download(settings(server.url + "2"), tmp_path / "out4", tmp_path / "cache")
    assert len(server.requests) == 2
    server.data = server.data[:-30]
    for number in (5, 6):
        with pytest.raises(DataError, match="truncated or corrupt"):
            download.download(settings(server.url), tmp_path / f"out{number}", tmp_path / "cache")
    assert len(server.requests) == 4


def test_download_without_annotations(tmp_path: Path) -> None:
    path = write(tmp_path / "set", {"images/a.png": image()})
    download.download(settings(path), tmp_path / "out")
    assert contents(tmp_path / "out") == ["dataset.json", "images/a.png"]
    summary = json.loads((tmp_path / "out" / "dataset.json").read_text())
    assert summary["splits"] == {"train": 1, "test": 0}
    assert summary["landmarks"] == []
    with pytest.raises(DataError, match=r"no annotation file 'points\.csv'"):
        download.download(settings(path, annotations="points.csv"), tmp_path / "out2")


def test_download_of_other_names(tmp_path: Path) -> None:
    table = b"file,nose_x,nose_y\na.png,1,2\n"
    path = write(tmp_path / "set", {"img/celeb/a.png": image(), "img/b.png": b"", "list/points.csv": table})
    download.download(settings(path, images="img/celeb", annotations="list/points.csv"), tmp_path / "out")
    assert contents(tmp_path / "out") == ["dataset.json", "images/a.png", "landmarks.csv"]
    (tmp_path / "a.zip").write_bytes(zipped({"a.png": image(), "landmarks.csv": table}))
    download.download(settings(tmp_path / "a.zip", images="."), tmp_path / "out2")
    assert contents(tmp_path / "out2") == ["dataset.json", "images/a.png", "landmarks.csv"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"landmarks.csv": b"file,nose_x\na.png,1\n"}, "'nose_x' wants a column"),
        ({"landmarks.csv": b"file\nimages/a.png\n"}, "none of the files it names is below 'images': images/a.png"),
        ({"images/a.png": None, "images/c.png": None, "images/sub/b.PNG": None}, "no images"),
    ],
)
@pytest.mark.parametrize("kind", ["zip", "folder"])
def test_download_of_data_sets_that_are_none(tmp_path: Path, change: Any, message: str, kind: str) -> None:
    changed = {name: data for name, data in dict(files(), **change).items() if data is not None}
    path = tmp_path / "set"
    if kind == "zip":
        path.write_bytes(zipped(changed))
    else:
        write(path, changed)
    with pytest.raises(DataError, match=message):
        download.download(settings(path), tmp_path / "out")


def test_download_into_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    path = write(tmp_path / "set", files())
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StageError, match="cannot be written to"):
        download.download(settings(path), tmp_path / "file" / "out")


def test_download_renders_the_synthetic_data(tmp_path: Path) -> None:
    tables = {"dataset": {"train": 3, "test": 2, "size": 32}}
    download.download(config.from_tables(tables), tmp_path / "out")
    summary = json.loads((tmp_path / "out" / "dataset.json").read_text())
    assert (summary["images"], summary["splits"]) == (5, {"train": 3, "test": 2})
    assert (summary["source"], summary["sha256"]) == ("synthetic", None)
    assert "left_eye" in summary["landmarks"]


@pytest.mark.skipif(not FACES.is_file(), reason="no ../shared/data/faces.zip beside the repository")
def test_download_of_real_faces(tmp_path: Path) -> None:
    digest = FACES.with_suffix(".zip.sha256").read_text().split()[0]
    download.download(settings(FACES, sha256=digest), tmp_path / "out")
    summary = json.loads((tmp_path / "out" / "dataset.json").read_text())
    assert summary["splits"] == {"train": 3716, "test": 991}
    shutil.rmtree(str(tmp_path / "out"))
