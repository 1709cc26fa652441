"""Collective operations of TensorFlow between ranks: one server per process, one ring over all processes.

They work alike on TensorFlow 1.15 and current releases. Tensors are packed into one vector, so that a single operation
transfers all of them.
"""

import atexit
import contextlib
import threading
import time
from typing import Any, Callable, List

import numpy as np

from fse.distributed.ranks import Rank, time_limit
from fse.errors import DeviceError
from fse.tf1 import error_message, tf

# TensorFlow's names for the ranks: a job of the cluster, and a group of collective operations.
_JOB = "worker"
_GROUP_KEY = 1

# How long a rank that has finished keeps its server for ranks that are about to finish.
_LINGER_SECONDS = 0.5


class Group:
    """All ranks of a training. With a single rank, all methods do nothing."""

    def __init__(self, rank: Rank, timeout: float):
        """Prepare the group; `initialize` connects it.

        Args:
          rank: the rank of this process.
          timeout: seconds to wait for the other ranks at the start and at the end.
        """
        self.rank, self.timeout = rank, timeout
        self._server: Any = None
        # Number of collective operations so far. The key of an operation must be the same on all ranks, so all ranks must
        # build the same operations in the same order.
        self._keys = 0

    def configure(self, config: Any) -> Any:
        """Add to a `tf.ConfigProto` what connects the collective operations of a session to those of the other ranks."""
        if self.rank.size > 1:
            config.experimental.collective_group_leader = f"/job:{_JOB}/replica:0/task:0"
            # A session's graph uses this process's devices only: no operation is placed on another rank or waits for one.
            config.device_filters.append(f"/job:{_JOB}/task:{self.rank.number}")
        return config

    def initialize(self, config: Any) -> str:
        """Start this rank's server, wait for all other ranks and return the target of sessions ('' for a single rank).

        Args:
          config: the `tf.ConfigProto` of the server.

        Raises:
          DeviceError: the server cannot start.
        """
        if self.rank.size == 1:
            return ""
        cluster = tf.train.ClusterSpec({_JOB: list(self.rank.addresses)})
        try:
            self._server = tf.distribute.Server(cluster, _JOB, self.rank.number, config=config)
        except tf.errors.OpError as error:
            raise DeviceError(
                f"rank {self.rank.number} cannot listen at {self.rank.addresses[self.rank.number]}: {error_message(error)}"
            ) from None
        # TensorFlow 1.15 fails to delete a server after the interpreter has unloaded its modules.
        atexit.register(setattr, self, "_server", None)
        with time_limit(self.timeout, f"the other {self.rank.size - 1} ranks to begin"):
            self._wait_for_all()
        return str(self._server.target)

    def average(self, tensors: List[Any]) -> List[Any]:
        """Return the means of tensors over the ranks.

        Args:
          tensors: float32 tensors of static shape.
        """
        if self.rank.size == 1:
            return tensors
        key = self._next_key()
        return _apply_packed(tensors, lambda vector: self._reduce(vector, key, "Div"))

    def broadcast(self, tensors: List[Any]) -> List[Any]:
        """Return rank 0's values of tensors.

        Args:
          tensors: float32 tensors of static shape.
        """
        if self.rank.size == 1:
            return tensors
        key = self._next_key()

        def send_or_receive(vector: Any) -> Any:
            options = {
                "group_size": self.rank.size,
                "group_key": _GROUP_KEY,
                "instance_key": key,
                "shape": vector.shape,
            }
            if self.rank.number == 0:
                return tf.raw_ops.CollectiveBcastSend(input=vector, **options)
            # This rank's own values are not used, but they must be read before the received values are assigned.
            with tf.control_dependencies([vector]):
                return tf.raw_ops.CollectiveBcastRecv(T=tf.float32, **options)

        return _apply_packed(tensors, send_or_receive)

    def shutdown(self) -> None:
        """Keep this rank's server until the other ranks no longer need it."""
        if self._server is None:
            return
        # The last operation of another rank may still read from this one; after all ranks have met again, none does. A rank
        # that leaves the meeting first may exit before the last one has noticed. That error is no failure of training.
        meeting = threading.Thread(target=self._wait_for_all_or_fail, daemon=True)
        meeting.start()
        meeting.join(self.timeout)
        time.sleep(_LINGER_SECONDS)

    def _next_key(self) -> int:
        self._keys += 1
        return self._keys

    def _reduce(self, vector: Any, key: int, final_op: str) -> Any:
        """Return the sum of a vector over the ranks, divided by their number if `final_op` is `Div` and not `Id`."""
        return tf.raw_ops.CollectiveReduce(
            input=vector,
            group_size=self.rank.size,
            group_key=_GROUP_KEY,
            instance_key=key,
            merge_op="Add",
            final_op=final_op,
            subdiv_offsets=[0],
        )

    def _wait_for_all(self) -> None:
        """Wait until all ranks call this, by a reduction in a graph of its own."""
        with tf.Graph().as_default(), tf.device("/cpu:0"):
            meeting = self._reduce(tf.constant(np.ones([1], np.float32)), self._next_key(), "Id")
            with tf.Session(self._server.target, config=self.configure(tf.ConfigProto())) as session:
                session.run(meeting)

    def _wait_for_all_or_fail(self) -> None:
        with contextlib.suppress(tf.errors.OpError):
            self._wait_for_all()


class AveragingOptimizer(tf.train.Optimizer):  # type: ignore[misc]
    """An optimizer that averages the gradients of another optimizer over the ranks."""

    def __init__(self, optimizer: Any, average: Callable[[List[Any]], List[Any]]):
        """Wrap an optimizer.

        Args:
          optimizer: a `tf.train.Optimizer`.
          average: returns the means of a list of tensors over the ranks.
        """
        super().__init__(use_locking=False, name="Averaged")
        self._optimizer, self._average = optimizer, average

    def compute_gradients(self, *arguments: Any, **options: Any) -> List[Any]:
        """Return pairs of a mean gradient and its variable."""
        gradients, variables = zip(*self._optimizer.compute_gradients(*arguments, **options))
        return list(zip(self._average(list(gradients)), variables))

    def apply_gradients(self, *arguments: Any, **options: Any) -> Any:
        """Apply gradients by the wrapped optimizer."""
        return self._optimizer.apply_gradients(*arguments, **options)


def _apply_packed(tensors: List[Any], operation: Callable[[Any], Any]) -> List[Any]:
    """Return tensors after an operation on one vector that holds all of them.

    Args:
      tensors: float32 tensors of static shape.
      operation: maps a vector to a vector of the same length.
    """
    # On the CPU, as the ring between the ranks goes through the host's memory in any case.
    with tf.device("/cpu:0"):
        shapes = [tensor.shape.as_list() for tensor in tensors]
        sizes = [int(np.prod(shape)) for shape in shapes]
        vector = operation(tf.concat([tf.reshape(tensor, [-1]) for tensor in tensors], 0))
        vector.set_shape([sum(sizes)])
        return [tf.reshape(part, shape) for part, shape in zip(tf.split(vector, sizes), shapes)]
