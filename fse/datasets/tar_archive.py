"""The members of a tar archive: plain, or compressed with gzip, bzip2 or xz."""

import bz2
import functools
import gzip
import lzma
import tarfile
from pathlib import Path
from typing import IO, Iterator, Optional, cast

from fse.datasets.archive_member import Member, checked_name, special_file_error, too_large_error
from fse.errors import ArchiveError, DataError

GZIP, BZIP2, XZ = b"\x1f\x8b", b"BZh", b"\xfd7zXZ\x00"
BLOCK = 512  # bytes; a tar archive consists of blocks of this length
MAGIC, MAGIC_OFFSET = b"ustar", 257  # in the first block of an uncompressed archive

# The most bytes that tarfile may read at once. An extended header that claims more is an attack on the memory.
MAX_READ = 1 << 26

_CHUNK = 1 << 20


def members(archive: Path, stream: IO[bytes], max_bytes: int, max_files: int) -> Iterator[Optional[Member]]:
    """Yield a `Member` for each file and None for each folder. Each member must be read before the next is requested.

    Args:
      archive: path of the archive, for messages.
      stream: the archive, at its beginning.
      max_bytes: limit of the decompressed length.
      max_files: number of entries for whose headers room is added to that limit.

    Raises:
      ArchiveError: the file is not a tar archive.
      DataError: an entry is a link or a device, or leaves the archive's folder, or the archive is too long.
      Exception: what tarfile and the decompressors raise for a broken archive.
    """
    # Each entry may add a header, a long name and padding to the bytes of its file.
    limit = max_bytes + 4 * BLOCK * max_files + _CHUNK
    tar_stream = _ForwardReader(_decompress(stream), limit, too_large_error(archive, max_bytes))
    with _open_tar(archive, tar_stream) as package:
        while True:
            info = package.next()
            if info is None:
                break
            package.members = []  # type: ignore[attr-defined]  # tarfile would keep every entry in memory
            name = checked_name(archive, info.name)
            if not (info.isfile() or info.isdir()):
                raise special_file_error(archive, name)
            opener = functools.partial(package.extractfile, info)
            yield Member(name, info.size, opener) if info.isfile() else None
    # tarfile accepts any end of file as the end of the archive. A complete archive ends with a block of zeros, after
    # which the compressor's checksum follows; reading on makes the decompressor verify it.
    if tar_stream.last_read != bytes(BLOCK):
        raise EOFError("its end is missing")
    while tar_stream.read(_CHUNK):
        pass


def _open_tar(archive: Path, stream: "_ForwardReader") -> tarfile.TarFile:
    try:
        return tarfile.TarFile(fileobj=cast(IO[bytes], stream))
    except tarfile.ReadError:
        raise ArchiveError(
            f"{archive}: not a zip or tar archive, or truncated or corrupt; get the file again"
        ) from None


def _decompress(stream: IO[bytes]) -> IO[bytes]:
    """Return the decompressed stream; the first bytes show which compression it has."""
    start = stream.read(6)
    stream.seek(0)
    if start.startswith(GZIP):
        return cast(IO[bytes], gzip.GzipFile(fileobj=stream))
    if start.startswith(BZIP2):
        return cast(IO[bytes], bz2.BZ2File(stream))
    if start == XZ:
        return cast(IO[bytes], lzma.LZMAFile(stream))
    return stream


class _ForwardReader:
    """A stream for tarfile that only moves forward, refuses huge reads, and ends with an error at a limit."""

    def __init__(self, stream: IO[bytes], limit: int, limit_error: DataError) -> None:
        self._stream, self._limit, self._limit_error = stream, limit, limit_error
        self._position = 0
        self.last_read = b""  # the bytes that the last call of `read` returned

    def read(self, size: int) -> bytes:
        """Return the next `size` bytes, fewer at the end."""
        if not 0 <= size <= MAX_READ:
            raise ValueError(f"a header of {size} bytes")
        self.last_read = self._stream.read(size)
        self._position += len(self.last_read)
        if self._position > self._limit:
            raise self._limit_error
        return self.last_read

    def seek(self, position: int) -> None:
        """Read up to a later position."""
        while self._position < position and self.read(min(_CHUNK, position - self._position)):
            pass
        if self._position != position:
            raise EOFError("unexpected end")

    def tell(self) -> int:
        """Return the position in the decompressed stream."""
        return self._position
