"""The interface of devices: what training asks of the hardware and of the other ranks."""

import abc
from typing import Any, ContextManager, List

from fse.config import Config
from fse.distributed.ranks import Rank


class Device(abc.ABC):
    """The device of one rank.

    A rank is one process that trains on its share of each batch. Each rank normalizes its share by the share's own
    statistics. The moving averages of batch normalization and the logged losses use the means over all ranks.
    """

    def __init__(self, config: Config, rank: Rank):
        """Prepare the device of a rank without starting anything.

        Args:
          config: the experiment.
          rank: the rank of this process.
        """
        self.config = config
        self.rank: int = rank.number
        self.size: int = rank.size  # number of ranks
        # Training steps in one run of an operation that `repeat` returns.
        self.steps_per_call = 1
        # The loss scale, a float32 scalar tensor, after `wrap_optimizer`; None without loss scaling.
        self.loss_scale: Any = None

    @abc.abstractmethod
    def session_config(self) -> Any:
        """Return the `tf.ConfigProto` of sessions on this device."""

    @abc.abstractmethod
    def initialize(self) -> str:
        """Connect to the other ranks and return the target of sessions, '' for sessions within this process.

        Must be called before the first session and before `average` and `broadcast`.

        Raises:
          DeviceError: the connection cannot be set up.
        """

    @abc.abstractmethod
    def float32_scope(self) -> ContextManager[None]:
        """Return a context whose operations stay in float32 under mixed precision."""

    @abc.abstractmethod
    def wrap_optimizer(self, optimizer: Any) -> Any:
        """Return an optimizer that averages gradients over the ranks and applies loss scaling.

        Args:
          optimizer: a `tf.train.Optimizer`.
        """

    @abc.abstractmethod
    def average(self, tensors: List[Any]) -> List[Any]:
        """Return the means of tensors over the ranks, as operations in the graph.

        All ranks must build the same calls in the same order.

        Args:
          tensors: float32 tensors of static shape.
        """

    @abc.abstractmethod
    def broadcast(self, tensors: List[Any]) -> List[Any]:
        """Return rank 0's values of tensors, as operations in the graph.

        All ranks must build the same calls in the same order.

        Args:
          tensors: float32 tensors of static shape.
        """

    @abc.abstractmethod
    def repeat(self, session: Any, operation: Any) -> Any:
        """Return an operation that runs `operation` `steps_per_call` times.

        Args:
          session: the session that will run it.
          operation: one training step.
        """

    @abc.abstractmethod
    def shutdown(self) -> None:
        """Disconnect from the other ranks once they have finished too."""
