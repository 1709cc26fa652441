"""Unpack untrusted archives: zip, and tar with or without compression.

Members are written one by one, after their names have been checked. The sizes that an archive declares are not trusted;
bytes are counted while they are decompressed. Archives may be split into volumes (`fse.datasets.split_file`).

7z archives are recognized but not read, since that needs a library outside Python; the error says how to unpack them.
"""

import contextlib
import errno
import functools
import lzma
import shlex
import struct
import tarfile
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any, Callable, Iterator, List, Optional

from fse.datasets import split_file, tar_archive, zip_archive
from fse.datasets.archive_member import Member, too_large_error
from fse.errors import ArchiveError, DataError, MachineError
from fse.runtime import disk
from fse.runtime.progress import progress_bar

SEVEN_ZIP_SIGNATURE = b"7z\xbc\xaf\x27\x1c"

_CHUNK = 1 << 20

# What the readers of the standard library raise for broken archives.
_READER_ERRORS = (
    EOFError,
    OverflowError,
    RecursionError,  # tarfile calls itself for every header that describes the next one
    ValueError,
    lzma.LZMAError,
    struct.error,
    tarfile.TarError,
    zipfile.BadZipFile,
    zlib.error,
)


@dataclass(frozen=True)
class Content:
    """A file of an archive that was read without writing it."""

    name: PurePosixPath  # path inside the archive
    size: int  # decompressed length in bytes
    data: bytes  # the first 64 MiB of a selected file; empty for other files


def unpack(
    archive: Path,
    folder: Path,
    select: Callable[[PurePosixPath], bool],
    max_bytes: int,
    max_files: int,
    rename: Callable[[PurePosixPath], PurePosixPath] = lambda name: name,
) -> None:
    """Write the selected files of a zip or tar (plain, gzip, bzip2, xz) archive below a folder.

    Args:
      archive: the archive, or the first volume of a split archive. The first bytes determine the format.
      folder: where to write. Existing files are not overwritten.
      select: whether to write the file with this path inside the archive.
      max_bytes: limit of the bytes written; for a tar archive also of all bytes decompressed.
      max_files: limit of the number of entries, selected or not.
      rename: returns the path below `folder` for a selected file. It must not contain `..`.

    Raises:
      ArchiveError: the archive is truncated or corrupt.
      DataError: the archive is 7z, encrypted or too large, has an entry that leaves the archive's folder, or an entry
        that is neither a file nor a folder.
      MachineError: the files cannot be written. A zip archive lists its files, so there the free space is checked before
        anything is written.
    """
    written = position = 0
    limit_error = too_large_error(archive, max_bytes)
    with _reader_errors(archive, folder), split_file.open_volumes(archive) as stream, _progress(archive) as progress:
        if _is_zip(stream):
            members = _members(archive, stream, max_bytes, max_files)
            needed = sum(member.size for member in members if select(member.name))
            if needed > max_bytes:
                raise limit_error
            disk.require_space(folder, needed, f"{archive}, unpacked,")
        for member in _members(archive, stream, max_bytes, max_files):
            if select(member.name):
                target = folder.joinpath(*rename(member.name).parts)
                written += _write_member(member, target, archive, max_bytes - written, limit_error)
            progress.update(stream.tell() - position)
            position = stream.tell()


def names(archive: Path, max_bytes: int, max_files: int) -> List[str]:
    """Return the paths of the files in an archive.

    Raises:
      ArchiveError, DataError, MachineError: see `unpack`.
    """
    with _reader_errors(archive, archive), split_file.open_volumes(archive) as stream:
        return [str(member.name) for member in _members(archive, stream, max_bytes, max_files)]


def folders(archive: Path, max_bytes: int, max_files: int) -> List[str]:
    """Return the sorted paths of the folders that contain files in an archive; `.` is the top folder.

    Raises:
      ArchiveError, DataError, MachineError: see `unpack`.
    """
    return sorted({str(PurePosixPath(name).parent) for name in names(archive, max_bytes, max_files)})


def contents(
    archive: Path, select: Callable[[PurePosixPath], bool], max_bytes: int, max_files: int
) -> Iterator[Content]:
    """Read every file of an archive, which verifies the whole archive, and write none.

    Args:
      archive: see `unpack`.
      select: whether to keep the bytes of the file with this path inside the archive.
      max_bytes: limit of all bytes decompressed.
      max_files: see `unpack`.

    Raises:
      ArchiveError, DataError, MachineError: see `unpack`.
    """
    total = 0
    with _reader_errors(archive, archive), split_file.open_volumes(archive) as stream:
        for member in _members(archive, stream, max_bytes, max_files):
            size, kept = 0, []
            with _open_member(member) as source:
                for chunk in iter(functools.partial(source.read, _CHUNK), b""):
                    size, total = size + len(chunk), total + len(chunk)
                    if total > max_bytes:
                        raise too_large_error(archive, max_bytes)
                    if size <= tar_archive.MAX_READ and select(member.name):
                        kept.append(chunk)
            yield Content(member.name, size, b"".join(kept))


def is_archive(path: Path) -> bool:
    """Return whether a file begins like a zip, tar or 7z archive."""
    with open(path, "rb") as stream:
        start = stream.read(tar_archive.BLOCK)
    signatures = (
        *zip_archive.SIGNATURES,
        SEVEN_ZIP_SIGNATURE,
        tar_archive.GZIP,
        tar_archive.BZIP2,
        tar_archive.XZ,
    )
    return start.startswith(signatures) or start.startswith(tar_archive.MAGIC, tar_archive.MAGIC_OFFSET)


def _progress(archive: Path) -> Any:
    return progress_bar(total=split_file.size(archive), unit="B", unit_scale=True, desc="unpacking")


def _start(stream: IO[bytes]) -> bytes:
    """Return the first bytes of a stream and rewind it."""
    stream.seek(0)
    start = stream.read(len(SEVEN_ZIP_SIGNATURE))
    stream.seek(0)
    return start


def _is_zip(stream: IO[bytes]) -> bool:
    return _start(stream).startswith(zip_archive.SIGNATURES)


def _members(archive: Path, stream: IO[bytes], max_bytes: int, max_files: int) -> Iterator[Member]:
    """Yield the files of an archive. Each member must be read before the next is requested."""
    if _start(stream) == SEVEN_ZIP_SIGNATURE:
        raise _seven_zip_error(archive)
    entries: Iterator[Optional[Member]]
    if _is_zip(stream):
        entries = zip_archive.members(archive, stream)
    else:
        entries = tar_archive.members(archive, stream, max_bytes, max_files)
    for number, member in enumerate(entries, 1):
        if number > max_files:
            raise DataError(
                f"{archive}: has more than {max_files} entries; if it is supposed to, raise dataset.max_files"
            )
        if member:
            yield member


def _seven_zip_error(archive: Path) -> DataError:
    return DataError(
        f"{archive}: 7z archives are not supported; unpack it with `7z x {shlex.quote(str(archive))}` and set "
        "dataset.archive to the folder, or put the folder of a known data set into download.data_path"
    )


def _open_member(member: Member) -> IO[bytes]:
    source = member.open()
    assert source is not None  # tarfile returns None for links and folders only, which are no members
    return source


def _write_member(member: Member, target: Path, archive: Path, max_bytes: int, limit_error: DataError) -> int:
    """Write a member to a new file and return its length; more than `max_bytes` raise `limit_error`."""
    target.parent.mkdir(parents=True, exist_ok=True)
    written = 0
    try:
        output = open(target, "xb")  # noqa: SIM115 (the next statement closes it)
    except FileExistsError:
        raise DataError(
            f"{archive}: holds {str(member.name)!r} twice; pack the archive again with one file of that name"
        ) from None
    with output, _open_member(member) as source:
        for chunk in iter(functools.partial(source.read, _CHUNK), b""):
            written += len(chunk)
            if written > max_bytes:
                raise limit_error
            output.write(chunk)
    return written


@contextlib.contextmanager
def _reader_errors(archive: Path, folder: Path) -> Iterator[None]:
    """Translate the exceptions of archive readers and of the file system into this package's errors."""
    try:
        yield
    except OSError as error:
        # Decompressors raise OSError without an errno, and a broken offset makes `seek` fail with EINVAL. All other
        # codes come from the operating system.
        if error.errno in (None, errno.EINVAL):
            raise _corrupt_error(archive, error) from None
        where = f" ({error.filename})" if error.filename else ""
        raise MachineError(f"{archive}: cannot be unpacked into {folder}: {error.strerror}{where}") from error
    except NotImplementedError as error:  # zipfile: a compression method that it does not know
        raise DataError(f"{archive}: {error}; unpack the archive and set dataset.archive to the folder") from None
    except _READER_ERRORS as error:
        raise _corrupt_error(archive, error) from None


def _corrupt_error(archive: Path, error: Exception) -> ArchiveError:
    reason = str(error) or type(error).__name__
    return ArchiveError(f"{archive}: the archive is truncated or corrupt ({reason}); get it again")
