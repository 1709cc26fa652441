"""The CPU."""

import contextlib
import ctypes
import sys
from typing import Any, ContextManager, List

from fse.config import Config
from fse.devices import collective
from fse.devices.base import Device
from fse.distributed.ranks import Rank
from fse.errors import DeviceError
from fse.tf1 import tf

# The field of TensorFlow's RewriterConfig for mixed precision on CPUs.
_BFLOAT16 = "auto_mixed_precision_onednn_bfloat16"

# Parameters of glibc's mallopt (malloc.h).
_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4


def find(config: Config, rank: Rank) -> "Cpu":
    """Return the CPU for one rank.

    Raises:
      DeviceError: mixed precision was chosen, which this version of TensorFlow does not support on CPUs.
    """
    if config.train.mixed_precision == "on" and not hasattr(_rewrite_options(tf.ConfigProto()), _BFLOAT16):
        raise DeviceError(
            f"train.mixed_precision is 'on', which TensorFlow {tf.__version__} does not support on CPUs; choose 'auto', or "
            "install a current TensorFlow"
        )
    return Cpu(config, rank)


def session_config(threads: int) -> Any:
    """Return a `tf.ConfigProto` that hides all GPUs.

    Args:
      threads: number of threads per operation; 0 is one per CPU.
    """
    return tf.ConfigProto(intra_op_parallelism_threads=threads, device_count={"GPU": 0})


def keep_memory() -> None:
    """Make glibc keep the memory of freed tensors for the next step (does nothing without glibc).

    By default glibc returns large blocks to the system and requests them again at every step, page by page and zeroed.
    Keeping them saves 3 % of a step of the `reference` network on TensorFlow 1.15 (`benchmarks/reference_speed.py`) and
    costs a quarter more memory.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt:  # musl has none
        mallopt(_M_MMAP_MAX, 0)
        mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)


def _rewrite_options(session_config: Any) -> Any:
    return session_config.graph_options.rewrite_options


class Cpu(Device):
    """The CPU, and the common part of the devices that TensorFlow supports itself.

    Ranks communicate through TensorFlow's collective operations.
    """

    def __init__(self, config: Config, rank: Rank):
        """Prepare the device of a rank; see `Device`."""
        super().__init__(config, rank)
        self._group = collective.Group(rank, config.train.connect_timeout)

    def session_config(self) -> Any:
        """Return the `tf.ConfigProto` of sessions, in mixed precision if that was chosen."""
        config = session_config(self.config.train.threads)
        if self.config.train.mixed_precision == "on":
            # TensorFlow lowers the operations that its lists call safe to bfloat16. As bfloat16 has the range of float32,
            # no loss scaling is needed. On CPUs without such instructions TensorFlow logs so and stays in float32.
            rewrite = _rewrite_options(config)
            setattr(rewrite, _BFLOAT16, type(rewrite).ON)
        return self._group.configure(config)

    def initialize(self) -> str:
        """Connect to the other ranks and return the target of sessions."""
        keep_memory()
        return self._group.initialize(self.session_config())

    def float32_scope(self) -> ContextManager[None]:
        """Return an empty context: TensorFlow's own lists keep critical operations in float32."""
        return contextlib.nullcontext()

    def wrap_optimizer(self, optimizer: Any) -> Any:
        """Return an optimizer that averages gradients over the ranks."""
        return collective.AveragingOptimizer(optimizer, self.average) if self.size > 1 else optimizer

    def average(self, tensors: List[Any]) -> List[Any]:
        """Return the means of float32 tensors over the ranks."""
        return self._group.average(tensors)

    def broadcast(self, tensors: List[Any]) -> List[Any]:
        """Return rank 0's values of float32 tensors."""
        return self._group.broadcast(tensors)

    def repeat(self, session: Any, operation: Any) -> Any:
        """Return the operation itself: a call is one step."""
        return operation

    def shutdown(self) -> None:
        """Disconnect from the other ranks once they have finished too."""
        self._group.shutdown()
