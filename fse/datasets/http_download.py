"""One resumable download over HTTP.

The received bytes are kept in `CACHE/<sha256 of the URL>.part`, with metadata beside them in `….json`
(`fse.datasets.partial_file`). When all bytes have arrived, the file is renamed to `….archive`.

A URL may name environment variables, `https://host/set.zip?token=${TOKEN}`. Their values are inserted when the request
is sent and are never written to disk.
"""

import contextlib
import hashlib
import html
import itertools
import logging
import os
import re
import socket
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Iterable, Iterator, Match, Optional

import requests
import urllib3

from fse.config import Download
from fse.datasets import google_drive, http_headers
from fse.datasets.partial_file import PartialFile
from fse.errors import DataError, DownloadError, MachineError
from fse.redaction import redact_url
from fse.runtime import disk, locks, processes
from fse.runtime.progress import progress_bar

# A download fails after this many attempts in a row that received less than a megabyte.
ATTEMPTS = 5
# Seconds before the second attempt; each further pause is twice as long.
PAUSE = 1.0
# A download fails if the server asks to wait longer than this many seconds.
LONGEST_PAUSE = 300.0
# Seconds to wait for a connection.
CONNECT_TIMEOUT = 20.0

# Bytes read at once. When the connection fails, the unfinished piece is lost.
_PIECE = 1 << 16
# An attempt that received more bytes than this resets the count of failed attempts.
_PROGRESS = 1 << 20
# Pieces of a web page that are read to find its title or a confirmation form.
_PAGE_PIECES = 4

_INVALID_URL = (ValueError, urllib3.exceptions.LocationValueError)  # requests' InvalidURL is a ValueError
_NOT_HTTP = (requests.exceptions.InvalidSchema, requests.exceptions.MissingSchema)
_PERMANENT = (requests.exceptions.SSLError, requests.exceptions.TooManyRedirects)
_TRANSIENT = (requests.exceptions.RequestException, urllib3.exceptions.HTTPError)
_TIMEOUT = (requests.exceptions.Timeout, urllib3.exceptions.TimeoutError)
_CONNECT_TIMEOUT = (requests.exceptions.ConnectTimeout, urllib3.exceptions.ConnectTimeoutError)


@dataclass(frozen=True)
class DownloadRequest:
    """What to download, and within which limits."""

    url: str  # as configured: http(s)://, with ${VARIABLES}, or drive:ID
    settings: Download  # `stall` and `timeout` are read
    deadline: float  # end of the download, in seconds of time.monotonic()
    size: int  # expected length in bytes; 0 if unknown
    max_bytes: int  # a longer file is refused

    @property
    def label(self) -> str:
        """The URL for messages, without credentials."""
        return redact_url(self.url)


class _TransientError(Exception):
    """An attempt failed, but another one may succeed after at least `pause` seconds."""

    def __init__(self, reason: str, pause: float = 0.0) -> None:
        super().__init__(reason)
        self.pause = pause


def download(request: DownloadRequest, cache: Path) -> Path:
    """Return the complete download of a URL; download it unless an earlier run did.

    Raises:
      DownloadError: the server cannot be reached, refuses, or sends something else; or the deadline has passed.
      MachineError: the file cannot be written.
      StageError: another process was downloading the URL until the deadline.
    """
    stem = _stem(request.url, cache)
    complete, partial = stem.with_suffix(".archive"), PartialFile(stem)
    try:
        with lock_download(stem, f"the download of {request.label} into {cache}", request.deadline):
            if not complete.is_file():
                _retry(request, partial)
                partial.publish(complete)
    except OSError as error:
        raise MachineError(
            f"{request.label}: cannot be written into {cache}: {error.strerror}; {partial.status()}"
        ) from error
    return complete


def discard(url: str, cache: Path) -> None:
    """Delete a download, complete or partial, and its lock file."""
    for path in cache.glob(_stem(url, cache).name + ".*"):
        path.unlink()


@contextlib.contextmanager
def lock_download(path: Path, what: str, deadline: float) -> Iterator[None]:
    """Lock a download, so that another process waits and then uses its result.

    Args:
      path: the file that is downloaded; the lock file is named after it.
      what: what is locked, for messages.
      deadline: in seconds of time.monotonic().

    Raises:
      StageError: another process held the lock until the deadline.
    """
    with locks.lock(path.with_name(path.name + ".lock"), what, max(0.0, deadline - time.monotonic())):
        yield


def starts_like_page(start: bytes) -> bool:
    """Return whether bytes begin like HTML or XML, as no archive or annotation list does."""
    return start.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"<")


def _stem(url: str, cache: Path) -> Path:
    """Return the path of a download without its suffix. It depends on the URL before variables are inserted."""
    return cache / hashlib.sha256(url.encode()).hexdigest()


def _retry(request: DownloadRequest, partial: PartialFile) -> None:
    """Make attempts until `partial` is complete. An attempt that received much resets the count of failures."""
    failures = 0
    while True:
        size_before = partial.size
        try:
            _attempt(request, partial)
            return
        except _TransientError as error:
            failures = 1 if partial.size > size_before + _PROGRESS else failures + 1
            pause = max(PAUSE * 2 ** (failures - 1), error.pause)
            problem = ""
            if pause > LONGEST_PAUSE:
                problem = f"{error}, and asked to wait {error.pause:g} seconds"
            elif time.monotonic() + pause >= request.deadline:
                problem = f"{error}; the download.timeout of {request.settings.timeout:g} seconds has expired"
            elif failures == ATTEMPTS:
                problem = f"{error}, {ATTEMPTS} times in a row"
            if problem:
                raise DownloadError(f"{request.label}: {problem}; {partial.status()}") from None
            logging.info("%s: %s; retrying in %g seconds", request.label, error, pause)
        time.sleep(pause)


def _attempt(request: DownloadRequest, partial: PartialFile) -> None:
    """Make one attempt; return when `partial` is complete.

    Raises:
      _TransientError: it is not complete, but another attempt may help.
      DownloadError: it is not complete, and another attempt would fail the same way.
    """
    with _translated_errors(request), requests.Session() as session:
        url = _request_url(request)
        page = _get(session, url, request, partial)
        confirmed_url = google_drive.confirmed_url(page) if google_drive.is_download_url(url) else ""
        if confirmed_url:
            page = _get(session, confirmed_url, request, partial)
    if page:
        raise _page_error(request, page)


def _request_url(request: DownloadRequest) -> str:
    """Return the URL to request: with environment variables inserted, and Google Drive's download URL for its files.

    Raises:
      DataError: a variable is not set.
    """

    def value(match: Match[str]) -> str:
        if match.group(1) not in os.environ:
            raise DataError(f"{request.label}: the environment variable {match.group(1)} is not set; set it")
        return os.environ[match.group(1)]

    url = re.sub(r"\$\{(\w+)\}", value, request.url)
    return google_drive.download_url(url) or url


@contextlib.contextmanager
def _translated_errors(request: DownloadRequest) -> Iterator[None]:
    """Translate the exceptions of requests and urllib3, whose texts would show the whole URL."""
    try:
        yield
    except _NOT_HTTP:
        raise DownloadError(f"{request.label}: redirects to a URL that is not http(s)://; use another URL") from None
    except _INVALID_URL:
        raise DownloadError(
            f"{request.label}: the URL, or one that it redirects to, is not valid; correct it"
        ) from None
    except _PERMANENT as error:
        raise DownloadError(f"{request.label}: {_reason(error, request.settings)}; use another URL") from None
    except _TRANSIENT as error:
        raise _TransientError(_reason(error, request.settings)) from None


def _get(session: requests.Session, url: str, request: DownloadRequest, partial: PartialFile) -> bytes:
    """Request the file, or the rest of it. Return b"" when `partial` is complete, or the web page that was sent instead."""
    # A compressed transfer would make byte offsets meaningless.
    headers = {"Accept-Encoding": "identity"}
    if partial.size and partial.validator:
        headers.update({"Range": f"bytes={partial.size}-", "If-Range": partial.validator})
    stall = request.settings.stall
    timeouts = (min(CONNECT_TIMEOUT, stall), stall)  # to connect, and between bytes
    with session.get(url, headers=headers, stream=True, timeout=timeouts) as response:
        encrypted = _request_url(request).lower().startswith("https:")
        if encrypted and not response.url.lower().startswith("https:"):
            raise DownloadError(f"{request.label}: redirects from https:// to an unencrypted URL; use another URL")
        return _receive(request, response, partial)


def _receive(request: DownloadRequest, response: requests.Response, partial: PartialFile) -> bytes:
    """Append the body of a response to `partial`; return the same as `_get`."""
    if response.status_code == 416 and http_headers.content_range(response)[1] == partial.size:
        return b""  # the last attempt failed after the last byte, so that the requested range is empty
    _check_range(response, partial)
    _check_status(request, response)
    with _shut_down_at(request.deadline, response):
        pieces = response.raw.stream(_PIECE, decode_content=False)
        if response.status_code == 200:
            first = next(pieces, b"")
            if starts_like_page(first):
                return b"".join([first, *itertools.islice(pieces, _PAGE_PIECES - 1)])
            if not first:
                raise _TransientError("the server sent nothing")
            pieces = itertools.chain([first], pieces)
            _start_over(request, response, partial)
        total = _expected_total(request, response, partial)
        disk.require_space(partial.path.parent, (total or 0) - partial.size, request.label)
        _append(pieces, partial, request, total)
    _check_length(request, partial, total)
    return b""


def _check_range(response: requests.Response, partial: PartialFile) -> None:
    """Start over if the server sent another range than requested, or the rest of another version of the file."""
    start, _ = http_headers.content_range(response)
    wrong_range = response.status_code == 416
    if response.status_code == 206:
        wrong_range = start != partial.size or _is_other_version(response, partial)
    if wrong_range:
        partial.restart({})
        raise _TransientError("the server sent another range, or another version of the file, than requested")


def _is_other_version(response: requests.Response, partial: PartialFile) -> bool:
    """Return whether length or validator differ from those of the bytes in `partial`, where both are known."""
    metadata = partial.metadata
    current = {"total": http_headers.content_range(response)[1], "validator": http_headers.validator(response)}
    return any(value and metadata.get(name) and value != metadata[name] for name, value in current.items())


def _check_status(request: DownloadRequest, response: requests.Response) -> None:
    """Raise an error unless the response has a body to read."""
    status = response.status_code
    answer = f"the server answered {status} {response.reason}"
    if status >= 500 or status in (408, 429):  # timeout, too many requests
        raise _TransientError(answer, http_headers.retry_after(response))
    if status not in (200, 206):
        raise DownloadError(f"{request.label}: {answer}; check the URL")
    if http_headers.content_length(response) == 0:
        raise _TransientError("the server sent nothing")


@contextlib.contextmanager
def _shut_down_at(deadline: float, response: requests.Response) -> Iterator[None]:
    """Shut down the connection at a deadline, because a server that sends a byte now and then never times out."""

    def shut_down() -> None:
        with contextlib.suppress(OSError):  # it is closed already
            connection.shutdown(socket.SHUT_RDWR)

    seconds = max(0.0, deadline - time.monotonic())
    with socket.socket(fileno=os.dup(response.raw.fileno())) as connection, processes.call_after(seconds, shut_down):
        yield


def _start_over(request: DownloadRequest, response: requests.Response, partial: PartialFile) -> None:
    """Discard earlier bytes for a response with the full file.

    Raises:
      DownloadError: the response does not have the expected length, or is too long.
    """
    total = http_headers.content_length(response)
    if total and request.size and total != request.size:
        raise DownloadError(
            f"{request.label}: the server has a file of {total:,} bytes, expected {request.size:,}; use another mirror"
        )
    if total and total > request.max_bytes:
        raise _too_long_error(request)
    partial.restart({"url": request.label, "validator": http_headers.validator(response), "total": total})


def _expected_total(request: DownloadRequest, response: requests.Response, partial: PartialFile) -> Optional[int]:
    """Return the length of the full file in bytes; None if it is unknown."""
    # A full response (200) has just set the metadata.
    ranged = http_headers.content_range(response)[1] if response.status_code == 206 else None
    return ranged or partial.total or request.size or None


def _append(pieces: Iterable[bytes], partial: PartialFile, request: DownloadRequest, total: Optional[int]) -> None:
    """Append the pieces of a response to the partial file.

    Raises:
      DownloadError: the file became too long, and was deleted.
    """
    bar = progress_bar(total=total, initial=partial.size, unit="B", unit_scale=True, desc="download")
    with bar, open(partial.path, "ab") as output:
        for piece in pieces:
            if output.tell() + len(piece) > request.max_bytes:
                partial.path.unlink()
                raise _too_long_error(request)
            output.write(piece)
            bar.update(len(piece))


def _check_length(request: DownloadRequest, partial: PartialFile, total: Optional[int]) -> None:
    """Raise an error if the connection ended before the file was complete, or the file is too long."""
    size = partial.size
    if total is None and time.monotonic() >= request.deadline:
        # Without a length the end of the connection is the end of the file, but here it was `_shut_down_at`.
        raise _TransientError("the connection was cut off")
    if total is not None and size < total:
        raise _TransientError(f"the connection ended after {size:,} of {total:,} bytes")
    if total is not None and size > total:
        partial.restart({})
        raise _TransientError(f"{size:,} bytes were received instead of {total:,}")


def _too_long_error(request: DownloadRequest) -> DownloadError:
    advice = (
        f"expected {request.size:,}; use another mirror"
        if request.size
        else "if it is supposed to be, raise dataset.max_gigabytes"
    )
    return DownloadError(f"{request.label}: more than {request.max_bytes:,} bytes; {advice}")


def _page_error(request: DownloadRequest, page: bytes) -> DownloadError:
    text = page.decode("utf-8", "replace")
    title = re.search(r"<title[^>]*>\s*(.*?)\s*</title>", text, re.IGNORECASE | re.DOTALL)
    shown = f" ({html.unescape(title.group(1))[:100]!r})" if title else ""
    return DownloadError(
        f"{request.label}: the server sent a web page{shown} instead of the file, perhaps about a quota, a login or a "
        "confirmation; download the file with a browser and set the path of the file instead"
    )


def _reason(error: BaseException, settings: Download) -> str:
    """Return the reason of an exception without the URL: a timeout, or the operating system's error at its root."""
    if isinstance(error, requests.exceptions.SSLError):
        return "the server's certificate is not accepted"
    if isinstance(error, requests.exceptions.TooManyRedirects):
        return "too many redirects"
    if isinstance(error, _CONNECT_TIMEOUT):
        return f"no connection within {min(CONNECT_TIMEOUT, settings.stall):g} seconds"
    if isinstance(error, _TIMEOUT):
        return f"nothing was received for {settings.stall:g} seconds (download.stall)"
    root: Optional[BaseException] = error
    while root is not None:
        if isinstance(root, OSError) and root.strerror:
            return f"the connection failed ({root.strerror})"
        root = root.__context__
    return "the connection was cut off"
