"""The errors that this package raises on purpose, and the exit codes of `fse`.

    FseError
      ConfigError         an invalid configuration: an unknown key, a wrong type, a value out of range, a contradiction
      DataError           a data set, archive or annotation file that is missing or unusable
        ImageError        an image that cannot be used (align-crop skips and counts it)
        ArchiveError      an archive that is truncated or corrupt
        RecordError       TFRecord files that are missing, broken or hold images of another size
      DownloadError       a source that cannot be reached, or a response with the wrong content
      CheckpointError     a checkpoint that is missing, broken or does not fit the network
      DeviceError         a device that is not available
        DeviceBusyError   a device that another process uses
        DeviceUnusedError a training that finished without using its device
      ExportError         an exported model that cannot be read or differs from its checkpoint
      TrainingError       a training that cannot continue (a loss that is not a number)
      StageError          a stage whose process failed, or whose output cannot be written
        MachineError      a failure of the machine, not of the code: a download, the device, the disk, a kill

A message names the thing, what is wrong with it, and what to do. The programs print it without a traceback.
"""

import errno
import os
from typing import Optional

# Exit codes of `fse`: the machine failed, or a training for an NPU did not use it.
EXIT_MACHINE = 3
EXIT_DEVICE_UNUSED = 4

# Errors of a disk that is full, over quota, broken or gone. TensorFlow reports them as text only.
_DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS, errno.ESTALE)
# Errors caused by a wrong path, not by the machine.
_PATH_ERRORS = (FileExistsError, FileNotFoundError, IsADirectoryError, NotADirectoryError, PermissionError)


class FseError(Exception):
    """The base of all errors of this package."""


class ConfigError(FseError):
    """A configuration value that is unknown, of the wrong type, out of range or inconsistent with another value."""


class DataError(FseError):
    """A data set, archive or annotation file that is missing or unusable."""


class ImageError(DataError):
    """An image that cannot be used."""


class ArchiveError(DataError):
    """An archive that is truncated or corrupt."""


class RecordError(DataError):
    """TFRecord files that are missing, broken or hold images of another size."""


class DownloadError(FseError):
    """A source that cannot be reached, or a response with the wrong content."""


class CheckpointError(FseError):
    """A checkpoint that is missing, broken or does not fit the network."""


class DeviceError(FseError):
    """A device that is not available."""


class DeviceBusyError(DeviceError):
    """A device that another process uses."""


class DeviceUnusedError(DeviceError):
    """A training that finished although nothing was compiled for its device."""


class ExportError(FseError):
    """An exported model that cannot be read, or differs from the checkpoint it was made from."""


class TrainingError(FseError):
    """A training that cannot continue."""


class StageError(FseError):
    """A stage whose process failed, or whose output cannot be written."""

    code = 0  # the exit code of the process; 0 if there is none


class MachineError(StageError):
    """A failure of the machine, not of the code: a download, the device, a full disk, a kill, or an unfit machine."""


def is_machine_error(error: BaseException) -> bool:
    """Return whether the machine caused an error: the network, the device, the disk or the memory.

    A wrong path, such as a workspace below a file, is not the machine's error.
    """
    machine_errors = (DownloadError, DeviceError, MachineError, OSError, MemoryError)
    cause: Optional[BaseException] = error
    while cause is not None:
        if isinstance(cause, machine_errors) and not isinstance(cause, _PATH_ERRORS):
            return True
        cause = cause.__cause__
    return any(os.strerror(number) in str(error) for number in _DISK_ERRORS)
