"""All errors of a detector on a data set, from what it detected; `fse.evaluation.metrics` defines them.

Every error of the model has a counterpart for a constant prediction, the mean shape: the mean of the training images'
points. Published errors on aligned faces are only a few points below the mean shape's, so an error says little without it.
On warped test images the mean shape fails.
"""

from dataclasses import dataclass
from typing import Any, Dict, List, Tuple

import numpy as np

from fse import geometry
from fse.config import Config
from fse.evaluation import metrics
from fse.evaluation.metrics import EvaluationSet, LinearMap

# Percent of the inter-ocular distance: the threshold of the failure rate and of the area under the error curve.
_THRESHOLD = 10.0


@dataclass(frozen=True)
class SplitDetections:
    """Detections and annotations of a split of n images. Points are in [-1, 1] over the view."""

    # [n] names of the image files.
    names: np.ndarray
    # [n, K, 2] landmarks that the detector found.
    discovered: np.ndarray
    # [n, L, 2] annotated landmarks.
    annotated: np.ndarray
    # uint8 [examples, view, view, 3], the first views, for the report.
    images: np.ndarray
    # float32 [examples, rows, columns, K], the heatmaps of the first views.
    heatmaps: np.ndarray


def measure(
    config: Config,
    names: List[str],
    train: SplitDetections,
    test: SplitDetections,
    warped: SplitDetections,
    destinations: np.ndarray,
) -> Tuple[Dict[str, np.ndarray], Dict[str, Any]]:
    """Compute all errors, of the model and of constant predictions.

    Args:
      config: the experiment.
      names: the L annotated landmarks, `evaluate.eyes` among them; empty if nothing is annotated.
      train: the training images, for the fits.
      test: the test images.
      warped: the test images through warps.
      destinations: [n, C, 2], the control points' destinations of these warps, from view to image.

    Returns:
      name -> error of each test image, [n], NaN if it has none; and the entries of `metrics.json` that are not means of
      these: intervals, errors of each annotated landmark, and the n-shot curve.
    """
    errors = _equivariance_errors(train, test, warped, destinations)
    figures: Dict[str, Any] = {}
    if names:
        annotation_errors, figures = _annotation_errors(config, names, train, test, warped)
        errors.update(annotation_errors)
    random = np.random.RandomState([config.evaluate.seed, 0])
    for name, interval in metrics.bootstrap_intervals(errors, config.evaluate.bootstrap, random).items():
        figures[name + "_interval"] = interval
    return errors, figures


def equivariance_error(upright: np.ndarray, warped: np.ndarray, destinations: np.ndarray) -> float:
    """Return how far landmarks of warped views lie from the same landmarks of the upright views. Needs no annotations.

    Args:
      upright: [n, K, 2] landmarks in [-1, 1] over the upright view.
      warped: [n, K, 2] landmarks in [-1, 1] over the warped view.
      destinations: [n, C, 2], the warps, each from its view to the image.

    Returns:
      mean distance on the image over images and landmarks, in percent of the view's width.
    """
    on_image = np.stack([geometry.warp_points(points, warp) for points, warp in zip(warped, destinations)])
    # The width of the view is 2.
    return float(100.0 * np.linalg.norm(on_image - upright, axis=-1).mean() / 2.0)


def _equivariance_errors(
    train: SplitDetections, test: SplitDetections, warped: SplitDetections, destinations: np.ndarray
) -> Dict[str, np.ndarray]:
    """Return the equivariance error of each image, [n]: of the detector, and of landmarks that never move."""
    constant = np.broadcast_to(train.discovered.mean(axis=0), test.discovered.shape)
    pairs = {
        "equivariance_error": (test.discovered, warped.discovered),
        "mean_shape_equivariance_error": (constant, constant),
    }
    return {
        # [:, None] makes each image a batch of one.
        name: np.array(
            [equivariance_error(*image) for image in zip(upright[:, None], moved[:, None], destinations[:, None])]
        )
        for name, (upright, moved) in pairs.items()
    }


def _annotation_errors(
    config: Config, names: List[str], train: SplitDetections, test: SplitDetections, warped: SplitDetections
) -> Tuple[Dict[str, np.ndarray], Dict[str, Any]]:
    """Return what `measure` returns for annotated images, without the intervals."""
    first, second = (names.index(name) for name in config.evaluate.eyes)
    tests = {
        suffix: EvaluationSet(split.discovered, split.annotated, metrics.point_distance(split.annotated, first, second))
        for suffix, split in (("", test), ("_warped", warped))
    }
    forward = LinearMap(train.discovered, train.annotated, bias=False)
    mean_shape = train.annotated.mean(axis=0, keepdims=True)
    errors: Dict[str, np.ndarray] = {}
    figures: Dict[str, Any] = {}
    for suffix, images in tests.items():
        for prefix, predicted in (("", forward(images.discovered)), ("mean_shape_", mean_shape)):
            by_point = metrics.point_errors(predicted, images.annotated, images.unit)
            by_image = by_point.mean(axis=1)
            errors[prefix + "nme" + suffix] = by_image
            errors[prefix + "failure_rate_10" + suffix] = metrics.failure_indicators(by_image, _THRESHOLD)
            errors[prefix + "auc_10" + suffix] = metrics.auc_shares(by_image, _THRESHOLD)
            means = [metrics.mean(column) for column in by_point.T]
            figures[prefix + "per_landmark" + suffix] = dict(zip(names, means))
    unit = tests[""].unit
    biased = LinearMap(train.discovered, train.annotated, bias=True)
    backward = LinearMap(train.annotated, train.discovered, bias=False)
    mean_discovered = train.discovered.mean(axis=0, keepdims=True)
    errors["nme_with_bias"] = metrics.image_errors(biased(test.discovered), test.annotated, unit)
    errors["backward_nme"] = metrics.image_errors(backward(test.annotated), test.discovered, unit)
    errors["mean_shape_backward_nme"] = metrics.image_errors(mean_discovered, test.discovered, unit)
    figures["test_images_without_distance"] = int((unit <= 0.0).sum())
    figures["n_shot"] = _n_shot_curve(config, train, tests)
    return errors, figures


def _n_shot_curve(config: Config, train: SplitDetections, tests: Dict[str, EvaluationSet]) -> List[Dict[str, Any]]:
    """Return the n-shot curve. Counts above the number of training images are left out, and all images are added."""
    settings, total = config.evaluate, len(train.names)
    counts = sorted(count for count in {*settings.shots, total} if count <= total)
    return metrics.n_shot_curve(train.discovered, train.annotated, tests, counts, settings.samples, settings.seed)
