"""The scope whose operations keep their data types, which stock TensorFlow does not change anyway."""

import contextlib
from typing import Iterator


@contextlib.contextmanager
def keep_dtype_scope() -> Iterator[None]:
    yield
