"""The operations that start and end HCCL, documented to run in one session that stays open between them."""

from typing import Any

from fse.tf1 import tf
from npu_bridge import ranks


def initialize_system(name: Any = None) -> Any:
    return tf.group(*ranks.group.average([tf.constant([1.0])]), name=name)


def shutdown_system(name: Any = None) -> Any:
    return tf.group(*ranks.group.average([tf.constant([1.0])]), name=name)
