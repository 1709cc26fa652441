"""Archives that are split into volumes: `NAME.001`, `NAME.002`, …, which are plain pieces of one file.

A split archive is named by its first volume. The other volumes lie in the same folder.
"""

import io
import os
from pathlib import Path
from typing import IO, Any, List, Tuple, cast

_BUFFER_BYTES = 1 << 20


def volumes(archive: Path) -> List[Path]:
    """Return the files of an archive: the file itself, and after `NAME.001` the volumes that follow without a gap."""
    paths = [archive]
    while archive.suffix == ".001":
        following = archive.with_suffix(f".{len(paths) + 1:03d}")
        if not following.is_file():
            break
        paths.append(following)
    return paths


def size(archive: Path) -> int:
    """Return the length of an archive in bytes, all volumes together."""
    return sum(volume.stat().st_size for volume in volumes(archive))


def open_volumes(archive: Path) -> IO[bytes]:
    """Open an archive for reading; the volumes of a split archive are read as one file."""
    paths = volumes(archive)
    if len(paths) == 1:
        return open(archive, "rb")
    return cast(IO[bytes], io.BufferedReader(_Concatenation(paths), _BUFFER_BYTES))


class _Concatenation(io.RawIOBase):
    """Several files, read one after the other as a single seekable file."""

    def __init__(self, paths: List[Path]) -> None:
        self._files: List[Tuple[int, io.FileIO]] = []  # the offset at which each file begins, and the file
        self._length = self._position = 0
        for path in paths:
            self._files.append((self._length, io.FileIO(os.fspath(path))))
            self._length += path.stat().st_size

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        origin = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._length}[whence]
        self._position = max(0, origin + offset)
        return self._position

    def tell(self) -> int:
        return self._position

    def readinto(self, buffer: Any) -> int:
        # The volume that holds the current position is the last one that begins at or before it.
        index = [number for number, (begin, _) in enumerate(self._files) if begin <= self._position][-1]
        begin, file = self._files[index]
        end = self._files[index + 1][0] if index + 1 < len(self._files) else self._length
        file.seek(self._position - begin)
        data = file.read(max(0, min(len(buffer), end - self._position)))
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)

    def close(self) -> None:
        for _, file in self._files:
            file.close()
        super().close()
