"""One file in an archive, and the checks and errors that all archive formats share."""

import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Callable, Optional

from fse.errors import DataError


@dataclass(frozen=True)
class Member:
    """A regular file in an archive."""

    name: PurePosixPath  # path inside the archive, as `checked_name` returned it
    size: int  # length in bytes as the archive declares it, which may be wrong
    open: Callable[[], Optional[IO[bytes]]]  # open the member for reading; tarfile returns None for links and folders


def checked_name(archive: Path, name: str) -> PurePosixPath:
    """Return the path of an archive entry.

    Raises:
      DataError: the path is absolute, contains `..`, or is not UTF-8.
    """
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or re.match(r"[A-Za-z]:", name) or "\0" in name:
        raise DataError(
            f"{archive}: entry {name!r} leaves the archive's folder, so the archive is not unpacked; use another archive"
        )
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        raise DataError(
            f"{archive}: the name of entry {name!r} is not UTF-8; rename the file and pack the archive again"
        ) from None
    return path


def special_file_error(archive: Path, name: PurePosixPath) -> DataError:
    """Return the error for an entry that is neither a regular file nor a folder."""
    return DataError(
        f"{archive}: entry {str(name)!r} is a link or a device, but only files and folders are unpacked; pack the "
        "archive without it"
    )


def too_large_error(archive: Path, max_bytes: int) -> DataError:
    """Return the error for an archive that unpacks to more than `max_bytes`."""
    return DataError(
        f"{archive}: unpacks to more than {max_bytes / 1e9:.3g} GB; if it is supposed to, raise dataset.max_gigabytes"
    )
