"""TensorFlow's own collective operations between ranks: one server a process, one ring over all.

The same on 1.15 and on current releases. Tensors are packed into one vector, so that one operation carries all of them.
"""

import atexit
import contextlib
import threading
import time
from typing import Any, Callable, List

import numpy as np

from fse.distributed.ranks import Rank, bounded
from fse.errors import DeviceError
from fse.tf1 import reason, tf

_JOB = "worker"
_GROUP = 1

# How long a rank that is done goes on answering those that are about to be.
_LINGER_SECONDS = 0.5


class Group:
    """All ranks of a training; alone it does nothing."""

    def __init__(self, rank: Rank, timeout: float):
        """`timeout`: seconds to wait for the others at the beginning and at the end."""
        self.rank, self.timeout = rank, timeout
        self._server: Any = None
        self._keys = 0

    def configure(self, config: Any) -> Any:
        """Adds to a session's configuration what makes its collective operations meet those of the others."""
        if self.rank.size > 1:
            config.experimental.collective_group_leader = f"/job:{_JOB}/replica:0/task:0"
            # Its graphs are for this process's devices: nothing of them is placed with, or waits for, another rank.
            config.device_filters.append(f"/job:{_JOB}/task:{self.rank.number}")
        return config

    def initialize(self, config: Any) -> str:
        """Starts this rank's server and returns its address for sessions ('' alone); waits until all others are there.

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
                f"rank {self.rank.number} cannot listen at {self.rank.addresses[self.rank.number]}: {reason(error)}"
            ) from None
        # TensorFlow 1.15 fails to let go of a server when the interpreter has put its modules away.
        atexit.register(setattr, self, "_server", None)
        with bounded(self.timeout, f"the other {self.rank.size - 1} ranks to begin"):
            self._meet()
        return str(self._server.target)

    def average(self, tensors: List[Any]) -> List[Any]:
        """Means over the ranks of float32 tensors of static shape."""
        if self.rank.size == 1:
            return tensors
        self._keys += 1
        key = self._keys

        def reduce(vector: Any) -> Any:
            return tf.raw_ops.CollectiveReduce(
                input=vector,
                group_size=self.rank.size,
                group_key=_GROUP,
                instance_key=key,
                merge_op="Add",
                final_op="Div",
                subdiv_offsets=[0],
            )

        return _packed(tensors, reduce)

    def broadcast(self, tensors: List[Any]) -> List[Any]:
        """Rank 0's values of float32 tensors of static shape."""
        if self.rank.size == 1:
            return tensors
        self._keys += 1
        key = self._keys

        def send(vector: Any) -> Any:
            shared = {"group_size": self.rank.size, "group_key": _GROUP, "instance_key": key, "shape": vector.shape}
            if self.rank.number == 0:
                return tf.raw_ops.CollectiveBcastSend(input=vector, **shared)
            # What the others have is not looked at, but must not be changed while it is overwritten.
            with tf.control_dependencies([vector]):
                return tf.raw_ops.CollectiveBcastRecv(T=tf.float32, **shared)

        return _packed(tensors, send)

    def shutdown(self) -> None:
        """Goes on answering until the others have had what they need of this rank."""
        if self._server is None:
            return
        # The last operation of another rank may still read from this one; when all have met again, none does. Those
        # that met first may end before the last one has noticed, which is no failure.
        meeting = threading.Thread(target=self._meet_or_not, daemon=True)
        meeting.start()
        meeting.join(self.timeout)
        time.sleep(_LINGER_SECONDS)

    def _meet(self) -> None:
        with tf.Graph().as_default(), tf.device("/cpu:0"):
            self._keys += 1
            met = tf.raw_ops.CollectiveReduce(
                input=tf.constant(np.ones([1], np.float32)),
                group_size=self.rank.size,
                group_key=_GROUP,
                instance_key=self._keys,
                merge_op="Add",
                final_op="Id",
                subdiv_offsets=[0],
            )
            with tf.Session(self._server.target, config=self.configure(tf.ConfigProto())) as session:
                session.run(met)

    def _meet_or_not(self) -> None:
        with contextlib.suppress(tf.errors.OpError):
            self._meet()


class Averaged(tf.train.Optimizer):
    """An optimizer whose gradients are the means over the ranks."""

    def __init__(self, optimizer: Any, average: Callable[[List[Any]], List[Any]]):
        """`average`: of a list of tensors."""
        super().__init__(use_locking=False, name="Averaged")
        self._optimizer, self._average = optimizer, average

    def compute_gradients(self, *arguments: Any, **options: Any) -> List[Any]:
        """Pairs of a mean gradient and its variable."""
        gradients, variables = zip(*self._optimizer.compute_gradients(*arguments, **options))
        return list(zip(self._average(list(gradients)), variables))

    def apply_gradients(self, *arguments: Any, **options: Any) -> Any:
        """As the optimizer's own."""
        return self._optimizer.apply_gradients(*arguments, **options)


def _packed(tensors: List[Any], operation: Callable[[Any], Any]) -> List[Any]:
    """Applies to all tensors at once what is made for a vector."""
    # In the host's memory: a ring goes through it anyway.
    with tf.device("/cpu:0"):
        shapes = [tensor.shape.as_list() for tensor in tensors]
        sizes = [int(np.prod(shape)) for shape in shapes]
        vector = operation(tf.concat([tf.reshape(tensor, [-1]) for tensor in tensors], 0))
        vector.set_shape([sum(sizes)])
        return [tf.reshape(part, shape) for part, shape in zip(tf.split(vector, sizes), shapes)]
