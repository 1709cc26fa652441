"""The processor, and what every device's session has in common."""

from typing import Any

from fse.tf1 import tf


def session_config(threads: int) -> Any:
    """A configuration that sees no accelerator."""
    return tf.ConfigProto(intra_op_parallelism_threads=threads, device_count={"GPU": 0})
