"""Documented: initialize_system and shutdown_system, run in a session that stays open."""

from typing import Any

from fse.tf1 import tf
from npu_bridge import ranks


def initialize_system(name: Any = None) -> Any:
    return tf.group(*ranks.group.average([tf.constant([1.0])]), name=name)


def shutdown_system(name: Any = None) -> Any:
    return tf.group(*ranks.group.average([tf.constant([1.0])]), name=name)
