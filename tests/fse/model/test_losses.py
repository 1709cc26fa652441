import itertools
from typing import Any, List, Sequence, Tuple

import numpy as np
import pytest

from fse import geometry
from fse.model import losses
from fse.tf1 import tf

# Heatmaps [batch, cells, K] and the points of the image that their cells show, [batch, cells, 2].
View = Tuple[np.ndarray, np.ndarray]


def evaluate(tensor: Any) -> Any:
    with tf.Session() as session:
        return session.run(tensor)


def cell_points(side: int) -> np.ndarray:
    return geometry.grid(geometry.centers(side), geometry.centers(side)).astype(np.float32)


def random_warp(seed: int) -> np.ndarray:
    """Return the control points' destinations of a random warp, [25, 2]."""
    controls = geometry.control_points(5)
    return controls + 0.1 * np.random.RandomState(seed).uniform(-1, 1, controls.shape)


def one_hot(cells: Sequence[int], count: int) -> np.ndarray:
    """Return maps [1, count, K] that are 1 in one cell each."""
    maps = np.zeros((1, count, len(cells)), np.float32)
    maps[0, list(cells), range(len(cells))] = 1.0
    return maps


def align(*views: View) -> float:
    """Return the alignment loss of views."""
    maps, places = (np.stack(arrays, axis=1) for arrays in zip(*views))
    maps, places = (array.reshape((-1,) + array.shape[2:]).astype(np.float32) for array in (maps, places))
    return float(sum(evaluate(losses.alignment(tf.constant(maps), tf.constant(places), len(views)))))


def random_views(count: int, cells: int = 36, landmarks: int = 4) -> List[View]:
    random = np.random.RandomState(0)
    maps = random.uniform(size=(count, 3, cells, landmarks)) ** 4
    return list(zip(maps / maps.sum(axis=2, keepdims=True), random.uniform(-1, 1, (count, 3, cells, 2))))


def sum_over_pairs_of_cells(first: View, second: View) -> float:
    """Return the loss as the paper writes it, as a sum over all pairs of cells."""
    square = ((first[1][:, :, None] - second[1][:, None]) ** 2).sum(-1)
    return float(np.einsum("buv,buk,bvk->bk", square, first[0], second[0]).mean()) * 32.0**2


def test_alignment_of_matching_cells_is_zero() -> None:
    maps = one_hot([5, 10], 64)
    assert align((maps, cell_points(8)[None]), (maps, cell_points(8)[None])) == 0.0


def test_alignment_is_the_squared_distance_in_cells_of_a_64th() -> None:
    # Two cells of 8 to the right is 16 cells of 64.
    first, second = (one_hot([0], 64), cell_points(8)[None]), (one_hot([2], 64), cell_points(8)[None])
    assert align(first, second) == pytest.approx(256.0, rel=1e-5)


def test_alignment_equals_the_sum_sum_over_pairs_of_cells() -> None:
    first, second = random_views(2)
    assert align(first, second) == pytest.approx(sum_over_pairs_of_cells(first, second), rel=1e-5)


def test_alignment_of_several_views_is_the_mean_over_their_pairs() -> None:
    views = random_views(4)
    expected = np.mean([sum_over_pairs_of_cells(*two) for two in itertools.combinations(views, 2)])
    assert align(*views) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(("side", "zoom", "shift"), [(8, 1.0, 0.0), (21, 0.8, 0.3), (42, 1.3, -0.2)])
def test_alignment_of_equivariant_maps_is_their_variance_alone(side: int, zoom: float, shift: float) -> None:
    """Maps of any size and crop with the same probabilities at the same points of the image."""
    maps = np.random.RandomState(0).dirichlet(np.ones(side * side), 2).T[None]
    where = geometry.warp_points(zoom * cell_points(side) + shift, random_warp(side))
    order = np.random.RandomState(1).permutation(side * side)  # in the other view they are in other cells
    mean = np.einsum("ck,cd->kd", maps[0], where)
    variance = np.einsum("ck,ckd->k", maps[0], (where[:, None] - mean) ** 2)
    loss = align((maps, where[None]), (maps[:, order], where[None, order]))
    assert loss == pytest.approx(2.0 * variance.mean() * 1024.0, rel=1e-5)


def losses_and_gradients(dtype: type, first: View, second: View) -> List[np.ndarray]:
    """Return both losses of a pair of views in the given precision, and their gradients by the maps."""
    maps, places = (np.concatenate(arrays) for arrays in zip(first, second))
    maps = tf.constant(maps.astype(dtype))
    align = sum(losses.alignment(maps, tf.constant(places.astype(dtype)), 2))
    diversity = losses.diversity(maps, 6, 2)
    values = evaluate([align, diversity, tf.gradients(align, maps)[0], tf.gradients(diversity, maps)[0]])
    return [np.asarray(value, np.float64) for value in values]


def test_losses_are_safe_in_half_precision() -> None:
    """Peaked maps that agree, far from the center: there, the reference implementations' three-term form loses units."""
    where = 0.2 * cell_points(6)[None] + 0.75
    peaks = np.array([[0.62, 0.7], [0.8, 0.75], [0.9, 0.6]])
    maps = np.exp(-((where[0][:, None] - peaks) ** 2).sum(-1) / 0.004)[None]
    first = (maps / maps.sum(axis=1, keepdims=True), where)
    second = (first[0], where + 0.01)
    exact, rounded = (losses_and_gradients(dtype, first, second) for dtype in (np.float64, np.float16))
    assert 1.0 < exact[0] < 20.0
    np.testing.assert_allclose(rounded[0], exact[0], atol=0.05)
    np.testing.assert_allclose(rounded[1], exact[1], atol=0.005)
    for half, full in zip(rounded[2:], exact[2:]):
        assert np.max(np.abs(half - full)) < 0.01 * np.max(np.abs(full))


def test_diversity_is_zero_for_landmarks_in_different_windows() -> None:
    assert evaluate(losses.diversity(tf.constant(one_hot([0, 7, 63], 64)), 8, 4)) == pytest.approx(0.0, abs=1e-6)


def test_diversity_is_k_minus_one_for_landmarks_that_coincide() -> None:
    assert evaluate(losses.diversity(tf.constant(one_hot([9, 9, 9], 64)), 8, 4)) == pytest.approx(2.0, abs=1e-6)


def test_diversity_counts_landmarks_in_one_window_as_coinciding() -> None:
    assert evaluate(losses.diversity(tf.constant(one_hot([0, 1], 64)), 8, 4)) == pytest.approx(1.0, abs=1e-6)
    assert evaluate(losses.diversity(tf.constant(one_hot([0, 1], 64)), 8, 1)) == pytest.approx(0.0, abs=1e-6)


def test_diversity_counts_every_cell_when_windows_extend_beyond_the_map() -> None:
    assert evaluate(losses.diversity(tf.constant(one_hot([48, 48], 49)), 7, 4)) == pytest.approx(1.0, abs=1e-6)


def test_diversity_of_uniform_maps() -> None:
    maps = np.full((2, 64, 5), 1.0 / 64, np.float32)
    assert evaluate(losses.diversity(tf.constant(maps), 8, 4)) == pytest.approx(4.0, abs=1e-5)


def test_decay_is_half_the_squared_norm() -> None:
    assert evaluate(losses.weight_decay([tf.constant([3.0, 4.0]), tf.constant([1.0])])) == pytest.approx(13.0)
