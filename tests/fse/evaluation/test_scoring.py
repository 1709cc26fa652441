"""The errors that `measure` computes from detections; `test_export.py` runs the whole Evaluate stage."""

import dataclasses
import json
from typing import Any, Callable, Dict, Optional, Tuple

import numpy as np
import pytest

from fse import config, geometry
from fse.evaluation import metrics
from fse.evaluation.scoring import SplitDetections, equivariance_error, measure
from fse.inputs import augment

# `measure`'s train, test, warped and destinations.
Parts = Tuple[SplitDetections, SplitDetections, SplitDetections, np.ndarray]

Change = Callable[[np.ndarray], np.ndarray]

NAMES = ["left_eye", "right_eye", "nose"]
MEANS = ["nme", "nme_with_bias", "nme_warped", "mean_shape_nme", "mean_shape_nme_warped", "backward_nme"]
MEANS += ["mean_shape_backward_nme", "equivariance_error", "mean_shape_equivariance_error"]
MEANS += [
    prefix + name + suffix
    for prefix in ("", "mean_shape_")
    for name in ("failure_rate_10", "auc_10")
    for suffix in ("", "_warped")
]


def settings(**evaluate: Any) -> config.Config:
    return dataclasses.replace(config.Config(), evaluate=config.Evaluate(**dict({"bootstrap": 50}, **evaluate)))


def detections(discovered: np.ndarray, annotated: np.ndarray) -> SplitDetections:
    names = np.array([f"{number}.png" for number in range(len(discovered))])
    images, heatmaps = np.zeros((0, 8, 8, 3), np.uint8), np.zeros((0, 4, 4, 2))
    return SplitDetections(names, discovered, annotated, images, heatmaps)


def faces(count: int, seed: int) -> SplitDetections:
    """Return images with three annotated points that are linear functions of four discovered ones."""
    discovered = np.random.RandomState(seed).uniform(-0.6, 0.6, (count, 4, 2))
    return detections(discovered, 0.5 * discovered[:, :3] + 0.5 * discovered[:, 1:] * np.array([1.0, 0.7]))


def perfect_detections(train: int = 40, test: int = 12) -> Parts:
    """Return what a perfect detector detects: the same points of the image in upright and in warped views."""
    upright = faces(test, 2)
    destinations = (
        augment.sample_views(config.Augment(flip=False), np.random.RandomState(3), test, 1)
        .destinations[:, 0]
        .astype(float)
    )
    discovered, annotated = (
        np.stack([geometry.unwarp_points(*pair) for pair in zip(points, destinations)])
        for points in (upright.discovered, upright.annotated)
    )
    return faces(train, 1), upright, detections(discovered, annotated), destinations


def with_points(parts: Parts, discovered: Optional[Change] = None, annotated: Optional[Change] = None) -> Parts:
    """Return the parts with other points, each a function of the old ones."""
    train, test, warped = (
        dataclasses.replace(
            part,
            discovered=discovered(part.discovered) if discovered else part.discovered,
            annotated=annotated(part.annotated) if annotated else part.annotated,
        )
        for part in parts[:3]
    )
    return train, test, warped, parts[3]


def measured(parts: Parts, **evaluate: Any) -> Dict[str, Any]:
    """Return the figures that `metrics.json` would hold, written and read as strict JSON."""
    errors, figures = measure(settings(**evaluate), NAMES, *parts)
    figures.update({name: metrics.mean(values) for name, values in errors.items()})
    return dict(json.loads(json.dumps(figures, allow_nan=False)))


def test_a_perfect_detector_has_no_error_and_a_constant_has_large_ones() -> None:
    figures = measured(perfect_detections())
    for name in ("nme", "nme_with_bias", "equivariance_error", "failure_rate_10"):
        assert figures[name] == pytest.approx(0.0, abs=1e-5)
        assert figures[name + "_interval"] == pytest.approx([0.0, 0.0], abs=1e-5)
    assert figures["auc_10"] == pytest.approx(1.0)
    for name in ("nme", "nme_warped", "backward_nme", "equivariance_error"):
        assert figures["mean_shape_" + name] > 5.0
    assert figures["mean_shape_auc_10_warped"] < 0.5 < figures["mean_shape_failure_rate_10_warped"]
    assert figures["nme"] < figures["nme_warped"] < figures["mean_shape_nme_warped"]


def test_every_mean_has_an_interval_around_it() -> None:
    figures = measured(perfect_detections())
    for name in MEANS:
        low, high = figures[name + "_interval"]
        assert low <= figures[name] + 1e-9
        assert figures[name] <= high + 1e-9
    assert figures["mean_shape_nme_interval"][0] < figures["mean_shape_nme_interval"][1]


def test_the_mean_of_the_landmarks_errors_is_the_mean_of_the_images_errors() -> None:
    figures = measured(perfect_detections())
    for prefix in ("", "mean_shape_"):
        for suffix in ("", "_warped"):
            by_landmark = figures[prefix + "per_landmark" + suffix]
            assert list(by_landmark) == NAMES
            assert np.mean(list(by_landmark.values())) == pytest.approx(figures[prefix + "nme" + suffix], abs=1e-9)


def test_the_n_shot_curve_ends_with_the_fit_on_all_annotations() -> None:
    figures = measured(perfect_detections(), samples=2)
    assert [row["annotations"] for row in figures["n_shot"]] == [1, 5, 10, 40]  # fewer than 100 images
    assert [row["draws"] for row in figures["n_shot"]] == [2, 2, 2, 1]
    for name in ("nme", "nme_with_bias", "nme_warped", "mean_shape_nme", "mean_shape_nme_warped"):
        assert figures["n_shot"][-1][name] == pytest.approx(figures[name], abs=1e-9)


def test_counts_beyond_the_annotations_are_left_out() -> None:
    assert [row["annotations"] for row in measured(perfect_detections(train=4), shots=(5, 10))["n_shot"]] == [4]
    assert [row["annotations"] for row in measured(perfect_detections(train=10), shots=(10, 1))["n_shot"]] == [1, 10]


def test_one_training_annotation_and_one_test_image() -> None:
    figures = measured(perfect_detections(train=1, test=1))
    assert [row["annotations"] for row in figures["n_shot"]] == [1]
    assert figures["n_shot"][0]["nme_sd"] is None
    assert figures["nme_with_bias"] == pytest.approx(figures["mean_shape_nme"])
    assert figures["nme_interval"] == [figures["nme"]] * 2


def test_all_discovered_landmarks_equal() -> None:
    figures = measured(with_points(perfect_detections(), discovered=lambda points: np.repeat(points[:, :1], 4, axis=1)))
    assert 0.0 < figures["nme"] < 200.0  # a singular fit, but no extreme predictions
    assert figures["nme_with_bias"] <= figures["mean_shape_nme"] * 1.1


def test_landmarks_that_never_move_have_the_errors_of_the_mean_shape() -> None:
    parts = perfect_detections()
    constant = parts[0].discovered[:1]
    figures = measured(with_points(parts, discovered=lambda points: np.repeat(constant, len(points), axis=0)))
    for name in ("nme", "nme_with_bias"):
        assert figures[name] == pytest.approx(figures["mean_shape_nme"])
    assert figures["nme_warped"] == pytest.approx(figures["mean_shape_nme_warped"])
    assert figures["equivariance_error"] == pytest.approx(figures["mean_shape_equivariance_error"])
    assert figures["mean_shape_backward_nme"] == pytest.approx(0.0, abs=1e-9)


def test_images_whose_eyes_coincide_are_counted_and_left_out() -> None:
    train, test, warped, destinations = perfect_detections()
    annotated = test.annotated.copy()
    annotated[0, 1] = annotated[0, 0]
    figures = measured((train, dataclasses.replace(test, annotated=annotated), warped, destinations))
    assert figures["test_images_without_distance"] == 1
    assert figures["nme"] == pytest.approx(0.0, abs=1e-5)


def test_if_all_eyes_coincide_only_the_equivariance_error_remains() -> None:
    parts = perfect_detections()
    figures = measured(with_points(parts, annotated=lambda points: np.repeat(points[:, :1], 3, axis=1)))
    assert figures["test_images_without_distance"] == len(parts[1].names)
    for name in MEANS[:7] + MEANS[9:]:
        assert figures[name] is None
        assert figures[name + "_interval"] is None
    assert set(figures["per_landmark"].values()) == {None}
    assert all(row["nme"] is None and row["nme_sd"] is None for row in figures["n_shot"])
    assert figures["equivariance_error"] is not None


def test_without_annotations_only_the_equivariance_error_is_measured() -> None:
    parts = with_points(perfect_detections(), annotated=lambda points: points[:, :0])
    errors, figures = measure(settings(), [], *parts)
    assert sorted(errors) == ["equivariance_error", "mean_shape_equivariance_error"]
    assert sorted(figures) == ["equivariance_error_interval", "mean_shape_equivariance_error_interval"]


def test_a_perfectly_equivariant_detector_has_no_error() -> None:
    destinations = (
        augment.sample_views(config.Augment(flip=False), np.random.RandomState(0), 5, 1)
        .destinations[:, 0]
        .astype(float)
    )
    upright = np.random.RandomState(1).uniform(-0.6, 0.6, (5, 3, 2))
    warped = np.stack([geometry.unwarp_points(points, warp) for points, warp in zip(upright, destinations)])
    assert equivariance_error(upright, warped, destinations) == pytest.approx(0.0, abs=1e-6)
    assert equivariance_error(upright, upright, destinations) > 1.0
