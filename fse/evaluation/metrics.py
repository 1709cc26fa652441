"""Metrics of landmark detectors, in pure NumPy.

Points are arrays [images, points, 2]. All arrays of a call share one unit. Errors are in percent of the inter-ocular
distance.

Inter-ocular distance (IOD)
  The distance between the two eyes of a face, or between the two other points that `evaluate.eyes` names. It makes errors
  independent of the size of a face. For the 5 points of CelebA these are the eye centers, for the 68 points of 300-W the
  outer eye corners.

Forward error (`nme`)
  Discovered landmarks have no names, so a linear map from the discovered to the annotated points is fitted on the training
  images, without bias, and its error on the test images is measured (Thewlis et al. 2017, section 4; Zhang et al., CVPR
  2018; Jakab et al., NeurIPS 2018). Normalized mean error (NME): the mean distance between predicted and annotated
  points, as a share of the IOD.

Backward error (`backward_nme`)
  The reverse: a linear map from the annotated to the discovered points (Sanchez and Tzimiropoulos, NeurIPS 2019). It
  exposes unstable landmarks and landmarks on the background, which the forward error hides by weighting them low.

Failure rate and area under the curve (`failure_rate_10`, `auc_10`)
  The share of images with an NME above 10 %, and the area under the cumulative error distribution from 0 to 10 %, as
  reported for 300-W and WFLW.
"""

from typing import Any, Dict, List, NamedTuple, Optional, Sequence

import numpy as np


class LinearMap:
    """A linear map between the coordinates of two sets of points, fitted by least squares.

    Without a bias the fit depends on the origin of the coordinates. Here the origin is the center of the view, as in
    lmdis-rep (Zhang et al. 2018). With a bias it does not matter.

    A fit is rank-deficient if there are fewer images than coordinates, or if landmarks coincide. It then is the solution
    of least norm. The bias does not count in the norm, so a single image gives the constant prediction of its own points.
    """

    def __init__(self, source: np.ndarray, target: np.ndarray, bias: bool):
        """Fit a map from `source` [n, K, 2] to `target` [n, L, 2]; n is at least 1."""
        self.points = target.shape[1]
        x, y = _flatten(source), _flatten(target)
        # With a bias, fit the deviations from the means: this is least squares with a constant term outside the norm.
        self.source_mean = x.mean(axis=0) if bias else np.zeros(x.shape[1])
        self.target_mean = y.mean(axis=0) if bias else np.zeros(y.shape[1])
        self.weights = np.linalg.lstsq(x - self.source_mean, y - self.target_mean, rcond=None)[0]  # [2 K, 2 L]

    def __call__(self, source: np.ndarray) -> np.ndarray:
        """Map points [n, K, 2] to points [n, L, 2]."""
        mapped = (_flatten(source) - self.source_mean) @ self.weights + self.target_mean
        return mapped.reshape(len(source), self.points, 2)


class EvaluationSet(NamedTuple):
    """Images on which a linear map is evaluated."""

    discovered: np.ndarray  # [m, K, 2]
    annotated: np.ndarray  # [m, L, 2]
    unit: np.ndarray  # [m], the inter-ocular distance of each image


def point_distance(points: np.ndarray, first: int, second: int) -> np.ndarray:
    """Return the distance of two points of each image, [images]; for the two eyes, the inter-ocular distance."""
    return np.asarray(np.linalg.norm(points[:, first] - points[:, second], axis=-1))


def point_errors(predicted: np.ndarray, annotated: np.ndarray, unit: np.ndarray) -> np.ndarray:
    """Return the error of each point, [images, points], in percent of each image's `unit` [images].

    An image whose unit is zero has no meaningful error: it gets NaN.
    """
    unit = np.where(unit > 0.0, unit, np.nan)
    return np.asarray(100.0 * np.linalg.norm(predicted - annotated, axis=-1) / unit[:, None])


def image_errors(predicted: np.ndarray, annotated: np.ndarray, unit: np.ndarray) -> np.ndarray:
    """Return the normalized mean error of each image, [images]: the mean of `point_errors` over the points."""
    return point_errors(predicted, annotated, unit).mean(axis=1)


def failure_indicators(errors: np.ndarray, threshold: float) -> np.ndarray:
    """Return 1 for each image whose error exceeds `threshold`, 0 for others, and NaN for NaN; [images].

    Their mean is the failure rate.
    """
    with np.errstate(invalid="ignore"):
        return np.where(np.isfinite(errors), errors > threshold, np.nan)


def auc_shares(errors: np.ndarray, threshold: float) -> np.ndarray:
    """Return each image's share of the area under the cumulative error curve from 0 to `threshold`, [images].

    The curve is a step function, so the integral is exact: the area divided by `threshold` is the mean of
    max(0, 1 - error / threshold). 1 is perfect, 0 useless.
    """
    with np.errstate(invalid="ignore"):
        return np.where(np.isfinite(errors), np.maximum(0.0, 1.0 - errors / threshold), np.nan)


def mean(errors: np.ndarray) -> Optional[float]:
    """Return the mean over the images that have an error; None if there are none."""
    errors = errors[np.isfinite(errors)]
    return float(errors.mean()) if len(errors) else None


def bootstrap_intervals(
    errors: Dict[str, np.ndarray], resamples: int, random: np.random.RandomState
) -> Dict[str, Optional[List[float]]]:
    """Return 95 % bootstrap intervals of means: how much they would vary over other test sets of the same size.

    Images are sampled with replacement, the same images for all errors. An interval extends from the 2.5th to the 97.5th
    percentile of the resampled means (Efron's percentile method). It does not include the variation between trainings or
    between fits of the linear map, which stay the same.

    Args:
      errors: name -> [images], NaN for images without an error; all of one length, at least one image.
      resamples: number of resampled test sets.
      random: the source of random numbers.

    Returns:
      name -> [low, high], None if no image has an error.
    """
    table = np.stack(list(errors.values()), axis=1)  # [images, names]
    finite = np.isfinite(table)
    table = np.where(finite, table, 0.0)
    means = np.full((resamples, len(errors)), np.nan)
    for number in range(resamples):
        rows = random.randint(0, len(table), len(table))
        counts = finite[rows].sum(axis=0)
        np.divide(table[rows].sum(axis=0), counts, out=means[number], where=counts > 0)
    return {name: _interval(means[:, column]) for column, name in enumerate(errors)}


def n_shot_curve(
    discovered: np.ndarray,
    annotated: np.ndarray,
    tests: Dict[str, EvaluationSet],
    counts: Sequence[int],
    samples: int,
    seed: int,
) -> List[Dict[str, Any]]:
    """Return the errors of linear maps fitted on few annotated images, beside the mean shape of the same images.

    Args:
      discovered: [n, K, 2] points of the training images.
      annotated: [n, L, 2] points of the training images.
      tests: the sets to evaluate on; the key ("" or "_warped") ends the names of the errors.
      counts: numbers of annotated images, each at most n.
      samples: how many random samples of each size to fit on; all n images are used once.
      seed: seed of the samples; each sample depends on the seed, the count and its own number alone.

    Returns:
      one row per count: `annotations`, `draws` (the number of samples), then for each test set the mean over the samples
      of `nme`, `nme_with_bias` and `mean_shape_nme`; a name with `_sd` is their standard deviation, None for a single
      sample.
    """
    table = []
    for count in counts:
        row: Dict[str, Any] = {"annotations": count, "draws": 1 if count == len(discovered) else samples}
        errors_of_samples = []
        for number in range(row["draws"]):
            chosen = np.random.RandomState([seed, count, number]).permutation(len(discovered))[:count]
            errors_of_samples.append(_errors_of_fit(discovered[chosen], annotated[chosen], tests))
        for name in errors_of_samples[0]:
            values = np.array([errors[name] for errors in errors_of_samples], np.float64)
            several = len(values) > 1 and np.isfinite(values).all()
            row[name] = mean(values)
            row[name + "_sd"] = float(values.std(ddof=1)) if several else None
        table.append(row)
    return table


def _errors_of_fit(
    discovered: np.ndarray, annotated: np.ndarray, tests: Dict[str, EvaluationSet]
) -> Dict[str, Optional[float]]:
    """Return the errors on each test set of maps fitted on these points."""
    plain, biased = LinearMap(discovered, annotated, bias=False), LinearMap(discovered, annotated, bias=True)
    errors = {}
    for suffix, test in tests.items():
        predictions = {
            "nme": plain(test.discovered),
            "nme_with_bias": biased(test.discovered),
            "mean_shape_nme": annotated.mean(axis=0, keepdims=True),
        }
        for name, predicted in predictions.items():
            errors[name + suffix] = mean(image_errors(predicted, test.annotated, test.unit))
    return errors


def _flatten(points: np.ndarray) -> np.ndarray:
    """Return points [n, K, 2] as coordinates [n, 2 K], float64."""
    return np.asarray(points, np.float64).reshape(len(points), -1)


def _interval(means: np.ndarray) -> Optional[List[float]]:
    means = means[np.isfinite(means)]
    return [float(bound) for bound in np.percentile(means, [2.5, 97.5])] if len(means) else None
