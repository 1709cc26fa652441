import numpy as np
import pytest
from scipy.interpolate import RBFInterpolator

from fse import geometry


def random_destinations(seed: int, amount: float = 0.1) -> np.ndarray:
    controls = geometry.control_points(5)
    return controls + amount * np.random.RandomState(seed).uniform(-1, 1, controls.shape)


def test_centers_leave_half_a_cell_at_both_edges() -> None:
    np.testing.assert_allclose(geometry.centers(4), [-0.75, -0.25, 0.25, 0.75])


def test_grid_lists_points_row_by_row_with_x_varying_fastest() -> None:
    points = geometry.grid(np.array([-0.5, 0.5]), np.array([-0.9, 0.0, 0.9]))
    np.testing.assert_allclose(points[:3], [[-0.5, -0.9], [0.5, -0.9], [-0.5, 0.0]])


def test_points_convert_to_pixels_and_back() -> None:
    # The center of pixel (column 3, row 0) of an image 8 wide and 4 high.
    np.testing.assert_allclose(geometry.from_pixels(np.array([3.5, 0.5]), (8, 4)), [-0.125, -0.75])
    np.testing.assert_allclose(geometry.to_pixels(np.array([[-1, -1], [1, 1]]), (8, 4)), [[0, 0], [8, 4]])


def test_fit_similarity_recovers_a_similarity() -> None:
    matrix = np.array([[0.8, -0.6, 3.0], [0.6, 0.8, -1.0]]) * [[2, 2, 1]]
    points = np.random.RandomState(0).randn(5, 2)
    np.testing.assert_allclose(
        geometry.fit_similarity(points, geometry.apply_affine(matrix, points)), matrix, atol=1e-12
    )
    back = geometry.apply_affine(geometry.invert_affine(matrix), geometry.apply_affine(matrix, points))
    np.testing.assert_allclose(back, points, atol=1e-12)


def test_fit_similarity_never_mirrors() -> None:
    points = np.random.RandomState(0).randn(5, 2)
    matrix = geometry.fit_similarity(points, points * [-1, 1])
    assert np.linalg.det(matrix[:, :2]) > 0


def test_fit_similarity_rejects_coinciding_points() -> None:
    with pytest.raises(ValueError, match="coincide"):
        geometry.fit_similarity(np.ones((5, 2)), np.random.RandomState(0).randn(5, 2))


@pytest.mark.parametrize("cells", [20, 42, 80])
def test_the_identity_warp_is_the_identity(cells: int) -> None:
    points = geometry.grid(geometry.centers(cells), geometry.centers(cells))
    np.testing.assert_allclose(geometry.warp_points(points, geometry.control_points(5)), points, atol=1e-10)


def test_spline_basis_agrees_with_an_independent_solver() -> None:
    points = np.random.RandomState(1).uniform(-1.3, 1.3, (500, 2))
    oracle = RBFInterpolator(geometry.control_points(5), random_destinations(0), kernel="thin_plate_spline")
    np.testing.assert_allclose(geometry.warp_points(points, random_destinations(0)), oracle(points), atol=1e-10)


def test_a_warp_maps_control_points_to_their_destinations_and_reproduces_affine_maps() -> None:
    controls = geometry.control_points(5)
    np.testing.assert_allclose(
        geometry.warp_points(controls, random_destinations(3)), random_destinations(3), atol=1e-10
    )
    matrix = np.array([[0.9, -0.3, 0.1], [0.3, 0.9, -0.2]])
    points = np.random.RandomState(1).uniform(-1, 1, (50, 2))
    warped = geometry.warp_points(points, geometry.apply_affine(matrix, controls))
    np.testing.assert_allclose(warped, geometry.apply_affine(matrix, points), atol=1e-10)


def test_unwarping_undoes_warping() -> None:
    points = np.random.RandomState(2).uniform(-0.9, 0.9, (30, 2))
    destinations = geometry.apply_affine(np.array([[0.8, -0.5, 0.2], [0.5, 0.8, -0.1]]), random_destinations(4))
    np.testing.assert_allclose(
        geometry.unwarp_points(geometry.warp_points(points, destinations), destinations), points, atol=1e-8
    )


def test_unwarping_rejects_a_warp_that_folds() -> None:
    with pytest.raises(ValueError, match="folds"):
        geometry.unwarp_points(np.full((1, 2), 0.3), random_destinations(0, 3.0))
