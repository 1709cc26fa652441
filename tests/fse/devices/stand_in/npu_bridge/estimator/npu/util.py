"""Several steps per call."""

from typing import Any

from fse.tf1 import tf


def set_iteration_per_loop(sess: Any, train_op: Any, iterations_per_loop: Any = 1) -> Any:
    if not isinstance(train_op, tf.Operation):
        raise ValueError("train_op must be a tf.Operation")
    if sess.graph.finalized:
        raise RuntimeError("stand-in: the graph is finalized")
    return train_op if iterations_per_loop == 1 else tf.group(train_op, name="IterationOp")
