"""Documented: keep_dtype_scope keeps the data types of operations made in it."""

import contextlib
from typing import Any, Iterator

made = []


@contextlib.contextmanager
def keep_dtype_scope() -> Iterator[Any]:
    from fse.tf1 import tf

    before = len(tf.get_default_graph().get_operations())
    yield
    made.extend(operation.type for operation in tf.get_default_graph().get_operations()[before:])
