import sys

from fse import tf1


def test_keras_is_neither_loaded_nor_forbidden() -> None:
    assert tf1.tf.__name__ in sys.modules
    assert "keras" not in sys.modules  # None there would forbid it
    assert not [name for name in sys.modules if name.startswith("keras.")]
