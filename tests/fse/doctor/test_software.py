import sys
from pathlib import Path
from typing import Tuple

import pytest

from fse import config
from fse.doctor import check, software
from fse.doctor.check import Check
from tests.fse.doctor.npu_host import checks_of


@pytest.mark.parametrize(
    ("version", "status"), [((3, 7, 5), "ok"), ((3, 7, 16), "warning"), ((3, 7, 4), "warning"), ((3, 9, 0), "failed")]
)
def test_cann_limits_the_version_of_python(
    version: Tuple[int, ...], status: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "version_info", version)
    assert software.check_python("npu").status == status
    assert software.check_python("cpu").status == "ok"


def test_a_tensorflow_that_is_missing_too_new_or_broken_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    assert software.check_tensorflow("cpu", "").status == "failed"
    assert software.check_tensorflow("npu", "2.6.5").fix == "CANN's TF Adapter needs TensorFlow 1.15"
    monkeypatch.setattr(software, "_TRY_TENSORFLOW", "import os; os.kill(os.getpid(), 4)")  # an illegal instruction
    crashed = software.check_tensorflow("cpu", "2.21.0")
    assert (crashed.status, crashed.found) == ("failed", "it ended with exit code -4")


def test_code_that_hangs_or_fails_is_a_failed_check(monkeypatch: pytest.MonkeyPatch) -> None:
    assert check.check_code("x", "import no_such_module", "", "").found.endswith("No module named 'no_such_module'")
    monkeypatch.setattr(check, "IMPORT_SECONDS", 0.2)
    assert check.check_code("x", "import time; time.sleep(60)", "", "").found == "it did not answer within 0 seconds"


def test_a_missing_gpu_fails(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(software, "check_tensorflow", lambda device, version: Check("tensorflow", "ok", version))
    check = checks_of(config.load(None, "train.device=gpu"), tmp_path)["gpu"]
    assert check.status == "failed"
    assert "finds none" in check.found
