import numpy as np
import pytest

from fse import metrics

RANDOM = np.random.RandomState(0)
POINTS = RANDOM.uniform(-1, 1, (50, 5, 2))


def test_the_inter_ocular_distance() -> None:
    points = np.array([[[0.0, 0.0], [3.0, 4.0], [9.0, 9.0]]])
    np.testing.assert_allclose(metrics.distance(points, 0, 1), [5.0])


def test_errors_are_in_per_cent_of_the_unit() -> None:
    annotated = np.zeros((1, 2, 2))
    predicted = np.array([[[3.0, 4.0], [0.0, 0.0]]])
    np.testing.assert_allclose(metrics.point_errors(predicted, annotated, np.array([10.0])), [[50.0, 0.0]])
    np.testing.assert_allclose(metrics.picture_errors(predicted, annotated, np.array([10.0])), [25.0])


def test_a_perfect_predictor_has_no_error() -> None:
    errors = metrics.picture_errors(POINTS, POINTS, metrics.distance(POINTS, 0, 1))
    assert metrics.mean(errors) == 0.0
    assert metrics.failure_rate(errors, 10.0) == 0.0
    assert metrics.area_under_curve(errors, 10.0) == 1.0


def test_a_useless_predictor_fails_everywhere() -> None:
    errors = np.full(7, 80.0)
    assert metrics.failure_rate(errors, 10.0) == 1.0
    assert metrics.area_under_curve(errors, 10.0) == 0.0


def test_the_area_is_that_of_the_cumulative_error_curve() -> None:
    errors = np.array([2.0, 6.0, 14.0])
    thresholds = (np.arange(100000) + 0.5) / 10000
    curve = (errors[:, None] <= thresholds).mean(axis=0)
    assert metrics.area_under_curve(errors, 10.0) == pytest.approx(curve.mean(), abs=1e-4)


def test_pictures_without_a_unit_are_left_out() -> None:
    errors = metrics.picture_errors(POINTS[:2] + 1.0, POINTS[:2], np.array([0.0, 2.0]))
    assert np.isnan(errors[0])
    assert metrics.mean(errors) == pytest.approx(100 * 2**0.5 / 2)
    nothing = np.array([np.nan])
    assert (
        metrics.mean(nothing) is metrics.failure_rate(nothing, 10.0) is metrics.area_under_curve(nothing, 10.0) is None
    )


@pytest.mark.parametrize("bias", [False, True])
def test_a_linear_map_is_recovered(bias: bool) -> None:
    weights, shift = RANDOM.randn(10, 6), RANDOM.randn(6) * bias
    target = (POINTS.reshape(50, 10) @ weights + shift).reshape(50, 3, 2)
    np.testing.assert_allclose(metrics.LinearMap(POINTS, target, bias)(POINTS), target, atol=1e-10)


def test_without_a_bias_a_constant_cannot_be_added() -> None:
    fitted = metrics.LinearMap(POINTS, POINTS, bias=False)
    np.testing.assert_allclose(fitted(np.zeros((1, 5, 2))), 0.0, atol=1e-12)


def test_landmarks_that_coincide_or_one_picture_still_give_finite_predictions() -> None:
    same = np.repeat(POINTS[:, :1], 5, axis=1)  # of rank 2 instead of 10
    assert np.isfinite(metrics.LinearMap(same, POINTS, bias=True)(same)).all()
    one = metrics.LinearMap(POINTS[:1], POINTS[:1], bias=False)
    np.testing.assert_allclose(one(POINTS[:1]), POINTS[:1], atol=1e-9)
