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
from typing import Any, Dict, Iterable, List, Optional, Tuple

import filelock
import requests
import urllib3

from fse.config import Download, label
from fse.datasets.catalogue import File
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
    digest = _hash(path)
    if sha256 and digest != sha256.lower():
        if remote:
            path.unlink()
        raise DownloadError(
            "{}: the sha256 is {}, but dataset.sha256 wants {}{}".format(
                label(address), digest, sha256.lower(), "; the download was deleted" if remote else ""
            )
        )
    return path, digest


def located(file: File, data_path: str) -> Optional[Path]:
    """Where a file of a known data set lies below `download.data_path`, or its unpacked folder; None if nowhere.

    What lies highest counts, and of several the first by name.
    """
    root = Path(data_path)
    if not data_path or not root.is_dir():
        return None
    for wanted, kind in ((file.name, Path.is_file), (file.folder, Path.is_dir)):
        for depth in range(4) if wanted else ():
            found = sorted(path for path in root.glob("*/" * depth + wanted) if kind(path))
            if found:
                return found[0]
    return None


def addresses_of(file: File, settings: Download) -> List[str]:
    """Where a file can be downloaded: the configured mirrors, then its own addresses."""
    return [mirror.rstrip("/") + "/" + file.name for mirror in settings.mirrors] + list(file.addresses)


def by_hand(file: File, settings: Download, page: str, terms: str) -> str:
    """What a person has to do about a file that cannot be downloaded."""
    where = settings.data_path or "a folder, and let download.data_path name it"
    unpacked = " (or the folder {!r}, unpacked)".format(file.folder) if file.folder and file.folder != file.name else ""
    return "{}: fetch it from {} ({}) and put it{} into {}".format(file.name, page, terms, unpacked, where)


def obtain(file: File, settings: Download, cache: Path, page: str, terms: str) -> Path:
    """A file of a known data set, or its unpacked folder: from `download.data_path`, from an earlier download, or now.

    Args:
      file: what is wanted.
      settings: where it may be.
      cache: an existing folder; downloads are kept in `downloads` in it.
      page, terms: of the data set, for the message.

    Raises:
      DataError: it is nowhere, and has to be fetched by hand; or what is in `download.data_path` is something else.
      DownloadError: no address gives it.
      StageError: the download cannot be written.
    """
    found = located(file, settings.data_path)
    if found:
        problem = _differs(found, file)
        if problem:
            raise DataError("{}: {}; fetch {} again from {}".format(found, problem, file.name, page))
        return found
    addresses = addresses_of(file, settings)
    if not addresses:
        raise DataError(by_hand(file, settings, page, terms))
    kept = cache / "downloads" / file.name
    if kept.is_file() and not _differs(kept, file):
        return kept
    kept.parent.mkdir(parents=True, exist_ok=True)
    failures = []
    for address in addresses:
        try:
            path = _download(address, kept.parent)
            problem = _differs(path, file)
            if not problem:
                os.replace(str(path), str(kept))
                return kept
            path.unlink()
            failures.append("{}: {}".format(label(address), problem))
        except DownloadError as error:
            failures.append(str(error))
    raise DownloadError("{}. Or {}".format("; ".join(failures), by_hand(file, settings, page, terms)))


def _differs(path: Path, file: File) -> str:
    """Why a file is not the one that is wanted; '' if it is, as far as that is known."""
    if path.is_dir():
        return ""
    size = path.stat().st_size
    if file.size and size != file.size:
        return "{:,} bytes, wanted {:,}{}".format(size, file.size, _looks_like(path))
    if not file.hash:
        return _looks_like(path).lstrip("; ")
    kind = {32: "md5", 40: "sha1", 64: "sha256"}[len(file.hash)]
    digest = _hash(path, kind)
    return "" if digest == file.hash else "its {} is {}, wanted {}".format(kind, digest, file.hash) + _looks_like(path)


def _looks_like(path: Path) -> str:
    """`; it is a web page` where that is so: a quota page that was saved under the file's name."""
    with open(str(path), "rb") as stream:
        start = stream.read(1024).lstrip(b"\xef\xbb\xbf \t\r\n")
    return "; it is a web page, perhaps of a quota" if start.startswith(b"<") else ""


def is_remote(address: str) -> bool:
    """Whether the address is downloaded."""
    return address.lower().startswith(("http://", "https://"))


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


def _hash(path: Path, kind: str = "sha256") -> str:
    digest = hashlib.new(kind)
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
