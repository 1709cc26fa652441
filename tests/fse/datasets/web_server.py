"""A web server on this machine that answers each request as a test prescribes."""

import contextlib
import hashlib
import http.server
import socket
import struct
import threading
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Mapping, Optional, Tuple

import numpy as np

from fse import config
from fse.datasets import source

PAYLOAD = np.random.RandomState(0).bytes(3_000_000)  # does not begin with `<` or end with `!`
DIGEST = hashlib.sha256(PAYLOAD).hexdigest()

# A page that Google Drive sends when a file was downloaded too often.
QUOTA_PAGE = """<!DOCTYPE html><html><head><title>Google Drive - Quota exceeded</title></head><body>
<p class="uc-error-caption">Sorry, you can&#39;t view or download this file at this time.</p></body></html>"""


class Server(http.server.ThreadingHTTPServer):
    """Answers each request with the next function of `script`, and with `serve_ranges` when the script is over."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.data = PAYLOAD
        self.script: List[Answer] = []
        self.requests: List[Dict[str, str]] = []  # headers of each request, and its `path`
        self.over = threading.Event()  # set when the test has ended
        self.root = f"http://127.0.0.1:{self.server_port}"
        self.url = self.root + "/a/set.zip"

    @property
    def ranges(self) -> List[Optional[str]]:
        """The Range header of each request."""
        return [headers.get("Range") for headers in self.requests]

    @property
    def paths(self) -> List[str]:
        """The path and query of each request."""
        return [headers["path"] for headers in self.requests]


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def handle(self) -> None:
        with contextlib.suppress(OSError):  # the client may close the connection
            super().handle()

    def do_GET(self) -> None:
        self.server.requests.append(dict(self.headers, path=self.path))
        script = self.server.script
        (script.pop(0) if script else serve_ranges)(self)

    def answer(self, status: int, headers: Dict[str, Any], body: bytes, close: bool = True) -> None:
        self.start(status, {"Content-Length": len(body), **headers, "Connection": "close"})
        self.wfile.write(body)
        self.close_connection = close

    def start(self, status: int, headers: Mapping[str, Any]) -> None:
        """Send the status line and the headers."""
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, str(value))
        self.end_headers()

    def reset(self) -> None:
        """Reset the connection instead of closing it."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()
        self.close_connection = True

    def log_message(self, *arguments: Any) -> None:
        pass


Answer = Callable[[Handler], Any]


@contextlib.contextmanager
def running() -> Iterator[Server]:
    """Run a server in a thread."""
    server = Server()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.over.set()
        server.shutdown()
        server.server_close()
        thread.join(10)
        assert not thread.is_alive()


def fetch(url: str, sha256: str, cache: Path, gigabytes: float = 1.0, **settings: Any) -> Tuple[Path, Optional[str]]:
    """Fetch `dataset.archive`; `settings` are those of the section `download`."""
    dataset = config.Dataset(archive=url, sha256=sha256, max_gigabytes=gigabytes)
    return source.fetch_archive(dataset, config.Download(**settings), cache)


def serve_ranges(
    handler: Handler, end: Optional[int] = None, etag: str = '"one"', ranges: bool = True, close: bool = True
) -> None:
    """Serve the file, or the requested range of it; `end` stops before that byte of the file."""
    data, start = handler.server.data, 0
    headers: Dict[str, Any] = {"ETag": etag, "Last-Modified": "Mon, 23 Nov 2026 00:00:00 GMT"}
    requested = handler.headers.get("Range")
    if ranges and requested and handler.headers.get("If-Range") in (etag, headers["Last-Modified"]):
        start = int(requested[len("bytes=") : -1])
        if start >= len(data):
            handler.answer(416, {"Content-Range": f"bytes */{len(data)}"}, b"")
            return
        headers["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
    headers["Content-Length"] = len(data) - start
    handler.answer(206 if start else 200, headers, data[start:end], close)


def cut(end: Optional[int], **options: Any) -> Answer:
    """Close the connection before a byte of the file."""
    return lambda handler: serve_ranges(handler, end, **options)


def status(code: int, body: bytes = b"") -> Answer:
    return lambda handler: handler.answer(code, {}, body)


def redirect(to: str, code: int = 302) -> Answer:
    return lambda handler: handler.answer(code, {"Location": to}, b"<html>moved")


def stall(end: Optional[int]) -> Answer:
    """Send the file up to a byte, and then nothing."""

    def answer(handler: Handler) -> None:
        serve_ranges(handler, end, close=False)
        handler.server.over.wait(10)

    return answer


def reset(end: Optional[int]) -> Answer:
    """Send the file up to a byte, and reset the connection."""

    def answer(handler: Handler) -> None:
        serve_ranges(handler, end)
        handler.reset()

    return answer


def trickle(handler: Handler) -> None:
    """Send 100,000 bytes, then one byte at a time."""
    handler.start(200, {"ETag": '"one"', "Content-Length": len(handler.server.data)})
    handler.wfile.write(handler.server.data[:100_000])
    for place in range(100_000, 100_500):
        if handler.server.over.wait(0.02):
            break
        handler.wfile.write(handler.server.data[place : place + 1])


def body_until_close(body: bytes, headers: Mapping[str, str], code: int = 200) -> Answer:
    """Send a body whose end is the end of the connection, since there is no Content-Length."""

    def answer(handler: Handler) -> None:
        handler.start(code, headers)
        handler.wfile.write(body)
        handler.close_connection = True

    return answer
