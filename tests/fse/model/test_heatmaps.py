import numpy as np
import pytest

from fse import geometry
from fse.model import heatmaps
from fse.tf1 import tf


def test_soft_argmax_of_a_one_hot_map_is_its_cell() -> None:
    maps = np.zeros((1, 16, 2), np.float32)
    maps[0, 6, 0] = maps[0, 15, 1] = 1.0
    points = geometry.grid(geometry.centers(4), geometry.centers(4)).astype(np.float32)
    with tf.Session() as session:
        landmarks = session.run(heatmaps.soft_argmax(tf.constant(maps), points))
    np.testing.assert_allclose(landmarks, [[[0.25, -0.25], [0.75, 0.75]]], atol=1e-6)


def test_heatmaps_sum_to_one() -> None:
    scores = np.random.RandomState(0).randn(2, 4, 5, 3).astype(np.float32) * 10
    with tf.Session() as session:
        maps = session.run(heatmaps.spatial_softmax(tf.constant(scores)))
    assert maps.shape == (2, 20, 3)
    np.testing.assert_allclose(maps.sum(axis=1), 1.0, atol=1e-5)


def test_a_local_heatmap_covers_the_cells_around_the_largest_score() -> None:
    scores = np.full((2, 5, 6, 2), -3.0, np.float32)
    scores[0, 2, 2, 0], scores[0, 2, 3, 0] = 8.0, 8.0 - 2.0 * np.log(3.0)  # at temperature 2, 3 to 1
    scores[0, 0, 5, 0] = 7.9  # another peak, three cells away
    scores[1, 0, 0, 1] = 900.0  # in a corner, saturated
    with tf.Session() as session:
        tensor = tf.constant(scores)
        maps = heatmaps.spatial_softmax(tensor, 1, 2.0)
        values, gradient = session.run([maps, tf.gradients(tf.reduce_sum(tf.square(maps)), tensor)[0]])
    values = values.reshape(2, 5, 6, 2)
    assert values[0, 2, 2, 0] == pytest.approx(3.0 * values[0, 2, 3, 0], rel=1e-5)
    assert values[0, 2, 2, 0] > 0.7
    rows, columns = np.nonzero(values[0, ..., 0])
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (1, 3, 1, 3)
    assert values[1, 0, 0, 1] == 1.0
    np.testing.assert_allclose(values.sum(axis=(1, 2)), 1.0, atol=1e-6)
    assert np.isfinite(gradient).all()
    assert gradient[0, 0, 5, 0] == 0.0


def test_a_local_heatmap_with_all_cells_equals_the_full_one() -> None:
    scores = tf.constant(np.random.RandomState(0).randn(2, 4, 5, 3).astype(np.float32))
    with tf.Session() as session:
        full, unlimited, wide = session.run(
            [heatmaps.spatial_softmax(scores, *options) for options in ((), (0, 1.0), (5, 1.0))]
        )
    np.testing.assert_array_equal(full, unlimited)
    np.testing.assert_allclose(full, wide, rtol=1e-5)
