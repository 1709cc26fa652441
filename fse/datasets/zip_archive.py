"""The members of a zip archive."""

import functools
import stat
import zipfile
from pathlib import Path
from typing import IO, Iterator, Optional

from fse.datasets.archive_member import Member, checked_name, special_file_error
from fse.errors import DataError

# The first bytes of a zip archive: a file's header, or the end of the directory of an empty archive.
SIGNATURES = (b"PK\x03\x04", b"PK\x05\x06")

_ENCRYPTED = 0x1  # bit of `ZipInfo.flag_bits`


def members(archive: Path, stream: IO[bytes]) -> Iterator[Optional[Member]]:
    """Yield a `Member` for each file and None for each folder.

    Args:
      archive: path of the archive, for messages.
      stream: the archive, seekable.

    Raises:
      DataError: an entry is encrypted, a link or a device, or leaves the archive's folder.
      Exception: what zipfile raises for a broken archive.
    """
    with zipfile.ZipFile(stream) as package:
        for info in package.infolist():
            name = checked_name(archive, info.filename.replace("\\", "/"))
            # The upper half holds the Unix file mode; it is 0 where the archive was written on another system.
            file_type = stat.S_IFMT(info.external_attr >> 16)
            if file_type not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise special_file_error(archive, name)
            if info.flag_bits & _ENCRYPTED:
                raise DataError(
                    f"{archive}: entry {str(name)!r} is encrypted; unpack the archive and set dataset.archive to the folder"
                )
            yield None if info.is_dir() else Member(name, info.file_size, functools.partial(package.open, info))
