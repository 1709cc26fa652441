"""A simulated NPU host that passes all checks of `fse doctor`."""

from pathlib import Path
from typing import Any, Dict, List

import pytest

from fse import config
from fse.ascend import rank_table
from fse.doctor import ascend, machine, network, software
from fse.doctor.check import Check
from tests import ascend_host

NPU = config.load(None, "train.device=npu")

# The environment variables that select cards, hosts and CANN.
VARIABLES = (
    "ASCEND_TOOLKIT_HOME ASCEND_HOME_PATH ASCEND_OPP_PATH ASCEND_DEVICE_ID DEVICE_ID RANK_TABLE_FILE RANK_SIZE RANK_ID "
    "CM_CHIEF_IP HCCL_IF_BASE_PORT FSE_LOCKS FSE_HOST"
).split()


def simulate(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Simulate an NPU host that passes all checks, with its programs and files in a folder.

    The checks of Python and TensorFlow, which depend on what the tests run on, are replaced.
    """
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    monkeypatch.setattr(ascend, "ASCEND", folder / "Ascend")
    monkeypatch.setattr(rank_table, "ADDRESSES", folder / "hccn.conf")
    monkeypatch.setattr(software, "check_python", lambda device: Check("python", "ok", "3.7.5"))
    monkeypatch.setattr(software, "check_tensorflow", lambda device, version: Check("tensorflow", "ok", "1.15.0"))
    monkeypatch.setattr(network, "_is_reserved", lambda first, last: True)
    ascend_host.npu_smi(folder, ascend_host.OLD)
    ascend_host.cann(folder, monkeypatch)
    ascend_host.npu_bridge(folder / "site", monkeypatch)


def npus(**train: Any) -> config.Config:
    """Return a configuration for NPUs."""
    return config.from_tables({"train": dict(train, device="npu")})


def checks_of(settings: config.Config, workspace: Path) -> Dict[str, Check]:
    """Return the checks of this machine by name."""
    return {check.name: check for check in machine.examine(settings, workspace).checks}


def failures(settings: config.Config, workspace: Path) -> List[str]:
    """Return the names of the failed checks of this machine."""
    return [name for name, check in checks_of(settings, workspace).items() if check.status == "failed"]
