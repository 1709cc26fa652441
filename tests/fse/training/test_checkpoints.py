from pathlib import Path
from typing import Any, Dict, Optional

import numpy as np
import pytest

from fse.errors import CheckpointError
from fse.tf1 import tf
from fse.training import checkpoints
from tests.fse.trainings import save_arrays

A, B = np.arange(6, dtype=np.float32).reshape(2, 3), np.float32(7)


def create_variables() -> Dict[str, Any]:
    """Create the variables a and b, [2, 3] and []."""
    return {name: tf.Variable(np.zeros(shape, np.float32), name=name) for name, shape in (("a", (2, 3)), ("b", ()))}


def test_moving_averages_are_read_if_there_are_any(tmp_path: Path) -> None:
    prefix = save_arrays(
        tmp_path / "model-1", {"a": 0.0 * A, "a" + checkpoints.EMA_SUFFIX: A, "b": B, "global_step": np.int64(3)}
    )
    with tf.Graph().as_default():
        values = checkpoints.read_weights(prefix, create_variables())
    assert (values["a"] == A).all()
    assert values["b"] == B


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"a": A}, "does not fit the network: b is missing in it"),
        ({"a": A.T, "b": B}, r"a is \[3, 2\] in it, \[2, 3\] in the network"),
        ({"a": A.astype(np.float64), "b": B}, "a is of type float64 in it, float32 in the network"),
        ({"a": A * np.nan, "b": B}, "a has values that are not finite"),
        ({"a": np.array([["x"] * 3] * 2), "b": B}, "a is of type object in it"),
    ],
)
def test_a_checkpoint_that_does_not_fit_is_refused(tmp_path: Path, values: Dict[str, np.ndarray], message: str) -> None:
    prefix = save_arrays(tmp_path / "model-1", values)
    with tf.Graph().as_default(), pytest.raises(CheckpointError, match=message):
        checkpoints.read_weights(prefix, create_variables())


@pytest.mark.parametrize("file", ["model-1.index", "model-1.data-00000-of-00001"])
@pytest.mark.parametrize("content", [None, b"", b"nonsense" * 100])
def test_a_broken_checkpoint_is_refused(tmp_path: Path, file: str, content: Optional[bytes]) -> None:
    prefix = save_arrays(tmp_path / "model-1", {"a": A, "b": B})
    (tmp_path / file).unlink()
    if content is not None:
        (tmp_path / file).write_bytes(content)
    with tf.Graph().as_default(), pytest.raises(CheckpointError, match="model-1 cannot be read"):
        checkpoints.read_weights(prefix, create_variables())
