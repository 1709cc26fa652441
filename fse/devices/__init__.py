"""The devices that training runs on: `fse.devices.cpu`, `gpu` and `npu`, chosen by `train.device`.

Each module has a function `find(config, rank)` that returns its implementation of `fse.devices.base.Device`. A device that
was chosen but is not available is an error; training never falls back to another device.
"""

import importlib

from fse.config import Config
from fse.devices.base import Device
from fse.distributed.ranks import Rank

SINGLE_RANK = Rank(0, 1)


def find(config: Config, rank: Rank = SINGLE_RANK) -> Device:
    """Return the device that `train.device` names, for one rank.

    The device's module is imported only here, because importing npu_bridge changes TensorFlow.

    Raises:
      DeviceError: the device is not available on this machine.
    """
    device: Device = importlib.import_module("fse.devices." + config.train.device).find(config, rank)
    return device
