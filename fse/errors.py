"""Every error this package raises on purpose.

    FseError
      ConfigError       a configuration that cannot be meant: unknown key, wrong type, impossible value
      DataError         a data set, archive or annotation file that is missing or unusable
        ImageError    one image that cannot be used (align-crop counts it and goes on)
        ArchiveError    an archive that is truncated or corrupt
        RecordError     TFRecord shards that are missing, broken or of another shape
      DownloadError     the source cannot be reached or sent something else than was asked for
      CheckpointError   a checkpoint that is missing, broken or does not fit the network
      DeviceError       the chosen device is not there
        DeviceBusyError another process has it
        DeviceUnusedError training ended, but nothing was compiled for it
      ExportError       an exported model that cannot be read or differs from its checkpoint
      TrainingError     training that cannot go on (a loss that is not a number)
      StageError        a stage's process failed, or its output cannot be written
        MachineError    not the code failed it but the machine: a download, the device, the disk, a kill

A message names the thing, what was wanted, what was given and what to do. The programs print it without a traceback.
"""

import errno
import os
from typing import Optional

# The exit codes of `fse` where the machine is to blame, and where a training for an NPU was not compiled for it.
MACHINE = 3
NOT_USED = 4

# What a disk that is full, at a quota, broken or gone says; TensorFlow hands on nothing but these words.
_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS, errno.ESTALE)
# A path is not what it should be.
_PATH = (FileExistsError, FileNotFoundError, IsADirectoryError, NotADirectoryError, PermissionError)


class FseError(Exception):
    """Base of all errors of this package."""


class ConfigError(FseError):
    """A configuration value is unknown, of the wrong type, out of range or contradicts another."""


class DataError(FseError):
    """A data set, archive or annotation file is missing or unusable."""


class ImageError(DataError):
    """One image cannot be used."""


class ArchiveError(DataError):
    """An archive is truncated or corrupt."""


class RecordError(DataError):
    """TFRecord shards are missing, broken or hold images of another size."""


class DownloadError(FseError):
    """The source cannot be reached, or what came is not what was asked for."""


class CheckpointError(FseError):
    """A checkpoint is missing, broken or does not fit the network."""


class DeviceError(FseError):
    """The chosen device is not available."""


class DeviceBusyError(DeviceError):
    """Another process has the chosen device."""


class DeviceUnusedError(DeviceError):
    """Training ran, but nothing of it was compiled for the chosen device."""


class ExportError(FseError):
    """An exported model cannot be read, or differs from the checkpoint it was made from."""


class TrainingError(FseError):
    """Training cannot go on."""


class StageError(FseError):
    """A stage's process failed, or its output cannot be written. `code` is the process's exit code, 0 if there is none."""

    code = 0


class MachineError(StageError):
    """Not the code is at fault but the machine: a download, the device, a full disk, a kill, or it is not fit at all."""


def is_machines(error: BaseException) -> bool:
    """Whether the machine is to blame for an error: the network, the device, the disk or the memory, not the code.

    Nor is it for a path that is not what it should be, such as a workspace below a file.
    """
    kinds = (DownloadError, DeviceError, MachineError, OSError, MemoryError)
    seen: Optional[BaseException] = error
    while seen is not None:
        if isinstance(seen, kinds) and not isinstance(seen, _PATH):
            return True
        seen = seen.__cause__
    return any(os.strerror(number) in str(error) for number in _DISK)
