import numpy as np
import pytest

from fse import geometry, losses
from fse.tf1 import tf


def evaluated(tensor):
    with tf.Session() as session:
        return session.run(tensor)


def points(side: int) -> np.ndarray:
    return geometry.grid(geometry.centres(side), geometry.centres(side)).astype(np.float32)


def one_hot(cells, count: int) -> np.ndarray:
    """[1, count, K] maps with all their weight in one cell each."""
    maps = np.zeros((1, count, len(cells)), np.float32)
    maps[0, list(cells), range(len(cells))] = 1.0
    return maps


def align(first, second, first_points, second_points):
    arrays = [np.asarray(value, np.float32) for value in (first, second, first_points, second_points)]
    return evaluated(losses.alignment(*(tf.constant(array) for array in arrays)))


def test_alignment_of_matching_cells_is_zero() -> None:
    maps = one_hot([5, 10], 64)
    assert align(maps, maps, points(8)[None], points(8)[None]) == pytest.approx(0.0, abs=1e-3)


def test_alignment_is_the_squared_distance_in_cells_of_a_64th() -> None:
    # Two cells of 8 to the right is 16 cells of 64.
    assert align(one_hot([0], 64), one_hot([2], 64), points(8)[None], points(8)[None]) == pytest.approx(256.0, rel=1e-5)


def test_alignment_equals_the_sum_over_all_pairs_of_cells() -> None:
    random = np.random.RandomState(0)
    maps = random.uniform(size=(2, 3, 36, 4))
    maps /= maps.sum(axis=2, keepdims=True)
    places = random.uniform(-1, 1, (2, 3, 36, 2))
    square = ((places[0][:, :, None] - places[1][:, None]) ** 2).sum(-1)
    expected = np.einsum("buv,buk,bvk->bk", square, maps[0], maps[1]).mean() * 32.0**2
    assert align(maps[0], maps[1], places[0], places[1]) == pytest.approx(expected, rel=1e-5)


def test_alignment_of_equivariant_maps_is_their_variance_alone() -> None:
    # The same weights, seen by two views whose cells lie at the same places of the picture.
    maps = np.random.RandomState(0).dirichlet(np.ones(64), 2).T[None]
    where = points(8)
    mean = np.einsum("ck,cd->kd", maps[0], where)
    variance = np.einsum("ck,ckd->k", maps[0], (where[:, None] - mean) ** 2)
    assert align(maps, maps, where[None], where[None]) == pytest.approx(2.0 * variance.mean() * 1024.0, rel=1e-5)


def test_diversity_is_zero_for_landmarks_in_windows_of_their_own() -> None:
    assert evaluated(losses.diversity(tf.constant(one_hot([0, 7, 63], 64)), 8, 4)) == pytest.approx(0.0, abs=1e-6)


def test_diversity_is_k_minus_one_for_landmarks_that_coincide() -> None:
    assert evaluated(losses.diversity(tf.constant(one_hot([9, 9, 9], 64)), 8, 4)) == pytest.approx(2.0, abs=1e-6)


def test_diversity_counts_landmarks_in_one_window_as_coinciding() -> None:
    assert evaluated(losses.diversity(tf.constant(one_hot([0, 1], 64)), 8, 4)) == pytest.approx(1.0, abs=1e-6)
    assert evaluated(losses.diversity(tf.constant(one_hot([0, 1], 64)), 8, 1)) == pytest.approx(0.0, abs=1e-6)


def test_diversity_counts_every_cell_when_windows_hang_over_the_edge() -> None:
    assert evaluated(losses.diversity(tf.constant(one_hot([48, 48], 49)), 7, 4)) == pytest.approx(1.0, abs=1e-6)


def test_diversity_of_uniform_maps() -> None:
    maps = np.full((2, 64, 5), 1.0 / 64, np.float32)
    assert evaluated(losses.diversity(tf.constant(maps), 8, 4)) == pytest.approx(4.0, abs=1e-5)


def test_decay_is_half_the_squared_norm() -> None:
    assert evaluated(losses.decay([tf.constant([3.0, 4.0]), tf.constant([1.0])])) == pytest.approx(13.0)
