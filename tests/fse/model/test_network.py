from typing import Any, Tuple

import numpy as np
import pytest

from fse import geometry
from fse.errors import ConfigError
from fse.model import network
from fse.tf1 import tf


def build(name: str, view: int, landmarks: int, training: bool = False) -> Tuple[Any, Any]:
    """Build a network; return its images placeholder and its score maps."""
    images = tf.placeholder(tf.float32, [2, view, view, 3])
    return images, network.score_maps(name, images, landmarks, training)


@pytest.mark.parametrize(
    ("name", "view", "cells"),
    [("paper", 32, 16), ("compact", 32, 8), ("compact", 80, 20), ("fine", 80, 40), ("deep", 80, 20)],
)
def test_cells_of_padded_networks_divide_the_view_evenly(name: str, view: int, cells: int) -> None:
    np.testing.assert_allclose(network.cell_centers(name, view), geometry.centers(cells), atol=1e-12)


def test_cells_of_the_reference_are_the_centers_of_its_receptive_fields() -> None:
    # In alldbi and the ModelZoo port, cell i of 42 is centered on pixel 2 i + 22.5 of a view of 128 pixels.
    expected = (2.0 * (2.0 * np.arange(42) + 22.5) + 1.0) / 128.0 - 1.0
    np.testing.assert_allclose(network.cell_centers("reference", 128), expected, atol=1e-12)


@pytest.mark.parametrize(
    ("name", "view"), [("paper", 32), ("compact", 32), ("fine", 32), ("deep", 64), ("reference", 64)]
)
def test_score_maps_have_as_many_cells_as_cell_centers_and_a_static_shape(name: str, view: int) -> None:
    with tf.Graph().as_default():
        _, scores = build(name, view, 7)
        cells = len(network.cell_centers(name, view))
        assert scores.shape.as_list() == [2, cells, cells, 7]


def test_the_reference_has_as_many_parameters_as_the_reference_implementations() -> None:
    with tf.Graph().as_default():
        build("reference", 128, 8)
        assert sum(np.prod(variable.shape.as_list()) for variable in tf.trainable_variables()) == 794_452


@pytest.mark.parametrize("name", list(network.NETWORKS))
def test_a_shifted_image_gives_shifted_maps(name: str) -> None:
    """Cells are where `cell_centers` says: moving the image by a number of cells moves the maps by as many."""
    view = 256 if name == "deep" else 96
    first, second = network.cell_centers(name, view)[:2]
    pixels = int(round((second - first) * view / 2))  # noqa: RUF046 (NumPy 1.18 rounds to a float)
    cells = 2 * max(1, network.NETWORKS[name].multiple // pixels)
    begin, shifted = view // 2 - 16, view // 2 - 16 + cells * pixels
    image = np.zeros((2, view, view, 3), np.float32)
    image[0, begin : begin + 8, begin : begin + 8] = np.random.RandomState(0).randn(8, 8, 3)
    image[1, begin : begin + 8, shifted : shifted + 8] = image[0, begin : begin + 8, begin : begin + 8]
    with tf.Graph().as_default(), tf.Session() as session:
        images, scores = build(name, view, 3)
        session.run(tf.global_variables_initializer())
        maps = session.run(scores, {images: image})
    # Compare away from the border, where padding has an influence.
    margin = maps.shape[1] // 3
    np.testing.assert_allclose(
        maps[0, margin:-margin, margin:-margin],
        maps[1, margin:-margin, margin + cells : maps.shape[1] - margin + cells],
        atol=1e-4 * abs(maps).max(),
    )


def test_initial_weights_depend_on_the_seed_alone() -> None:
    def weights(seed: int) -> np.ndarray:
        with tf.Graph().as_default(), tf.Session() as session:
            network.score_maps("compact", tf.zeros([1, 16, 16, 3]), 4, False, seed)
            session.run(tf.global_variables_initializer())
            return np.asarray(session.run(network.kernels()[2]))

    np.testing.assert_array_equal(weights(1), weights(1))
    assert abs(weights(1) - weights(2)).max() > 0.01
    # The same on every TensorFlow version.
    assert weights(1)[0, 0, 0, 0] == pytest.approx(0.003946078, rel=1e-5)


@pytest.mark.parametrize(
    ("name", "view", "message"), [("compact", 30, "multiple of 4"), ("paper", 33, "multiple of 2")]
)
def test_a_view_that_does_not_divide_is_refused(name: str, view: int, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        network.cell_centers(name, view)


def test_a_view_too_small_or_an_unknown_network_is_refused() -> None:
    with pytest.raises(ConfigError, match="too small"):
        network.cell_centers("reference", 40)
    with pytest.raises(ConfigError, match="one of paper, reference, compact, fine, deep"):
        network.cell_centers("papr", 40)
