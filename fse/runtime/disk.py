"""Room on the disk, asked for before much is written."""

import shutil
from pathlib import Path

from fse.errors import MachineError


def require(folder: Path, needed: int, what: str) -> None:
    """Refuses to begin what will not fit.

    Args:
      folder: an existing one, on the disk in question.
      needed: bytes that will be written there.
      what: is to be written; begins the message.

    Raises:
      MachineError: fewer are free.
    """
    free = shutil.disk_usage(str(folder)).free
    if needed > free:
        raise MachineError(
            f"{what}: needs {needed / 1e9:.3g} GB in {folder}, where {free / 1e9:.3g} GB are free; free some, or use another --workspace (`luigi --module "
            "pipeline Clean` lists what nothing leads to)"
        )
