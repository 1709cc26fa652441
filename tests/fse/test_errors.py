"""Which errors count as failures of the machine."""

import errno
import os

import pytest

from fse.errors import ConfigError, DeviceBusyError, DownloadError, StageError, TrainingError, is_machine_error


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS, errno.ESTALE])
def test_a_disk_error_that_is_only_in_the_message_is_the_machines(number: int) -> None:
    assert is_machine_error(TrainingError(f"training stopped: checkpoints/model-2; {os.strerror(number)}"))


def test_the_cause_of_an_error_counts() -> None:
    error = StageError("x: cannot be written")
    assert not is_machine_error(error)
    error.__cause__ = DownloadError("no answer")
    assert is_machine_error(error)
    assert is_machine_error(DeviceBusyError("in use"))
    assert is_machine_error(OSError())
    assert is_machine_error(MemoryError())
    assert not is_machine_error(NotADirectoryError())
    assert not is_machine_error(PermissionError())
    assert not is_machine_error(ConfigError("train.steps"))
    assert not is_machine_error(TrainingError("the loss is not a number"))
