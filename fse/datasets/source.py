"""Bringing an archive: a path or folder on this machine, or a download that can be cut off and goes on.

A download grows in `cache/<sha256 of the address>.part`; `….json` beside it holds its length and the validator (ETag or
Last-Modified) by which the server can tell that the rest still fits. Whole, it is called `….archive`.

An address may name environment variables, `https://host/set.zip?token=${TOKEN}`: what they hold is put in when the server
is asked, and is written nowhere.
"""

import contextlib
import email.utils
import functools
import hashlib
import html
import html.parser
import itertools
import json
import logging
import os
import re
import socket
import time
import urllib.parse
from pathlib import Path
from typing import Any, Dict, Iterable, Iterator, List, Match, NamedTuple, Optional, Sequence, Tuple

import filelock
import requests
import urllib3

from fse.config import Dataset, Download, is_remote, redact_url
from fse.datasets import archive
from fse.datasets.spec import File
from fse.errors import DataError, DownloadError, MachineError, StageError
from fse.runtime import disk, processes
from fse.runtime.progress import progress_bar

ATTEMPTS = 5
# Seconds before the second attempt; each later wait is twice as long.
PAUSE = 1.0
# A server that asks for more seconds than this before the next attempt is left alone.
LONGEST_PAUSE = 300.0
# Seconds to wait for a connection.
CONNECT = 20.0
# Where Google Drive gives its files out. gdown could be asked instead, but its last version for Python 3.7 (4.7.3) does not
# know today's confirmation page, and it has no bound on time there.
DRIVE = "https://drive.usercontent.google.com/download"

# What is read at once is lost when the connection fails meanwhile.
_PIECE = 1 << 16
_CHUNK = 1 << 20


class _Interrupted(Exception):
    """An attempt failed in a way that another one, after so many seconds at least, may not."""

    def __init__(self, why: str, wait: float = 0.0) -> None:
        super().__init__(why)
        self.wait = wait


class _Wanted(NamedTuple):
    """A download: its address as it was given, the settings, when it has to end (of time.monotonic()), and its length.

    size: bytes, 0 if not known. most: more bytes are not taken.
    """

    url: str
    settings: Download
    until: float
    size: int
    most: int


def fetch(dataset: Dataset, settings: Download, cache: Path) -> Tuple[Path, Optional[str]]:
    """Brings what `dataset.archive` names to this machine.

    Args:
      dataset: `archive` is the path of an archive or folder or a `file://` address (both used where they are), or an
        address that `is_remote`; `sha256` its checksum, or ''; a download of more than `max_gigabytes` is refused.
      settings: how long it may take.
      cache: an existing folder, where downloads are kept.

    Returns:
      The path, and the archive's sha256; None for a folder.

    Raises:
      DataError: there is no such file, or the address is of no known kind.
      DownloadError: the server cannot be reached, refuses, or sends something else; or the checksum differs, in which
        case a download is deleted; or it took too long.
      StageError: the download cannot be written.
    """
    address = dataset.archive
    remote = is_remote(address)
    if remote:
        path = _download(_Wanted(address, settings, _ends(settings), 0, int(dataset.max_gigabytes * 1e9)), cache)
    else:
        path = _local(address)
    if path.is_dir():
        if dataset.sha256:
            raise DataError(f"{path}: a folder has no checksum; leave dataset.sha256 empty")
        return path, None
    digest = _hash(path)
    if dataset.sha256 and digest != dataset.sha256.lower():
        if remote:
            path.unlink()
        raise DownloadError(
            "{}: the sha256 is {}, but dataset.sha256 wants {}{}".format(
                redact_url(address), digest, dataset.sha256.lower(), "; the download was deleted" if remote else ""
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
    """Where a file can be downloaded: the configured mirrors, then its own addresses. An archive in parts is not."""
    if file.name.endswith(".001"):
        return []
    mirrors = [urllib.parse.urlsplit(mirror) for mirror in settings.mirrors]
    copies = [parts._replace(path=parts.path.rstrip("/") + "/" + file.name).geturl() for parts in mirrors]
    return copies + list(file.addresses)


def absent(files: Iterable[File], settings: Download) -> List[File]:
    """The files that lie nowhere and cannot be downloaded."""
    return [file for file in files if not located(file, settings.data_path) and not addresses_of(file, settings)]


def by_hand(files: Sequence[File], settings: Download, page: str, terms: str) -> str:
    """What a person has to do about files that cannot be downloaded."""
    named = []
    for file in files:
        own = next((address for address in file.addresses if address.startswith("http")), "")
        named.append(file.name + (" and the parts after it" if file.name.endswith(".001") else ""))
        named[-1] += f" (or the folder {file.folder!r}, unpacked)" if file.folder else ""
        named[-1] += f" ({own})" if own else ""
    where = settings.data_path or "a folder, and let download.data_path name it"
    return "{}: fetch by hand from {} ({}) and put into {}".format(", ".join(named), page, terms, where)


def obtain(file: File, settings: Download, cache: Path, page: str, most: int) -> Path:
    """A file of a known data set, or its unpacked folder: from `download.data_path`, from an earlier download, or now.

    Args:
      file: what is wanted; it lies somewhere, or has an address.
      settings: where it may be, and how long a download may take, from all addresses together.
      cache: an existing folder; downloads are kept in `downloads` in it.
      page: of the data set, for the message.
      most: a download of more bytes is refused, if its size is not known.

    Raises:
      DataError: what is in `download.data_path` is something else.
      DownloadError: no address gives it.
      StageError: the download cannot be written.
    """
    found = located(file, settings.data_path)
    if found:
        problem = _differs(found, file)
        if problem:
            raise DataError(f"{found}: {problem}; fetch {file.name} again from {page}")
        return found
    kept = cache / "downloads" / file.name
    kept.parent.mkdir(parents=True, exist_ok=True)
    failures = []
    until = _ends(settings)
    with _alone(kept, file.name, until):
        if kept.is_file() and not _differs(kept, file):
            return kept
        for address in addresses_of(file, settings):
            try:
                path = _download(_Wanted(address, settings, until, file.size, file.size or most), kept.parent)
                problem = _differs(path, file)
                if not problem:
                    os.replace(str(path), str(kept))
                    return kept
                path.unlink()
                failures.append(f"{redact_url(address)}: {problem}")
            except DownloadError as error:
                failures.append(str(error))
    raise DownloadError("; ".join(f"{file.name}, {failure}" for failure in failures))


def _differs(path: Path, file: File) -> str:
    """Why a file is not the one that is wanted; '' if it is, as far as that is known."""
    if path.is_dir():
        return ""
    size = archive.size(path)
    if file.size and size != file.size:
        parts = f" in {len(archive.parts(path))} parts" if path.suffix == ".001" else ""
        return f"{size:,} bytes{parts}, wanted {file.size:,}{_looks_like(path)}"
    if not file.hash:
        return _looks_like(path).lstrip("; ")
    kind = {32: "md5", 40: "sha1", 64: "sha256"}[len(file.hash)]
    digest = _hash(path, kind)
    return "" if digest == file.hash else f"its {kind} is {digest}, wanted {file.hash}" + _looks_like(path)


def _looks_like(path: Path) -> str:
    """`; it is a web page` where that is so: a quota page that was saved under the file's name."""
    with open(str(path), "rb") as stream:
        start = stream.read(1024).lstrip(b"\xef\xbb\xbf \t\r\n")
    return "; it is a web page, perhaps of a quota" if start.startswith(b"<") else ""


def _local(address: str) -> Path:
    if "://" in address:
        parts = urllib.parse.urlsplit(address)
        if parts.scheme.lower() != "file":
            raise DataError(
                f"dataset.archive {redact_url(address)}: {parts.scheme}:// is not supported; wanted a path, file:// or http(s)://"
            )
        if parts.netloc not in ("", "localhost"):
            raise DataError(f"dataset.archive {address}: a file:// address wants three slashes and a full path")
        path = Path(urllib.parse.unquote(parts.path))
    else:
        path = Path(address).expanduser()
    if not path.is_dir() and not path.is_file():
        raise DataError(f"{path}: no such file or folder; dataset.archive names it")
    return path


def _hash(path: Path, kind: str = "sha256") -> str:
    """Hash of a file, or of all parts of an archive, one after the other."""
    digest = hashlib.new(kind)
    try:
        with progress_bar(total=archive.size(path), unit="B", unit_scale=True, desc="checksum") as progress:
            for part in archive.parts(path):
                with open(str(part), "rb") as stream:
                    for chunk in iter(functools.partial(stream.read, _CHUNK), b""):
                        digest.update(chunk)
                        progress.update(len(chunk))
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); dataset.archive names it") from None
    return digest.hexdigest()


def _ends(settings: Download) -> float:
    return time.monotonic() + settings.timeout


def _download(wanted: _Wanted, cache: Path) -> Path:
    """The finished download of an address, from an earlier attempt or brought now."""
    stem, url = _stem(wanted.url, cache), redact_url(wanted.url)
    whole, part = stem.with_suffix(".archive"), stem.with_suffix(".part")
    try:
        with _alone(stem, url, wanted.until):
            if not whole.is_file():
                _persist(wanted, part)
                os.replace(str(part), str(whole))
                _notes(part).unlink()
    except OSError as error:
        raise MachineError(f"{url}: cannot be written into {cache}: {error.strerror}; {_came(part)}") from error
    return whole


@contextlib.contextmanager
def _alone(path: Path, what: str, until: float) -> Iterator[None]:
    """Has nobody else download the same; waits for one who does, whose download will do.

    Raises:
      StageError: that takes too long.
    """
    lock = filelock.FileLock(str(path) + ".lock")
    try:
        try:
            lock.acquire(timeout=0)
        except filelock.Timeout:
            logging.info("%s: another process is downloading it; waiting for that", what)
            lock.acquire(timeout=max(0.0, until - time.monotonic()))
    except filelock.Timeout:
        raise StageError(f"{what}: another process is downloading it into {path.parent}; wait for that") from None
    try:
        yield
    finally:
        lock.release()


def _persist(wanted: _Wanted, part: Path) -> None:
    """Attempts until `part` is whole. Attempts that brought something do not count."""
    failures = 0
    while True:
        before = _size(part)
        try:
            return _attempt(wanted, part)
        except _Interrupted as error:
            failures = 1 if _size(part) > before + _CHUNK else failures + 1
            pause = max(PAUSE * 2 ** (failures - 1), error.wait)
            problem = ""
            if pause > LONGEST_PAUSE:
                problem = f"{error}, and to come back in {error.wait:g} seconds"
            elif time.monotonic() + pause >= wanted.until:
                problem = f"{error}; download.timeout, {wanted.settings.timeout:g} seconds, is over"
            elif failures == ATTEMPTS:
                problem = f"{error}, {ATTEMPTS} times in a row"
            if problem:
                raise DownloadError(f"{redact_url(wanted.url)}: {problem}; {_came(part)}") from None
            logging.info("%s: %s; again in %g seconds", redact_url(wanted.url), error, pause)
        time.sleep(pause)


def _came(part: Path) -> str:
    """How far a download is, and what another run will do."""
    size, notes = _size(part), _read_notes(part)
    if not size:
        return "nothing came; run again"
    came = "{:,} {}bytes came".format(size, "of {:,} ".format(notes["total"]) if notes.get("total") else "")
    if notes.get("validator"):
        return came + " and are kept; run again to go on from there"
    return came + ", but the server cannot tell whether the rest would fit; another run begins anew"


def _attempt(wanted: _Wanted, part: Path) -> None:
    """One request. Returns when `part` is whole.

    Raises:
      _Interrupted: it is not, and another attempt may help.
      DownloadError: it is not, and none will.
    """
    headers = {"Accept-Encoding": "identity"}
    validator = _read_notes(part).get("validator")
    if _size(part) and validator:
        headers.update({"Range": f"bytes={_size(part)}-", "If-Range": validator})
    url = redact_url(wanted.url)
    location = _location(wanted.url)
    try:
        with requests.Session() as session:
            page = _ask(session, location, headers, wanted, part)
            confirmed = _confirmation(page) if location.startswith(DRIVE + "?") else ""
            if confirmed:
                page = _ask(session, confirmed, headers, wanted, part)
    except (requests.exceptions.InvalidSchema, requests.exceptions.MissingSchema):
        raise DownloadError(f"{url}: it leads to an address of another kind than http(s)://") from None
    except (ValueError, urllib3.exceptions.LocationValueError):  # requests' own InvalidURL, or urllib's
        raise DownloadError(f"{url}: it is, or leads to, no valid address") from None
    except (requests.exceptions.SSLError, requests.exceptions.TooManyRedirects) as error:
        raise DownloadError(f"{url}: {_cause(error, wanted.settings)}") from None
    except (requests.exceptions.RequestException, urllib3.exceptions.HTTPError) as error:
        raise _Interrupted(_cause(error, wanted.settings)) from None
    if page:
        raise _web_page(url, page)


def _ask(session: requests.Session, address: str, headers: Dict[str, str], wanted: _Wanted, part: Path) -> bytes:
    """Asks a server for (the rest of) a download. Returns the web page that came instead; b"" when `part` is whole."""
    stall = wanted.settings.stall
    with session.get(address, headers=headers, stream=True, timeout=(min(CONNECT, stall), stall)) as response:
        if _location(wanted.url).lower().startswith("https:") and not response.url.lower().startswith("https:"):
            raise DownloadError(f"{redact_url(wanted.url)}: it leads to an address that is not encrypted")
        return _receive(wanted, response, part)


def _receive(wanted: _Wanted, response: requests.Response, part: Path) -> bytes:
    """Adds what a server answers to `part`, as `_ask`."""
    status = response.status_code
    start, total = _content_range(response)
    if status == 416 and total == _size(part):
        return b""  # the last attempt ended exactly at the end
    if status == 416 or (status == 206 and (start != _size(part) or _changed(response, _read_notes(part)))):
        _begin(part, {})
        raise _Interrupted("the server sent another range, or of another file, than was asked for")
    if status >= 500 or status in (408, 429):
        raise _Interrupted(f"the server answered {status} {response.reason}", _retry_after(response))
    if status not in (200, 206):
        raise DownloadError(f"{redact_url(wanted.url)}: the server answered {status} {response.reason}")
    length = response.headers.get("Content-Length", "")
    if length == "0":
        raise _Interrupted("the server sent nothing")
    with _cut_off(response, wanted.until):
        pieces = response.raw.stream(_PIECE, decode_content=False)
        if status == 200:
            first = next(pieces, b"")
            if first.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"<"):  # as HTML and XML do, and no archive
                return b"".join([first, *itertools.islice(pieces, 3)])
            if not first:
                raise _Interrupted("the server sent nothing")
            pieces = itertools.chain([first], pieces)
            total = int(length) if re.match(r"[0-9]{1,18}\Z", length) else None
            _expect(wanted, total)
            _begin(part, {"address": redact_url(wanted.url), "validator": _validator(response), "total": total})
        total = total or _read_notes(part).get("total") or wanted.size or None
        disk.require(part.parent, (total or 0) - _size(part), redact_url(wanted.url))
        size = _store(pieces, part, wanted, total)
    if total is None and time.monotonic() >= wanted.until:
        raise _Interrupted("the connection was cut off")
    if total is not None and size < total:
        raise _Interrupted(f"the connection ended after {size:,} of {total:,} bytes")
    if total is not None and size > total:
        _begin(part, {})
        raise _Interrupted(f"{size:,} bytes came instead of {total:,}")
    return b""


@contextlib.contextmanager
def _cut_off(response: requests.Response, until: float) -> Iterator[None]:
    """Cuts the connection at a time: a server that sends a byte now and then keeps a read waiting for ever."""

    def cut() -> None:
        with contextlib.suppress(OSError):  # it is closed already
            connection.shutdown(socket.SHUT_RDWR)

    left = max(0.0, until - time.monotonic())
    with socket.socket(fileno=os.dup(response.raw.fileno())) as connection, processes.after(left, cut):
        yield


def _expect(wanted: _Wanted, total: Optional[int]) -> None:
    """Refuses a file of another length than the wanted one before it is brought."""
    if total and wanted.size and total != wanted.size:
        raise DownloadError(
            f"{redact_url(wanted.url)}: the server has a file of {total:,} bytes, wanted {wanted.size:,}"
        )
    if total and total > wanted.most:
        raise _too_long(wanted)


def _store(pieces: Iterable[bytes], part: Path, wanted: _Wanted, total: Optional[int]) -> int:
    """Appends what comes to `part`. Returns its size then."""
    with open(str(part), "ab") as output:
        with progress_bar(total=total, initial=output.tell(), unit="B", unit_scale=True, desc="download") as progress:
            for piece in pieces:
                if output.tell() + len(piece) > wanted.most:
                    part.unlink()
                    raise _too_long(wanted)
                output.write(piece)
                progress.update(len(piece))
        return output.tell()


def _too_long(wanted: _Wanted) -> DownloadError:
    what = f"wanted {wanted.size:,}" if wanted.size else "if that is meant, raise dataset.max_gigabytes"
    return DownloadError(f"{redact_url(wanted.url)}: more than {wanted.most:,} bytes; {what}")


def _web_page(url: str, page: bytes) -> DownloadError:
    title = re.search(r"<title[^>]*>\s*(.*?)\s*</title>", page.decode("utf-8", "replace"), re.IGNORECASE | re.DOTALL)
    return DownloadError(
        "{}: the server sent a web page{} instead of the file (a quota, a log-in or a confirmation?); fetch it with a browser,"
        " and give the path of what comes".format(url, f" ({html.unescape(title.group(1))[:100]!r})" if title else "")
    )


def _location(url: str) -> str:
    """Where a download is asked for: environment variables put in, and Google Drive's own address of its files.

    Raises:
      DataError: a variable is not set.
    """

    def value(match: Match[str]) -> str:
        if match.group(1) not in os.environ:
            raise DataError(f"{redact_url(url)}: the environment variable {match.group(1)} is not set")
        return os.environ[match.group(1)]

    address = re.sub(r"\$\{(\w+)\}", value, url)
    file = _drive_file(address)
    # `confirm`: the file may come though it was not scanned for viruses. Should Drive ask nevertheless, `_confirmation`.
    return DRIVE + "?" + urllib.parse.urlencode(dict(file, export="download", confirm="t")) if file else address


def _drive_file(address: str) -> Dict[str, str]:
    """`id` and, if given, `resourcekey` of a file of Google Drive: drive:ID, or the address of its page; {} of others."""
    if address.lower().startswith("drive:"):
        return {"id": address[len("drive:") :]}
    parts = urllib.parse.urlsplit(address)
    given = dict(urllib.parse.parse_qsl(parts.query))
    page = re.match(r"/file/(?:u/\d+/)?d/([\w-]+)", parts.path)
    if parts.hostname not in ("drive.google.com", "docs.google.com") or not (page or "id" in given):
        return {}
    found = {"id": page.group(1) if page else given["id"], "resourcekey": given.get("resourcekey", "")}
    return {name: value for name, value in found.items() if value}


def _confirmation(page: bytes) -> str:
    """The address that Google Drive's page leads to which asks whether a large file is wanted; '' of another page.

    It holds a form `download-form` with hidden fields, among them `confirm` and `uuid`.
    """
    text = page.decode("utf-8", "replace")
    form = re.search(r"<form\b[^>]*\bdownload-form\b.*?</form>", text, re.IGNORECASE | re.DOTALL)
    tags = (
        [dict(re.findall(r"([\w-]+)=[\"']([^\"']*)", tag)) for tag in re.findall(r"<[^>]*>", form.group())]
        if form
        else []
    )
    fields = [(tag["name"], html.unescape(tag.get("value", ""))) for tag in tags if "name" in tag]
    return html.unescape(tags[0].get("action", "")) + "?" + urllib.parse.urlencode(fields) if fields else ""


def _content_range(response: requests.Response) -> Tuple[Optional[int], Optional[int]]:
    """First byte and total length as the header Content-Range tells them."""
    match = re.match(r"bytes (?:(\d{1,18})-\d+|\*)/(\d{1,18}|\*)\Z", response.headers.get("Content-Range", ""))
    if not match:
        return None, None
    start, total = match.groups()
    return int(start) if start else None, int(total) if total != "*" else None


def _validator(response: requests.Response) -> str:
    """What the server knows this state of the file by; weak tags do not do."""
    etag = response.headers.get("ETag", "")
    return etag if etag.startswith('"') else response.headers.get("Last-Modified", "")


def _changed(response: requests.Response, notes: Dict[str, Any]) -> bool:
    """Whether an answer is of another file than the one that the notes are of, as far as they say."""
    found = {"total": _content_range(response)[1], "validator": _validator(response)}
    return any(value and notes.get(name) and value != notes[name] for name, value in found.items())


def _retry_after(response: requests.Response) -> float:
    """Seconds that the server asks to wait for, which it may tell as a time of day."""
    value = response.headers.get("Retry-After", "")
    if re.match(r"[0-9]+\Z", value):
        return float(value)
    with contextlib.suppress(TypeError, ValueError, IndexError, OverflowError):
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    return 0.0


def _notes(part: Path) -> Path:
    return part.with_suffix(".json")


def _read_notes(part: Path) -> Dict[str, Any]:
    try:
        notes = json.loads(_notes(part).read_text())
    except (OSError, ValueError):
        return {}
    return notes if isinstance(notes, dict) else {}


def _begin(part: Path, notes: Dict[str, Any]) -> None:
    """Begins anew: no bytes, and the notes to those that will come. The two are never of different answers."""
    if part.exists():
        part.unlink()
    _notes(part).write_text(json.dumps(notes))


def _size(part: Path) -> int:
    return part.stat().st_size if part.exists() else 0


def _cause(error: BaseException, settings: Download) -> str:
    """The system's own words at the root of an error, whose text would show the whole address."""
    if isinstance(error, requests.exceptions.SSLError):
        return "the server's certificate is not accepted"
    if isinstance(error, requests.exceptions.TooManyRedirects):
        return "redirected without end"
    if isinstance(error, (requests.exceptions.ConnectTimeout, urllib3.exceptions.ConnectTimeoutError)):
        return f"no connection within {min(CONNECT, settings.stall):g} seconds"
    if isinstance(error, (requests.exceptions.Timeout, urllib3.exceptions.TimeoutError)):
        return f"nothing came for {settings.stall:g} seconds (download.stall)"
    root: Optional[BaseException] = error
    while root is not None:
        if isinstance(root, OSError) and root.strerror:
            return f"the connection failed ({root.strerror})"
        root = root.__context__
    return "the connection was cut"


def discard(address: str, cache: Path) -> None:
    """Deletes what is kept of a download."""
    for file in _stem(address, cache).parent.glob(_stem(address, cache).name + ".*"):
        file.unlink()


def _stem(url: str, cache: Path) -> Path:
    return cache / hashlib.sha256(url.encode()).hexdigest()
