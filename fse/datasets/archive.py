"""Unpacking archives that nobody has vouched for.

Members are written one by one, under names that were looked at first. What an archive says about its sizes is not
believed: bytes are counted as they come out.

An archive that was cut into parts, `NAME.001`, `NAME.002` …, is named by its first one. 7z archives take libarchive (BSD;
libarchive-c, which calls it, is in the public domain): of the libraries that read them it alone is permissive and streams.
"""

import bz2
import contextlib
import errno
import functools
import gzip
import io
import logging
import lzma
import os
import re
import stat
import struct
import tarfile
import zipfile
import zlib
from pathlib import Path, PurePosixPath
from typing import IO, Any, Callable, Iterator, List, NamedTuple, Optional, Tuple, cast

from fse.errors import ArchiveError, DataError, MachineError
from fse.runtime import disk
from fse.runtime.progress import progress_bar

_CHUNK = 1 << 20
_PIECE = 1 << 16
# The largest piece tarfile may ask for at once: an extended header that claims more is an attack on the memory.
_LARGEST_READ = 1 << 26
_TAR_BLOCK = 512

_ZIP = (b"PK\x03\x04", b"PK\x05\x06")
_SEVEN = b"7z\xbc\xaf\x27\x1c"

_BROKEN = (
    EOFError,
    OverflowError,
    RecursionError,  # tarfile calls itself for every header that says something of the next
    ValueError,
    lzma.LZMAError,
    struct.error,
    tarfile.TarError,
    zipfile.BadZipFile,
    zlib.error,
)


class Content(NamedTuple):
    """A file of an archive as it was read: `data` are its first bytes, at most 64 MiB, of a wanted one; else none."""

    name: PurePosixPath
    size: int
    data: bytes


class _Member(NamedTuple):
    """A regular file in an archive, and its length as the archive has it."""

    name: PurePosixPath
    size: int
    open: Callable[[], Optional[IO[bytes]]]


def unpack(
    archive: Path,
    folder: Path,
    wanted: Callable[[PurePosixPath], bool],
    max_bytes: int,
    max_files: int,
    name: Callable[[PurePosixPath], PurePosixPath] = lambda name: name,
) -> None:
    """Writes the wanted files of a zip, tar (plain, gzip, bzip2, xz) or 7z archive below a folder.

    Args:
      archive: the file, or its first part. Its kind is told from its first bytes.
      folder: where to write; a file that is already there is not overwritten.
      wanted: says of a file's name in the archive whether to write it.
      max_bytes: limit of all that is written; of a tar archive also of all that is read over.
      max_files: limit of the number of entries, wanted or not.
      name: the name below `folder` of a file that is wanted; without `..`.

    Raises:
      ArchiveError: the archive is truncated or corrupt.
      DataError: it is encrypted, has an entry that leaves its folder or is neither file
        nor folder, or is larger than permitted; or it is a 7z archive, and libarchive is not there.
      MachineError: the files cannot be written, for want of space for example, which is looked for first where the
        archive has a list of its files.
    """
    written = position = 0
    with _explained(archive, folder), _opened(archive) as stream, _progress(archive) as progress:
        if _kind(stream) != "tar":
            members = _members(archive, stream, max_bytes, max_files)
            needed = sum(member.size for member in members if wanted(member.name))
            if needed > max_bytes:
                raise _too_large(archive, max_bytes)
            disk.require(folder, needed, f"{archive}, unpacked,")
        for member in _members(archive, stream, max_bytes, max_files):
            if wanted(member.name):
                written += _write(
                    member._replace(name=name(member.name)), folder, archive, max_bytes - written, max_bytes
                )
            progress.update(stream.tell() - position)
            position = stream.tell()


def names(archive: Path, max_bytes: int, max_files: int) -> List[str]:
    """Names of the files in an archive.

    Raises:
      ArchiveError, DataError, MachineError: as `unpack`.
    """
    with _explained(archive, archive), _opened(archive) as stream:
        return [str(member.name) for member in _members(archive, stream, max_bytes, max_files)]


def folders(archive: Path, max_bytes: int, max_files: int) -> List[str]:
    """The folders that hold files in an archive, sorted; `.` is the top.

    Raises:
      ArchiveError, DataError, MachineError: as `unpack`.
    """
    with _explained(archive, archive), _opened(archive) as stream:
        return sorted({str(member.name.parent) for member in _members(archive, stream, max_bytes, max_files)})


def contents(
    archive: Path, wanted: Callable[[PurePosixPath], bool], max_bytes: int, max_files: int
) -> Iterator[Content]:
    """Reads every file of an archive, which shows whether it is whole, and writes none.

    Args:
      archive, max_files: as of `unpack`.
      wanted: says of a file's name in the archive whether to keep what is in it.
      max_bytes: limit of all that is read.

    Raises:
      ArchiveError, DataError, MachineError: as `unpack`.
    """
    total = 0
    with _explained(archive, archive), _opened(archive) as stream:
        for member in _members(archive, stream, max_bytes, max_files):
            source = member.open()
            assert source is not None  # None is tarfile's answer for links and folders
            size, kept = 0, []
            with source:
                for chunk in iter(functools.partial(source.read, _CHUNK), b""):
                    size, total = size + len(chunk), total + len(chunk)
                    if total > max_bytes:
                        raise _too_large(archive, max_bytes)
                    if size <= _LARGEST_READ and wanted(member.name):
                        kept.append(chunk)
            yield Content(member.name, size, b"".join(kept))


def is_archive(path: Path) -> bool:
    """Whether a file begins like an archive that `unpack` knows."""
    with open(str(path), "rb") as stream:
        start = stream.read(_TAR_BLOCK)
    begins = (*_ZIP, _SEVEN, b"\x1f\x8b", b"BZh", b"\xfd7zXZ\x00")
    return start.startswith(begins) or start[257:262] == b"ustar"


def parts(archive: Path) -> List[Path]:
    """The files of an archive: itself, and the parts that follow a first one, `NAME.001`, without a gap."""
    found = [archive]
    while archive.suffix == ".001" and archive.with_suffix(f".{len(found) + 1:03d}").is_file():
        found.append(archive.with_suffix(f".{len(found) + 1:03d}"))
    return found


def size(archive: Path) -> int:
    """Bytes of an archive, all its parts together."""
    return sum(part.stat().st_size for part in parts(archive))


def _progress(archive: Path) -> Any:
    return progress_bar(total=size(archive), unit="B", unit_scale=True, desc="unpacking")


def _opened(archive: Path) -> IO[bytes]:
    found = parts(archive)
    return open(str(archive), "rb") if len(found) == 1 else cast(IO[bytes], io.BufferedReader(_Parts(found), _CHUNK))


def _kind(stream: IO[bytes]) -> str:
    """What the archive is by its first bytes: zip, 7z, or else a tar or nothing."""
    stream.seek(0)
    start = stream.read(6)
    stream.seek(0)
    return "zip" if start.startswith(_ZIP) else "7z" if start == _SEVEN else "tar"


class _Parts(io.RawIOBase):
    """Files one after the other, as one."""

    def __init__(self, paths: List[Path]) -> None:
        self._files: List[Tuple[int, io.FileIO]] = []  # where each begins
        self._end = self._position = 0
        for path in paths:
            self._files.append((self._end, io.FileIO(str(path))))
            self._end += path.stat().st_size

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._position = max(0, offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._end}[whence])
        return self._position

    def tell(self) -> int:
        return self._position

    def readinto(self, buffer: Any) -> int:
        at = [place for place, (begin, _) in enumerate(self._files) if begin <= self._position][-1]
        begin, file = self._files[at]
        end = self._files[at + 1][0] if at + 1 < len(self._files) else self._end
        file.seek(self._position - begin)
        data = file.read(max(0, min(len(buffer), end - self._position)))
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)

    def close(self) -> None:
        for _, file in self._files:
            file.close()
        super().close()


@contextlib.contextmanager
def _explained(archive: Path, folder: Path) -> Iterator[None]:
    """Turns what the readers of archives raise into this package's errors."""
    try:
        yield
    except OSError as error:
        if error.errno in (None, errno.EINVAL):  # a decompressor's, or a place that no file has; not the system's
            raise _corrupt(archive, error) from None
        where = f" ({error.filename})" if error.filename else ""
        raise MachineError(f"{archive}: cannot be unpacked into {folder}: {error.strerror}{where}") from error
    except NotImplementedError as error:
        raise DataError(f"{archive}: {error}; unpack it yourself and let dataset.archive name the folder") from None
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
            raise DataError(f"{archive}: holds {str(member.name)!r} twice") from None
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
    kind = _kind(stream)
    if kind == "zip":
        entries = _zip_members(archive, stream)
    elif kind == "7z":
        entries = _seven_members(archive, stream)
    else:
        # Every entry may add a header, a long name and padding.
        entries = _tar_members(archive, stream, max_bytes + 4 * _TAR_BLOCK * max_files + _CHUNK, max_bytes)
    for number, member in enumerate(entries, 1):
        if number > max_files:
            raise DataError(f"{archive}: has more than {max_files} entries; if that is meant, raise dataset.max_files")
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
                    f"{archive}: entry {str(name)!r} is encrypted; unpack it yourself and let dataset.archive name the folder"
                )
            yield None if info.is_dir() else _Member(name, info.file_size, functools.partial(package.open, info))


def _seven_members(archive: Path, stream: IO[bytes]) -> Iterator[Optional[_Member]]:
    """A file, or None for a folder, per entry."""
    logging.getLogger("libarchive").setLevel(logging.WARNING)  # it says what the system's version cannot write
    try:
        import libarchive
    except (ImportError, OSError, AttributeError, TypeError):  # the module, or the system's library that it calls
        raise DataError(
            f"{archive}: to read 7z archives, `pip install libarchive-c`, and the system's libarchive (Debian: libarchive13); or "
            f"unpack it yourself (`7z x {archive}`) and give the folder instead"
        ) from None
    reader = libarchive.stream_reader(stream, format_name="7zip", filter_name="none", block_size=_PIECE)
    with _seven_errors(), reader as package:
        for entry in package:
            name = _checked_name(archive, os.fsdecode(entry.pathname or "").replace("\\", "/"))
            if not (entry.isreg or entry.isdir):
                raise _unusual(archive, name)
            yield _Member(name, entry.size or 0, functools.partial(_seven_stream, entry)) if entry.isreg else None


@contextlib.contextmanager
def _seven_errors() -> Iterator[None]:
    import libarchive

    try:
        yield
    except libarchive.ArchiveError as error:
        raise EOFError(error.msg or "it cannot be read") from None


def _seven_stream(entry: Any) -> IO[bytes]:
    def pieces() -> Iterator[bytes]:
        with _seven_errors():
            yield from entry.get_blocks(_PIECE)

    return cast(IO[bytes], io.BufferedReader(_Blocks(pieces()), _PIECE))


class _Blocks(io.RawIOBase):
    """Bytes that come in pieces, as a stream."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces, self._rest = pieces, b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        self._rest = self._rest or next(self._pieces, b"")
        count = min(len(buffer), len(self._rest))
        buffer[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        return count


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
            opener = functools.partial(package.extractfile, info)
            yield _Member(name, info.size, opener) if info.isfile() else None
    # To tarfile any end is the end. A whole archive has an empty block there, and its compressor's checksum after it.
    if plain.last != bytes(_TAR_BLOCK):
        raise EOFError("its end is missing")
    while plain.read(_CHUNK):
        pass


def _tar(archive: Path, plain: "_Forward") -> tarfile.TarFile:
    try:
        return tarfile.TarFile(fileobj=cast(IO[bytes], plain))
    except tarfile.ReadError:
        raise ArchiveError(f"{archive}: no zip, tar or 7z archive, or truncated or corrupt") from None


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
            raise ValueError(f"a header of {size} bytes")
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
        raise DataError(f"{archive}: entry {name!r} leaves the archive's folder; such an archive is not unpacked")
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        raise DataError(f"{archive}: the name of entry {name!r} is not UTF-8") from None
    return path


def _unusual(archive: Path, name: PurePosixPath) -> DataError:
    return DataError(f"{archive}: entry {str(name)!r} is a link or a device; only files and folders are unpacked")


def _too_large(archive: Path, max_bytes: int) -> DataError:
    return DataError(
        f"{archive}: unpacks to more than {max_bytes / 1e9:.3g} GB; if that is meant, raise dataset.max_gigabytes"
    )


def _corrupt(archive: Path, error: Exception) -> ArchiveError:
    return ArchiveError(f"{archive}: the archive is truncated or corrupt ({error or type(error).__name__})")
