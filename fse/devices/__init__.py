"""Where training computes. A device is a module with

    session_config(threads) -> ConfigProto     how its sessions are set up; raises DeviceError if the device is not there

chosen by name in `train.device`. A device that was asked for and is missing is an error, never a silent run elsewhere.
"""

import importlib
from typing import Any


def session_config(device: str, threads: int) -> Any:
    """The session configuration of a device.

    Args:
      device: cpu, gpu or npu.
      threads: processor threads for computing; 0 is one per processor.

    Raises:
      DeviceError: the device is not available here.
    """
    return importlib.import_module("fse.devices." + device).session_config(threads)
