"""Where the files of a data set come from: a path or folder on this machine, or a URL.

`dataset.archive` names one archive or folder of the user's own (`fetch_archive`). The files of a known data set are
searched below `download.data_path`, then among earlier downloads, then at the configured mirrors and the files' own URLs
(`obtain_file`). For files that nobody may redistribute, `manual_instructions` says what to download by hand.
"""

import functools
import hashlib
import shlex
import time
import urllib.parse
from pathlib import Path
from typing import Callable, Iterable, List, Optional, Sequence, Tuple

from fse.config import Dataset, Download, is_remote
from fse.datasets import http_download, split_file
from fse.datasets.http_download import DownloadRequest
from fse.datasets.spec import SourceFile
from fse.errors import DataError, DownloadError
from fse.redaction import redact_url
from fse.runtime.progress import progress_bar

# Files are searched in `download.data_path` itself and in folders down to this depth.
_SEARCH_DEPTH = 3

_CHUNK = 1 << 20
_HASH_BY_LENGTH = {32: "md5", 40: "sha1", 64: "sha256"}  # in hexadecimal digits


def fetch_archive(dataset: Dataset, settings: Download, cache: Path) -> Tuple[Path, Optional[str]]:
    """Return the path of `dataset.archive` on this machine, and its sha256; download it if it is a URL.

    Args:
      dataset: `archive` is a path or `file://` URL of an archive or folder, which is used where it is, or a URL to
        download; `sha256` is the expected checksum, or ''; `max_gigabytes` limits the length of a download.
      settings: timeouts of a download.
      cache: an existing folder, where downloads are kept.

    Returns:
      The path, and the sha256 of the archive; None for a folder.

    Raises:
      DataError: the file does not exist, or the URL's scheme is not supported.
      DownloadError: the download failed (see `http_download.download`), or the checksum differs. A download whose
        checksum differs is deleted.
      StageError: the download cannot be written, or another process holds its lock until the timeout.
    """
    remote = is_remote(dataset.archive)
    if remote:
        max_bytes = int(dataset.max_gigabytes * 1e9)
        request = DownloadRequest(dataset.archive, settings, _deadline(settings), size=0, max_bytes=max_bytes)
        path = http_download.download(request, cache)
    else:
        path = _local_path(dataset.archive)
    if path.is_dir():
        if dataset.sha256:
            raise DataError(f"{path}: a folder has no checksum; leave dataset.sha256 empty")
        return path, None
    digest, expected = _hash(path, "sha256"), dataset.sha256.lower()
    if expected and digest != expected:
        if remote:
            path.unlink()
        deleted = ", and the download was deleted" if remote else ""
        raise DownloadError(
            f"{redact_url(dataset.archive)}: the sha256 is {digest}, but dataset.sha256 is {expected}{deleted}; correct the "
            "setting or get the file again"
        )
    return path, digest


def discard_download(url: str, cache: Path) -> None:
    """Delete what `fetch_archive` keeps of a download."""
    http_download.discard(url, cache)


def find_local(file: SourceFile, data_path: str) -> Optional[Path]:
    """Return the path of a known data set's file, or of its unpacked folder, below `data_path`; None if neither exists.

    A file is preferred to a folder. Of several matches the least deep one is returned, and of those the first in
    alphabetical order. Of a 7z archive only the unpacked folder can be used.
    """
    archive = None if file.is_seven_zip else _find(data_path, file.name, Path.is_file)
    return archive or _find(data_path, file.folder, Path.is_dir)


def urls_of(file: SourceFile, settings: Download) -> List[str]:
    """Return the URLs of a file: at the configured mirrors, then its own. Split archives and 7z are not downloaded."""
    if file.is_split or file.is_seven_zip:
        return []
    mirrors = [urllib.parse.urlsplit(mirror) for mirror in settings.mirrors]
    copies = [parts._replace(path=f"{parts.path.rstrip('/')}/{file.name}").geturl() for parts in mirrors]
    return copies + list(file.urls)


def unavailable_files(files: Iterable[SourceFile], settings: Download) -> List[SourceFile]:
    """Return the files that are not below `download.data_path` and cannot be downloaded."""
    return [file for file in files if not find_local(file, settings.data_path) and not urls_of(file, settings)]


def manual_instructions(files: Sequence[SourceFile], settings: Download, homepage: str, terms: str) -> str:
    """Return what a person has to do about files that cannot be downloaded automatically.

    Args:
      files: the files to provide.
      settings: `data_path` is where they have to be put, and where 7z archives that need unpacking are searched.
      homepage: of the data set.
      terms: of the data set.
    """
    steps, to_download, to_unpack = [], [], []
    for file in files:
        archive = _find(settings.data_path, file.name, Path.is_file) if file.is_seven_zip else None
        if archive:
            steps.append(_unpack_step(archive, file, homepage))
            continue
        to_download.append(_description(file))
        if file.is_seven_zip:
            to_unpack.append(f"; unpack it there with `7z x {file.name}`, which makes the folder {file.folder!r}")
    if to_download:
        target = settings.data_path or "a folder, and set download.data_path to it"
        steps.append(
            f"{', '.join(to_download)}: download by hand from {homepage} ({terms}) and put into {target}{''.join(to_unpack)}"
        )
    return "; ".join(steps)


def obtain_file(file: SourceFile, settings: Download, cache: Path, homepage: str, max_bytes: int) -> Path:
    """Return the path of a known data set's file, or of its unpacked folder; download it if necessary.

    Args:
      file: a file that is not among `unavailable_files`.
      settings: where to search and download, and the timeout of the downloads from all URLs together.
      cache: an existing folder; downloads are kept in its folder `downloads`.
      homepage: of the data set, for messages.
      max_bytes: limit of a download whose size is not known.

    Raises:
      DataError: the file in `download.data_path` differs from the known one.
      DownloadError: no URL gives the file.
      StageError: the download cannot be written, or another process holds its lock until the timeout.
    """
    local = find_local(file, settings.data_path)
    if local:
        difference = _difference(local, file)
        if difference:
            raise DataError(f"{local}: {difference}; download {file.name} again from {homepage}")
        return local
    target = cache / "downloads" / file.name
    target.parent.mkdir(parents=True, exist_ok=True)
    failures, deadline = [], _deadline(settings)
    with http_download.lock_download(target, f"the download of {file.name} into {target.parent}", deadline):
        if target.is_file() and not _difference(target, file):
            return target
        for url in urls_of(file, settings):
            request = DownloadRequest(url, settings, deadline, size=file.size, max_bytes=file.size or max_bytes)
            try:
                path = http_download.download(request, target.parent)
                difference = _difference(path, file)
                if not difference:
                    path.replace(target)
                    return target
                path.unlink()
                failures.append(f"{redact_url(url)}: {difference}")
            except DownloadError as error:
                failures.append(str(error))
    raise DownloadError("; ".join(f"{file.name}, {failure}" for failure in failures))


def _find(data_path: str, name: str, is_kind: Callable[[Path], bool]) -> Optional[Path]:
    """Return the first file or folder of a name at the smallest depth below `data_path`; None if there is none."""
    if not name or not data_path or not Path(data_path).is_dir():
        return None
    for depth in range(_SEARCH_DEPTH + 1):
        paths = sorted(path for path in Path(data_path).glob("*/" * depth + name) if is_kind(path))
        if paths:
            return paths[0]
    return None


def _description(file: SourceFile) -> str:
    """Return a file's name with its alternatives and its URL, for people."""
    text = file.name + (" and all volumes after it" if file.is_split else "")
    if file.folder and not file.is_seven_zip:
        text += f" (or the unpacked folder {file.folder!r})"
    url = next((url for url in file.urls if url.startswith("http")), "")
    return f"{text} ({url})" if url else text


def _unpack_step(archive: Path, file: SourceFile, homepage: str) -> str:
    """Return what to do with a 7z archive that is there: unpack it, or download what is missing of it."""
    difference = _difference(archive, file)
    if difference:
        return f"{archive}: {difference}; download all of {file.name} from {homepage}"
    command = f"7z x -o{shlex.quote(str(archive.parent))} {shlex.quote(str(archive))}"
    return f"{archive}: 7z archives are not read; unpack it with `{command}`, which makes the folder {file.folder!r}"


def _difference(path: Path, file: SourceFile) -> str:
    """Return how a local file differs from the known one in size or hash; '' if no difference is known."""
    if path.is_dir():
        return ""
    size = split_file.size(path)
    if file.size and size != file.size:
        volumes = f" in {len(split_file.volumes(path))} volumes" if file.is_split else ""
        return f"{size:,} bytes{volumes}, expected {file.size:,}{_page_remark(path)}"
    if not file.hash:
        return _page_remark(path).lstrip(", ")
    algorithm = _HASH_BY_LENGTH[len(file.hash)]
    digest = _hash(path, algorithm)
    return "" if digest == file.hash else f"its {algorithm} is {digest}, expected {file.hash}{_page_remark(path)}"


def _page_remark(path: Path) -> str:
    """Return a remark if the file is a web page, such as a quota page saved under the file's name; else ''."""
    with open(path, "rb") as stream:
        start = stream.read(1024)
    return ", and it is a web page, perhaps about a quota" if http_download.starts_like_page(start) else ""


def _local_path(archive: str) -> Path:
    """Return the path that `dataset.archive` names."""
    if "://" in archive:
        parts = urllib.parse.urlsplit(archive)
        if parts.scheme.lower() != "file":
            raise DataError(
                f"dataset.archive {redact_url(archive)}: {parts.scheme}:// is not supported; use a path, file:// or http(s)://"
            )
        if parts.netloc not in ("", "localhost"):
            raise DataError(f"dataset.archive {archive}: the path is not absolute; write file:///, with three slashes")
        path = Path(urllib.parse.unquote(parts.path))
    else:
        path = Path(archive).expanduser()
    if not path.is_dir() and not path.is_file():
        raise DataError(f"{path}: no such file or folder; correct dataset.archive")
    return path


def _hash(path: Path, algorithm: str) -> str:
    """Return the hexadecimal hash of a file, or of all volumes of a split archive in order."""
    digest = hashlib.new(algorithm)
    try:
        bar = progress_bar(total=split_file.size(path), unit="B", unit_scale=True, desc="checksum")
        with bar, split_file.open_volumes(path) as stream:
            for chunk in iter(functools.partial(stream.read, _CHUNK), b""):
                digest.update(chunk)
                bar.update(len(chunk))
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); check the file and its permissions") from None
    return digest.hexdigest()


def _deadline(settings: Download) -> float:
    """Return the time at which a download that begins now has to end, in seconds of time.monotonic()."""
    return time.monotonic() + settings.timeout
