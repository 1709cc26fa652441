"""The interface that all devices implement."""

import inspect
from typing import Any, Type

import pytest

from fse import config, devices
from fse.devices.base import Device
from fse.devices.cpu import Cpu
from fse.devices.gpu import Gpu
from fse.devices.npu import NpuDevice

# The methods of the interface.
METHODS = sorted(Device.__abstractmethods__)


def test_the_interface_cannot_be_instantiated() -> None:
    device: Any = Device
    with pytest.raises(TypeError, match="abstract"):
        device(config.Config(), devices.SINGLE_RANK)


@pytest.mark.parametrize("implementation", [Cpu, Gpu, NpuDevice])
def test_every_device_implements_the_interface(implementation: Type[Device]) -> None:
    device = implementation(config.Config(), devices.SINGLE_RANK)
    assert (device.rank, device.size, device.steps_per_call, device.loss_scale) == (0, 1, 1, None)
    for name in METHODS:
        wanted = inspect.signature(getattr(Device, name))
        assert inspect.signature(getattr(implementation, name)) == wanted, name


@pytest.mark.parametrize("implementation", [Cpu, NpuDevice])
def test_a_single_rank_needs_no_communication(implementation: Type[Device]) -> None:
    device = implementation(config.Config(), devices.SINGLE_RANK)
    tensors = [object()]
    assert device.initialize() == ""
    assert device.average(tensors) == tensors
    assert device.broadcast(tensors) == tensors
    device.shutdown()


def test_find_returns_the_configured_device() -> None:
    assert type(devices.find(config.Config())) is Cpu
