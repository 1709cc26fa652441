"""The processor, and what other devices of TensorFlow's own have in common with it."""

import contextlib
import ctypes
import sys
from typing import Any, ContextManager, List

from fse.config import Config
from fse.devices import collective
from fse.distributed.ranks import Rank
from fse.errors import DeviceError
from fse.tf1 import tf

# The field of TensorFlow's RewriterConfig that lowers operations on processors.
_BFLOAT16 = "auto_mixed_precision_onednn_bfloat16"

# Parameters of glibc's mallopt (malloc.h).
_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4


def find(config: Config, rank: Rank) -> "Cpu":
    """The processor, for one rank.

    Raises:
      DeviceError: mixed precision is wanted, and this TensorFlow has none on processors.
    """
    if config.train.mixed_precision == "on" and not hasattr(_rewriting(tf.ConfigProto()), _BFLOAT16):
        raise DeviceError(
            f"train.mixed_precision is 'on', but TensorFlow {tf.__version__} offers none on processors; choose 'auto', or a current "
            "TensorFlow"
        )
    return Cpu(config, rank)


def session_config(threads: int) -> Any:
    """A configuration that sees no accelerator."""
    return tf.ConfigProto(intra_op_parallelizm_threads=threads, device_count={"GPU": 0})


def keep_memory() -> None:
    """Has glibc keep the memory that tensors leave for those of the next step (on Linux; elsewhere does nothing).

    Large ones would go back to the system and be had from it again, page by page and zeroed, at every step: three per cent
    of a step of `reference` on 1.15 (`benchmarks/reference_speed.py`), for a quarter more memory.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt:  # which musl lacks
        mallopt(_M_MMAP_MAX, 0)
        mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)


def _rewriting(config: Any) -> Any:
    return config.graph_options.rewrite_options


class Cpu:
    """The processor. Ranks use TensorFlow's own collective operations.

    loss_scale: the loss scale as a scalar tensor; None without mixed precision.
    """

    steps_per_call = 1

    def __init__(self, config: Config, rank: Rank):
        """`rank`: which one this process is."""
        self.config, self.rank, self.size = config, rank.number, rank.size
        self.loss_scale: Any = None
        self._group = collective.Group(rank, config.train.connect_timeout)

    def session_config(self) -> Any:
        """How sessions are set up."""
        config = session_config(self.config.train.threads)
        if self.config.train.mixed_precision == "on":
            # bfloat16 where TensorFlow's lists call it safe. It has float32's range: no loss scaling. Processors without
            # its instructions go on in float32, and TensorFlow says so.
            rewriting = _rewriting(config)
            setattr(rewriting, _BFLOAT16, type(rewriting).ON)
        return self._group.configure(config)

    def initialize(self) -> str:
        """Meets the other ranks; returns what sessions connect to."""
        keep_memory()
        return self._group.initialize(self.session_config())

    def float32_scope(self) -> ContextManager[None]:
        """A context whose operations keep float32: as all do here."""
        return contextlib.nullcontext()

    def wrap_optimizer(self, optimizer: Any) -> Any:
        """An optimizer whose gradients are the means over the ranks."""
        return collective.Averaged(optimizer, self.average) if self.size > 1 else optimizer

    def average(self, tensors: List[Any]) -> List[Any]:
        """Means over the ranks of float32 tensors."""
        return self._group.average(tensors)

    def broadcast(self, tensors: List[Any]) -> List[Any]:
        """Rank 0's values of float32 tensors."""
        return self._group.broadcast(tensors)

    def repeat(self, session: Any, operation: Any) -> Any:
        """The operation itself: one step a call."""
        return operation

    def shutdown(self) -> None:
        """Leaves the other ranks when they are done too."""
        self._group.shutdown()
