"""Bringing an archive: a path or folder on this machine, or a download that can be cut off and goes on.

A download grows in `cache/<sha256 of the address>.part`; `….json` beside it holds the validator (ETag or
Last-Modified) by which the server can tell that the rest still fits. Whole, it is called `….archive`.
"""

import hashlib
import html
import itertools
import json
import os
import re
import time
import urllib.parse
from pathlib import Path
from typing import Any, Dict, Iterable, Optional, Tuple

import filelock
import requests
import urllib3

from fse.errors import DataError, DownloadError, StageError
from fse.progress import bar

ATTEMPTS = 5
# Seconds before the second attempt; each later wait is twice as long.
PAUSE = 1.0
# Seconds to wait for a connection, and for the next bytes of an answer.
TIMEOUT = (20.0, 60.0)

_CHUNK = 1 << 20


class _Interrupted(Exception):
    """An attempt failed in a way that another one may not."""


def fetch(address: str, sha256: str, cache: Path) -> Tuple[Path, Optional[str]]:
    """Brings what `dataset.archive` names to this machine.

    Args:
      address: path of an archive or folder, `file://` address (both used where they are), or http(s) address.
      sha256: the archive's checksum, or ''.
      cache: an existing folder, where downloads are kept.

    Returns:
      The path, and the archive's sha256; None for a folder.

    Raises:
      DataError: there is no such file, or the address is of no known kind.
      DownloadError: the server cannot be reached, refuses, or sends something else; or the checksum differs, in which
        case a download is deleted.
      StageError: the download cannot be written.
    """
    remote = is_remote(address)
    path = _download(address, cache) if remote else _local(address)
    if path.is_dir():
        if sha256:
            raise DataError("{}: a folder has no checksum; leave dataset.sha256 empty".format(path))
        return path, None
    digest = _sha256(path)
    if sha256 and digest != sha256.lower():
        if remote:
            path.unlink()
        raise DownloadError(
            "{}: the sha256 is {}, but dataset.sha256 wants {}{}".format(
                label(address), digest, sha256.lower(), "; the download was deleted" if remote else ""
            )
        )
    return path, digest


def is_remote(address: str) -> bool:
    """Whether the address is downloaded."""
    return address.lower().startswith(("http://", "https://"))


def label(address: str) -> str:
    """The address as it may be shown: without user, password, query and fragment."""
    if "://" not in address:
        return address
    parts = urllib.parse.urlsplit(address)
    return urllib.parse.urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def _local(address: str) -> Path:
    if "://" in address:
        parts = urllib.parse.urlsplit(address)
        if parts.scheme.lower() != "file":
            raise DataError(
                "dataset.archive {}: {}:// is not supported; wanted a path, file:// or http(s)://".format(
                    label(address), parts.scheme
                )
            )
        if parts.netloc not in ("", "localhost"):
            raise DataError("dataset.archive {}: a file:// address wants three slashes and a full path".format(address))
        path = Path(urllib.parse.unquote(parts.path))
    else:
        path = Path(address).expanduser()
    if not path.is_dir() and not path.is_file():
        raise DataError("{}: no such file or folder; dataset.archive names it".format(path))
    return path


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    try:
        size = path.stat().st_size
        with open(str(path), "rb") as stream, bar(total=size, unit="B", unit_scale=True, desc="checksum") as progress:
            for chunk in iter(lambda: stream.read(_CHUNK), b""):
                digest.update(chunk)
                progress.update(len(chunk))
    except OSError as error:
        raise DataError("{}: cannot be read ({}); dataset.archive names it".format(path, error.strerror)) from None
    return digest.hexdigest()


def _download(url: str, cache: Path) -> Path:
    """The finished download of `url`, from an earlier attempt or brought now."""
    stem = _stem(url, cache)
    whole, part = stem.with_suffix(".archive"), stem.with_suffix(".part")
    try:
        with filelock.FileLock(str(stem.with_suffix(".lock")), timeout=10):
            if not whole.is_file():
                _persist(url, part)
                os.replace(str(part), str(whole))
                _notes(part).unlink()
    except filelock.Timeout:
        raise StageError(
            "{}: another process is downloading it into {}; wait for that".format(label(url), cache)
        ) from None
    except OSError as error:
        raise StageError("{}: cannot be written into {}: {}".format(label(url), cache, error.strerror)) from None
    return whole


def _persist(url: str, part: Path) -> None:
    """Attempts until `part` is whole. Attempts that brought something do not count."""
    failures = 0
    while True:
        before = _size(part)
        try:
            return _attempt(url, part)
        except _Interrupted as error:
            failures = 1 if _size(part) > before + _CHUNK else failures + 1
            if failures == ATTEMPTS:
                raise DownloadError(
                    "{}: {}, {} times in a row; what came is kept, run again to go on from there".format(
                        label(url), error, ATTEMPTS
                    )
                ) from None
        time.sleep(PAUSE * 2 ** (failures - 1))


def _attempt(url: str, part: Path) -> None:
    """One request. Returns when `part` is whole.

    Raises:
      _Interrupted: it is not, and another attempt may help.
      DownloadError: it is not, and none will.
    """
    headers = {"Accept-Encoding": "identity"}
    validator = _read_notes(part).get("validator")
    if _size(part) and validator:
        headers.update({"Range": "bytes={}-".format(_size(part)), "If-Range": validator})
    try:
        with requests.get(url, headers=headers, stream=True, timeout=TIMEOUT) as response:
            _receive(url, response, part)
    except (requests.exceptions.InvalidURL, urllib3.exceptions.LocationValueError):
        raise DownloadError("dataset.archive {}: not a valid address".format(label(url))) from None
    except (requests.exceptions.SSLError, requests.exceptions.TooManyRedirects) as error:
        raise DownloadError("{}: {}".format(label(url), _cause(error))) from None
    except (requests.exceptions.RequestException, urllib3.exceptions.HTTPError) as error:
        raise _Interrupted(_cause(error)) from None


def _receive(url: str, response: requests.Response, part: Path) -> None:
    status = response.status_code
    start, total = _content_range(response)
    if status == 416 and total == _size(part):
        return  # the last attempt ended exactly at the end
    if status == 416 or (status == 206 and start != _size(part)):
        part.unlink()
        raise _Interrupted("the server sent another range than was asked for")
    if status >= 500 or status == 429:
        raise _Interrupted("the server answered {} {}".format(status, response.reason))
    if status not in (200, 206):
        raise DownloadError(
            "{}: the server answered {} {}; see dataset.archive".format(label(url), status, response.reason)
        )
    chunks = response.raw.stream(_CHUNK, decode_content=False)
    if status == 200:
        first = next(chunks, b"")
        _refuse_web_page(url, first)
        chunks = itertools.chain([first], chunks)
        length = response.headers.get("Content-Length", "")
        total = int(length) if length.isdigit() else None
        _write_notes(part, response)
    size = _store(chunks, part, total)
    if not size:
        raise _Interrupted("the server sent nothing")
    if total is not None and size < total:
        raise _Interrupted("the connection ended after {} of {} bytes".format(size, total))
    if total is not None and size > total:
        part.unlink()
        raise _Interrupted("{} bytes came instead of {}".format(size, total))


def _store(chunks: Iterable[bytes], part: Path, total: Optional[int]) -> int:
    """Appends what comes to `part`. Returns its size then."""
    with open(str(part), "ab") as output:
        with bar(total=total, initial=output.tell(), unit="B", unit_scale=True, desc="download") as progress:
            for chunk in chunks:
                output.write(chunk)
                progress.update(len(chunk))
        return output.tell()


def _refuse_web_page(url: str, start: bytes) -> None:
    """No archive begins with `<`, and HTML and XML do."""
    if not start.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"<"):
        return
    title = re.search(r"<title[^>]*>\s*(.*?)\s*</title>", start.decode("utf-8", "replace"), re.IGNORECASE | re.DOTALL)
    raise DownloadError(
        "{}: the server sent a web page{} instead of an archive (a quota, a log-in or a confirmation?); open the address"
        " in a browser, download the archive by hand and let dataset.archive name the file".format(
            label(url), " ({!r})".format(html.unescape(title.group(1))[:100]) if title else ""
        )
    )


def _content_range(response: requests.Response) -> Tuple[Optional[int], Optional[int]]:
    """First byte and total length as the header Content-Range tells them."""
    match = re.match(r"bytes (?:(\d+)-\d+|\*)/(\d+|\*)\Z", response.headers.get("Content-Range", ""))
    if not match:
        return None, None
    start, total = match.groups()
    return int(start) if start else None, int(total) if total != "*" else None


def _notes(part: Path) -> Path:
    return part.with_suffix(".json")


def _read_notes(part: Path) -> Dict[str, Any]:
    try:
        return json.loads(_notes(part).read_text())
    except (OSError, ValueError):
        return {}


def _write_notes(part: Path, response: requests.Response) -> None:
    """Begins anew: no bytes, and the notes to those that will come. The two are never of different answers."""
    if part.exists():
        part.unlink()
    etag = response.headers.get("ETag", "")
    validator = etag if etag.startswith('"') else response.headers.get("Last-Modified")  # weak tags do not do
    _notes(part).write_text(json.dumps({"address": label(response.url), "validator": validator}))


def _size(part: Path) -> int:
    return part.stat().st_size if part.exists() else 0


def _cause(error: BaseException) -> str:
    """The system's own words at the root of an error, whose text would show the whole address."""
    if isinstance(error, requests.exceptions.SSLError):
        return "the server's certificate is not accepted"
    if isinstance(error, requests.exceptions.TooManyRedirects):
        return "redirected without end"
    if isinstance(error, (requests.exceptions.Timeout, urllib3.exceptions.TimeoutError)):
        return "no answer within {:g} seconds".format(max(TIMEOUT))
    root: Optional[BaseException] = error
    while root is not None:
        if isinstance(root, OSError) and root.strerror:
            return "the connection failed ({})".format(root.strerror)
        root = root.__context__
    return "the connection was cut"


def discard(address: str, cache: Path) -> None:
    """Deletes what is kept of a download."""
    for file in _stem(address, cache).parent.glob(_stem(address, cache).name + ".*"):
        file.unlink()


def _stem(url: str, cache: Path) -> Path:
    return cache / hashlib.sha256(url.encode()).hexdigest()
