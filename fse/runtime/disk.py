"""The check for free disk space."""

import shutil
from pathlib import Path

from fse.errors import MachineError


def require_space(folder: Path, needed: int, what: str) -> None:
    """Refuse to write more bytes than the disk has room for.

    Args:
      folder: an existing folder on the disk.
      needed: bytes that will be written.
      what: what will be written; begins the message.

    Raises:
      MachineError: too few bytes are free.
    """
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise MachineError(
            f"{what}: needs {needed / 1e9:.3g} GB in {folder}, where {free / 1e9:.3g} GB are free; free some space, or use "
            "another --workspace (`luigi --module pipeline Clean` lists outputs that nothing references)"
        )
