import itertools
from typing import Any

import numpy as np
import pytest

from fse import geometry
from fse.model import losses
from fse.tf1 import tf


def evaluated(tensor: Any) -> Any:
    with tf.Session() as session:
        return session.run(tensor)


def points(side: int) -> np.ndarray:
    return geometry.grid(geometry.centers(side), geometry.centers(side)).astype(np.float32)


def bent(seed: int) -> np.ndarray:
    controls = geometry.control_points(5)
    return controls + 0.1 * np.random.RandomState(seed).uniform(-1, 1, controls.shape)


def one_hot(cells: Any, count: int) -> np.ndarray:
    """[1, count, K] maps with all their weight in one cell each."""
    maps = np.zeros((1, count, len(cells)), np.float32)
    maps[0, list(cells), range(len(cells))] = 1.0
    return maps


def align(*views: Any) -> float:
    """Alignment loss of (maps [batch, cells, K], points [batch, cells, 2]) of each view."""
    maps, places = (np.stack(arrays, axis=1) for arrays in zip(*views))
    maps, places = (array.reshape((-1,) + array.shape[2:]).astype(np.float32) for array in (maps, places))
    return sum(evaluated(losses.alignment(tf.constant(maps), tf.constant(places), len(views))))


def random_views(count: int, cells: int = 36, landmarks: int = 4) -> Any:
    random = np.random.RandomState(0)
    maps = random.uniform(size=(count, 3, cells, landmarks)) ** 4
    return list(zip(maps / maps.sum(axis=2, keepdims=True), random.uniform(-1, 1, (count, 3, cells, 2))))


def over_all_pairs_of_cells(first: Any, second: Any) -> float:
    """The loss as the paper writes it, a sum over every two cells."""
    square = ((first[1][:, :, None] - second[1][:, None]) ** 2).sum(-1)
    return np.einsum("buv,buk,bvk->bk", square, first[0], second[0]).mean() * 32.0**2


def test_alignment_of_matching_cells_is_zero() -> None:
    maps = one_hot([5, 10], 64)
    assert align((maps, points(8)[None]), (maps, points(8)[None])) == 0.0


def test_alignment_is_the_squared_distance_in_cells_of_a_64th() -> None:
    # Two cells of 8 to the right is 16 cells of 64.
    first, second = (one_hot([0], 64), points(8)[None]), (one_hot([2], 64), points(8)[None])
    assert align(first, second) == pytest.approx(256.0, rel=1e-5)


def test_alignment_equals_the_sum_over_all_pairs_of_cells() -> None:
    first, second = random_views(2)
    assert align(first, second) == pytest.approx(over_all_pairs_of_cells(first, second), rel=1e-5)


def test_alignment_of_several_views_is_the_mean_over_their_pairs() -> None:
    seen = random_views(4)
    expected = np.mean([over_all_pairs_of_cells(*two) for two in itertools.combinations(seen, 2)])
    assert align(*seen) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(("side", "zoom", "shift"), [(8, 1.0, 0.0), (21, 0.8, 0.3), (42, 1.3, -0.2)])
def test_alignment_of_equivariant_maps_is_their_variance_alone(side: int, zoom: float, shift: float) -> None:
    """Maps of any size and crop that put the same weights on the same places of the image."""
    maps = np.random.RandomState(0).dirichlet(np.ones(side * side), 2).T[None]
    where = geometry.warp_points(zoom * points(side) + shift, bent(side))
    order = np.random.RandomState(1).permutation(side * side)  # the other view has them in other cells
    mean = np.einsum("ck,cd->kd", maps[0], where)
    variance = np.einsum("ck,ckd->k", maps[0], (where[:, None] - mean) ** 2)
    found = align((maps, where[None]), (maps[:, order], where[None, order]))
    assert found == pytest.approx(2.0 * variance.mean() * 1024.0, rel=1e-5)


def loss_and_gradients(kind: type, first: Any, second: Any) -> Any:
    """Both losses of a pair of views in the given precision, and their gradients by the maps."""
    maps, places = (np.concatenate(arrays) for arrays in zip(first, second))
    maps = tf.constant(maps.astype(kind))
    align = sum(losses.alignment(maps, tf.constant(places.astype(kind)), 2))
    diversity = losses.diversity(maps, 6, 2)
    found = evaluated([align, diversity, tf.gradients(align, maps)[0], tf.gradients(diversity, maps)[0]])
    return [np.asarray(value, np.float64) for value in found]


def test_losses_are_safe_in_half_precision() -> None:
    """Peaked maps that agree, far from the middle: where the three-term form of the replaced codes loses whole units."""
    where = 0.2 * points(6)[None] + 0.75
    middles = np.array([[0.62, 0.7], [0.8, 0.75], [0.9, 0.6]])
    maps = np.exp(-((where[0][:, None] - middles) ** 2).sum(-1) / 0.004)[None]
    first = (maps / maps.sum(axis=1, keepdims=True), where)
    second = (first[0], where + 0.01)
    exact, rounded = (loss_and_gradients(kind, first, second) for kind in (np.float64, np.float16))
    assert 1.0 < exact[0] < 20.0
    np.testing.assert_allclose(rounded[0], exact[0], atol=0.05)
    np.testing.assert_allclose(rounded[1], exact[1], atol=0.005)
    for half, full in zip(rounded[2:], exact[2:]):
        assert abs(half - full).max() < 0.01 * abs(full).max()


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
