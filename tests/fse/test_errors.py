"""Which errors the machine is blamed for."""

import errno
import os

import pytest

from fse.errors import ConfigError, DeviceBusyError, DownloadError, StageError, TrainingError, is_machines


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS, errno.ESTALE])
def test_a_disk_that_takes_nothing_is_the_machines_though_only_words_tell(number: int) -> None:
    assert is_machines(TrainingError(f"training stopped: checkpoints/model-2; {os.strerror(number)}"))


def test_the_cause_of_an_error_counts() -> None:
    error = StageError("x: cannot be written")
    assert not is_machines(error)
    error.__cause__ = DownloadError("no answer")
    assert is_machines(error)
    assert is_machines(DeviceBusyError("in use")) and is_machines(OSError()) and is_machines(MemoryError())
    assert not is_machines(NotADirectoryError()) and not is_machines(PermissionError())
    assert not is_machines(ConfigError("train.steps")) and not is_machines(TrainingError("the loss is not a number"))
