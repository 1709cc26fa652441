import sys

from fse.tf1 import tf


def test_keras_is_not_loaded_and_can_be() -> None:
    assert tf.Graph
    assert "keras" not in sys.modules
    assert not [name for name in sys.modules if name.startswith("keras.")]
