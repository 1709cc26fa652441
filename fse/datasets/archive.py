"""Unpacking archives that nobody has vouched for.

Members are written one by one, under names that were looked at first. What an archive says about its sizes is not
believed: bytes are counted as they come out.
"""

import bz2
import contextlib
import functools
import gzip
import lzma
import re
import stat
import struct
import tarfile
import zipfile
import zlib
from pathlib import Path, PurePosixPath
from typing import IO, Any, Callable, Iterator, List, NamedTuple, Optional, cast

from fse.errors import DataError, StageError
from fse.progress import bar

_CHUNK = 1 << 20
# The largest piece tarfile may ask for at once: an extended header that claims more is an attack on the memory.
_LARGEST_READ = 1 << 26
_TAR_BLOCK = 512

_BROKEN = (
    EOFError,
    ValueError,
    lzma.LZMAError,
    struct.error,
    tarfile.TarError,
    zipfile.BadZipFile,
    zlib.error,
)


class _Member(NamedTuple):
    """A regular file in an archive."""

    name: PurePosixPath
    open: Callable[[], Optional[IO[bytes]]]


def unpack(
    archive: Path,
    folder: Path,
    wanted: Callable[[PurePosixPath], bool],
    max_bytes: int,
    max_files: int,
    name: Callable[[PurePosixPath], PurePosixPath] = lambda name: name,
) -> None:
    """Writes the wanted files of a zip or tar (plain, gzip, bzip2, xz) archive below a folder.

    Args:
      archive: the file. Its kind is told from its first bytes.
      folder: where to write; a file that is already there is not overwritten.
      wanted: says of a file's name in the archive whether to write it.
      max_bytes: limit of all that is written; of a tar archive also of all that is read over.
      max_files: limit of the number of entries, wanted or not.
      name: the name below `folder` of a file that is wanted; without `..`.

    Raises:
      DataError: the archive is truncated or corrupt, encrypted, has an entry that leaves its folder or is neither file
        nor folder, or is larger than permitted.
      StageError: the files cannot be written, for want of space for example.
    """
    written = position = 0
    with _explained(archive, folder), open(str(archive), "rb") as stream, _progress(archive) as progress:
        for member in _members(archive, stream, max_bytes, max_files):
            if wanted(member.name):
                written += _write(
                    member._replace(name=name(member.name)), folder, archive, max_bytes - written, max_bytes
                )
            progress.update(max(0, stream.tell() - position))
            position = max(position, stream.tell())


def names(archive: Path, max_bytes: int, max_files: int) -> List[str]:
    """Names of the files in an archive.

    Raises:
      DataError, StageError: as `unpack`.
    """
    with _explained(archive, archive), open(str(archive), "rb") as stream:
        return [str(member.name) for member in _members(archive, stream, max_bytes, max_files)]


def folders(archive: Path, max_bytes: int, max_files: int) -> List[str]:
    """The folders that hold files in an archive, sorted; `.` is the top.

    Raises:
      DataError, StageError: as `unpack`.
    """
    with _explained(archive, archive), open(str(archive), "rb") as stream:
        return sorted({str(member.name.parent) for member in _members(archive, stream, max_bytes, max_files)})


def _progress(archive: Path) -> Any:
    return bar(total=archive.stat().st_size, unit="B", unit_scale=True, desc="unpacking")


@contextlib.contextmanager
def _explained(archive: Path, folder: Path) -> Iterator[None]:
    """Turns what the readers of archives raise into this package's errors."""
    try:
        yield
    except OSError as error:
        if error.errno is None:  # a decompressor's, not the system's
            raise _corrupt(archive, error) from None
        where = " ({})".format(error.filename) if error.filename else ""
        raise StageError(
            "{}: cannot be unpacked into {}: {}{}".format(archive, folder, error.strerror, where)
        ) from None
    except NotImplementedError as error:
        raise DataError(
            "{}: {}; unpack it yourself and let dataset.archive name the folder".format(archive, error)
        ) from None
    except _BROKEN as error:
        raise _corrupt(archive, error) from None


def _write(member: _Member, folder: Path, archive: Path, room: int, max_bytes: int) -> int:
    """Writes a file of at most `room` bytes. Returns how many it has."""
    target = folder.joinpath(*member.name.parts)
    target.parent.mkdir(parents=True, exist_ok=True)
    written = 0
    with contextlib.ExitStack() as stack:
        try:
            output = stack.enter_context(open(str(target), "xb"))
        except FileExistsError:
            raise DataError("{}: holds {!r} twice".format(archive, str(member.name))) from None
        source = member.open()
        assert source is not None  # None is tarfile's answer for links and folders
        stack.enter_context(source)
        while True:
            chunk = source.read(_CHUNK)
            written += len(chunk)
            if written > room:
                raise _too_large(archive, max_bytes)
            if not chunk:
                return written
            output.write(chunk)


def _members(archive: Path, stream: IO[bytes], max_bytes: int, max_files: int) -> Iterator[_Member]:
    """The files of the archive; a file has to be read before the next is asked for."""
    start = stream.read(4)
    stream.seek(0)
    if start in (b"PK\x03\x04", b"PK\x05\x06"):
        entries = _zip_members(archive, stream)
    else:
        # Every entry may add a header, a long name and padding.
        entries = _tar_members(archive, stream, max_bytes + 4 * _TAR_BLOCK * max_files + _CHUNK, max_bytes)
    for number, member in enumerate(entries, 1):
        if number > max_files:
            raise DataError(
                "{}: has more than {} entries; if that is meant, raise dataset.max_files".format(archive, max_files)
            )
        if member:
            yield member


def _zip_members(archive: Path, stream: IO[bytes]) -> Iterator[Optional[_Member]]:
    """A file, or None for a folder, per entry."""
    with zipfile.ZipFile(stream) as package:
        for info in package.infolist():
            name = _checked_name(archive, info.filename.replace("\\", "/"))
            kind = stat.S_IFMT(info.external_attr >> 16)
            if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise _unusual(archive, name)
            if info.flag_bits & 1:
                raise DataError(
                    "{}: entry {!r} is encrypted; unpack it yourself and let dataset.archive name the folder".format(
                        archive, str(name)
                    )
                )
            yield None if info.is_dir() else _Member(name, functools.partial(package.open, info))


def _tar_members(archive: Path, stream: IO[bytes], limit: int, max_bytes: int) -> Iterator[Optional[_Member]]:
    """A file, or None for a folder, per entry. At most `limit` bytes are decompressed."""
    plain = _Forward(_decompressed(stream), limit, _too_large(archive, max_bytes))
    with _tar(archive, plain) as package:
        while True:
            info = package.next()
            if info is None:
                break
            package.members = []  # type: ignore[attr-defined]  # tarfile would keep millions
            name = _checked_name(archive, info.name)
            if not (info.isfile() or info.isdir()):
                raise _unusual(archive, name)
            yield _Member(name, functools.partial(package.extractfile, info)) if info.isfile() else None
    # To tarfile any end is the end. A whole archive has an empty block there, and its compressor's checksum after it.
    if plain.last != bytes(_TAR_BLOCK):
        raise EOFError("its end is missing")
    while plain.read(_CHUNK):
        pass


def _tar(archive: Path, plain: "_Forward") -> tarfile.TarFile:
    try:
        return tarfile.TarFile(fileobj=cast(IO[bytes], plain))
    except tarfile.ReadError:
        raise DataError("{}: neither a zip nor a tar archive, or truncated or corrupt".format(archive)) from None


def _decompressed(stream: IO[bytes]) -> IO[bytes]:
    start = stream.read(6)
    stream.seek(0)
    if start.startswith(b"\x1f\x8b"):
        return cast(IO[bytes], gzip.GzipFile(fileobj=stream))
    if start.startswith(b"BZh"):
        return cast(IO[bytes], bz2.BZ2File(stream))
    if start == b"\xfd7zXZ\x00":
        return cast(IO[bytes], lzma.LZMAFile(stream))
    return stream


class _Forward:
    """A stream for tarfile that is read forward only, in modest pieces, and to a limit."""

    def __init__(self, stream: IO[bytes], limit: int, too_large: DataError) -> None:
        self._stream, self._limit, self._too_large = stream, limit, too_large
        self._position = 0
        self.last = b""  # what was read last

    def read(self, size: int) -> bytes:
        if not 0 <= size <= _LARGEST_READ:
            raise ValueError("a header of {} bytes".format(size))
        self.last = self._stream.read(size)
        self._position += len(self.last)
        if self._position > self._limit:
            raise self._too_large
        return self.last

    def seek(self, position: int) -> None:
        while self._position < position and self.read(min(_CHUNK, position - self._position)):
            pass
        if self._position != position:
            raise EOFError("unexpected end")

    def tell(self) -> int:
        return self._position


def _checked_name(archive: Path, name: str) -> PurePosixPath:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or re.match(r"[A-Za-z]:", name) or "\0" in name:
        raise DataError(
            "{}: entry {!r} leaves the archive's folder; such an archive is not unpacked".format(archive, name)
        )
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        raise DataError("{}: the name of entry {!r} is not UTF-8".format(archive, name)) from None
    return path


def _unusual(archive: Path, name: PurePosixPath) -> DataError:
    return DataError(
        "{}: entry {!r} is a link or a device; only files and folders are unpacked".format(archive, str(name))
    )


def _too_large(archive: Path, max_bytes: int) -> DataError:
    return DataError(
        "{}: unpacks to more than {:.3g} GB; if that is meant, raise dataset.max_gigabytes".format(
            archive, max_bytes / 1e9
        )
    )


def _corrupt(archive: Path, error: Exception) -> DataError:
    return DataError("{}: the archive is truncated or corrupt ({})".format(archive, error or type(error).__name__))
