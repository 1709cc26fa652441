from typing import Any, Dict, List

import numpy as np
import pytest

from fse.evaluation import metrics

RANDOM = np.random.RandomState(0)
POINTS = RANDOM.uniform(-1, 1, (50, 5, 2))


def test_the_inter_ocular_distance() -> None:
    points = np.array([[[0.0, 0.0], [3.0, 4.0], [9.0, 9.0]]])
    np.testing.assert_allclose(metrics.point_distance(points, 0, 1), [5.0])


def test_errors_are_in_percent_of_the_unit() -> None:
    annotated = np.zeros((1, 2, 2))
    predicted = np.array([[[3.0, 4.0], [0.0, 0.0]]])
    np.testing.assert_allclose(metrics.point_errors(predicted, annotated, np.array([10.0])), [[50.0, 0.0]])
    np.testing.assert_allclose(metrics.image_errors(predicted, annotated, np.array([10.0])), [25.0])


def test_a_perfect_predictor_has_no_error() -> None:
    errors = metrics.image_errors(POINTS, POINTS, metrics.point_distance(POINTS, 0, 1))
    assert metrics.mean(errors) == 0.0
    assert metrics.mean(metrics.failure_indicators(errors, 10.0)) == 0.0
    assert metrics.mean(metrics.auc_shares(errors, 10.0)) == 1.0


def test_a_useless_predictor_fails_everywhere() -> None:
    errors = np.full(7, 80.0)
    assert metrics.mean(metrics.failure_indicators(errors, 10.0)) == 1.0
    assert metrics.mean(metrics.auc_shares(errors, 10.0)) == 0.0


def test_the_area_is_that_under_the_cumulative_error_curve() -> None:
    errors = np.array([2.0, 6.0, 14.0])
    thresholds = (np.arange(100000) + 0.5) / 10000
    curve = (errors[:, None] <= thresholds).mean(axis=0)
    assert metrics.mean(metrics.auc_shares(errors, 10.0)) == pytest.approx(curve.mean(), abs=1e-4)


def test_images_without_a_unit_are_left_out() -> None:
    errors = metrics.image_errors(POINTS[:2] + 1.0, POINTS[:2], np.array([0.0, 2.0]))
    assert np.isnan(errors[0])
    assert metrics.mean(errors) == pytest.approx(100 * 2**0.5 / 2)
    assert metrics.mean(metrics.failure_indicators(errors, 10.0)) == 1.0
    assert metrics.mean(metrics.auc_shares(errors, 10.0)) == 0.0
    nothing = np.array([np.nan])
    for part in (nothing, metrics.failure_indicators(nothing, 10.0), metrics.auc_shares(nothing, 10.0)):
        assert metrics.mean(part) is None


@pytest.mark.parametrize("bias", [False, True])
def test_a_linear_map_is_recovered(bias: bool) -> None:
    weights, shift = RANDOM.randn(10, 6), RANDOM.randn(6) * bias
    target = (POINTS.reshape(50, 10) @ weights + shift).reshape(50, 3, 2)
    np.testing.assert_allclose(metrics.LinearMap(POINTS, target, bias)(POINTS), target, atol=1e-10)


def test_a_map_without_bias_maps_zero_to_zero() -> None:
    fitted = metrics.LinearMap(POINTS, POINTS, bias=False)
    np.testing.assert_allclose(fitted(np.zeros((1, 5, 2))), 0.0, atol=1e-12)


def test_a_map_with_bias_does_not_depend_on_the_origin_even_if_the_fit_is_rank_deficient() -> None:
    few, shift = POINTS[:4], np.array([0.3, -0.7])  # 10 coordinates from 4 images
    plain, shifted = metrics.LinearMap(few, few, bias=True), metrics.LinearMap(few + shift, few, bias=True)
    np.testing.assert_allclose(plain(POINTS), shifted(POINTS + shift), atol=1e-9)


def test_coinciding_landmarks_give_finite_predictions() -> None:
    same = np.repeat(POINTS[:, :1], 5, axis=1)  # of rank 2 instead of 10
    for bias in (False, True):
        fitted = metrics.LinearMap(same, POINTS, bias)
        other = metrics.LinearMap(same[:, :1], POINTS, bias)
        np.testing.assert_allclose(fitted(same), other(same[:, :1]), atol=1e-9)
    nowhere = metrics.LinearMap(np.zeros((50, 5, 2)), POINTS, bias=False)
    np.testing.assert_array_equal(nowhere(POINTS), np.zeros_like(POINTS))


def test_a_fit_to_one_image_has_the_least_norm() -> None:
    source, target = POINTS[:1], POINTS[1:2, :3]
    fitted = metrics.LinearMap(source, target, bias=False)
    np.testing.assert_allclose(fitted(source), target, atol=1e-12)
    flat = source.ravel()
    np.testing.assert_allclose(fitted.weights, np.outer(flat, target.ravel()) / (flat @ flat), atol=1e-12)
    constant = metrics.LinearMap(source, target, bias=True)
    np.testing.assert_array_equal(constant(POINTS[:7]), np.repeat(target, 7, axis=0))


def test_a_map_without_annotated_points_predicts_none() -> None:
    assert metrics.LinearMap(POINTS, np.zeros((50, 0, 2)), bias=False)(POINTS[:3]).shape == (3, 0, 2)


def test_an_interval_is_that_of_a_mean_of_independent_images() -> None:
    errors = np.random.RandomState(1).normal(10.0, 2.0, 400)
    interval = metrics.bootstrap_intervals({"nme": errors}, 4000, np.random.RandomState(2))["nme"]
    half = 1.96 * errors.std() / 20.0  # of a mean of 400
    assert interval is not None
    np.testing.assert_allclose(interval, [errors.mean() - half, errors.mean() + half], atol=0.03)


def test_all_errors_are_resampled_together_by_the_seed() -> None:
    errors = np.random.RandomState(1).uniform(0.0, 20.0, 30)
    intervals = metrics.bootstrap_intervals({"nme": errors, "double": 2.0 * errors}, 100, np.random.RandomState(2))
    assert intervals["nme"] is not None
    assert intervals["double"] == pytest.approx([2.0 * bound for bound in intervals["nme"]])
    assert intervals == metrics.bootstrap_intervals(
        {"nme": errors, "double": 2.0 * errors}, 100, np.random.RandomState(2)
    )


def test_images_without_an_error_do_not_count_in_the_interval() -> None:
    errors = {"one": np.array([3.0]), "none": np.array([np.nan])}
    assert metrics.bootstrap_intervals(errors, 10, np.random.RandomState(0)) == {"one": [3.0, 3.0], "none": None}
    rare = np.array([3.0] + 20 * [np.nan])  # most resamples have no error
    assert metrics.bootstrap_intervals({"rare": rare}, 50, np.random.RandomState(0)) == {"rare": [3.0, 3.0]}


def few_shots(counts: List[int], samples: int = 3, unit: float = 1.0) -> List[Dict[str, Any]]:
    """Return the n-shot curve of annotated points that are an exact linear function of the discovered ones."""
    discovered = np.random.RandomState(3).uniform(-1, 1, (60, 2, 2))
    annotated = discovered @ np.array([[0.8, 0.3], [-0.2, 1.1]])
    tests = {"": metrics.EvaluationSet(discovered[40:], annotated[40:], np.full(20, unit))}
    return metrics.n_shot_curve(discovered[:40], annotated[:40], tests, counts, samples, 7)


def test_enough_annotations_recover_a_linear_relation() -> None:
    one, four, everything = few_shots([1, 4, 40])
    assert (one["annotations"], one["draws"], everything["annotations"], everything["draws"]) == (1, 3, 40, 1)
    assert one["nme"] > 10.0
    assert one["nme_sd"] > 0.0
    assert four["nme"] == pytest.approx(0.0, abs=1e-6)
    assert four["nme_with_bias"] > 1.0  # it has one unknown more
    assert everything["nme_with_bias"] == pytest.approx(0.0, abs=1e-9)
    assert everything["nme_sd"] is None
    assert everything["mean_shape_nme"] > 10.0


def test_a_map_with_bias_from_one_annotation_is_its_mean_shape() -> None:
    (one,) = few_shots([1])
    assert one["nme_with_bias"] == one["mean_shape_nme"]
    assert one["nme_with_bias_sd"] == one["mean_shape_nme_sd"]


def test_samples_depend_on_the_seed_the_count_and_their_number_alone() -> None:
    assert few_shots([2])[0] == few_shots([1, 2, 40])[1]
    first, both = few_shots([2], samples=1)[0], few_shots([2], samples=2)[0]
    second = 2.0 * both["nme"] - first["nme"]
    assert both["nme_sd"] == pytest.approx(abs(first["nme"] - second) / 2**0.5)


def test_the_curve_has_no_errors_without_a_unit() -> None:
    row = few_shots([1, 40], unit=0.0)[0]
    assert {value for name, value in row.items() if name.startswith(("nme", "mean_shape"))} == {None}
