"""Measures of landmark detectors. Pure NumPy; definitions follow the literature on unsupervised landmarks.

Points are arrays [images, points, 2]; all of a call's arrays share one unit, and errors come out in per cent of the
inter-ocular distance.
"""

from typing import Any, Dict, List, NamedTuple, Optional, Sequence

import numpy as np


class LinearMap:
    """A linear map between the coordinates of two sets of points, fitted by least squares.

    Without a bias it depends on where the origin is: the center of the view, here as in lmdis-rep. With a bias it does
    not. Where a fit is rank-deficient (fewer images than coordinates, landmarks that coincide), it is the solution of
    least norm; the bias does not count in the norm, so that one image gives the constant prediction of its own points.
    """

    def __init__(self, source: np.ndarray, target: np.ndarray, bias: bool):
        """Fits on `source` [n, K, 2] and `target` [n, L, 2]; at least one image."""
        self.points = target.shape[1]
        flat, wanted = _flat(source), _flat(target)
        self.center = flat.mean(axis=0) if bias else np.zeros(flat.shape[1])
        self.constant = wanted.mean(axis=0) if bias else np.zeros(wanted.shape[1])
        self.weights = np.linalg.lstsq(flat - self.center, wanted - self.constant, rcond=None)[0]

    def __call__(self, source: np.ndarray) -> np.ndarray:
        """Maps [n, K, 2] to [n, L, 2]."""
        mapped = (_flat(source) - self.center) @ self.weights + self.constant
        return mapped.reshape(len(source), self.points, 2)


class Unseen(NamedTuple):
    """Images to predict. source: [m, K, 2] discovered and target: [m, L, 2] annotated points; unit: [m] of errors."""

    source: np.ndarray
    target: np.ndarray
    unit: np.ndarray


def distance(points: np.ndarray, first: int, second: int) -> np.ndarray:
    """Distance of two of each image's points, [images]; with the two eyes, the inter-ocular distance."""
    return np.linalg.norm(points[:, first] - points[:, second], axis=-1)


def point_errors(predicted: np.ndarray, annotated: np.ndarray, unit: np.ndarray) -> np.ndarray:
    """Error of each point, [images, points], in per cent of each image's `unit` [images].

    Images whose unit is zero have no error that means anything: theirs is NaN.
    """
    unit = np.where(unit > 0.0, unit, np.nan)
    return 100.0 * np.linalg.norm(predicted - annotated, axis=-1) / unit[:, None]


def image_errors(predicted: np.ndarray, annotated: np.ndarray, unit: np.ndarray) -> np.ndarray:
    """Normalized mean error of each image, [images]: `point_errors`, averaged over the points."""
    return point_errors(predicted, annotated, unit).mean(axis=1)


def failures(errors: np.ndarray, threshold: float) -> np.ndarray:
    """1 for each image whose error exceeds `threshold`, 0 for the others, NaN without an error; [images].

    Their mean is the failure rate.
    """
    with np.errstate(invalid="ignore"):
        return np.where(np.isfinite(errors), errors > threshold, np.nan)


def areas(errors: np.ndarray, threshold: float) -> np.ndarray:
    """Each image's part of the area under the cumulative error curve from 0 to `threshold`, [images].

    The curve is a step function, so the integral is exact: the area, divided by `threshold`, is the mean of
    max(0, 1 - error / threshold). 1 is perfect, 0 useless.
    """
    with np.errstate(invalid="ignore"):
        return np.where(np.isfinite(errors), np.maximum(0.0, 1.0 - errors / threshold), np.nan)


def mean(errors: np.ndarray) -> Optional[float]:
    """Mean over the images that have an error; None if there is none."""
    errors = errors[np.isfinite(errors)]
    return float(errors.mean()) if len(errors) else None


def intervals(
    errors: Dict[str, np.ndarray], resamples: int, random: np.random.RandomState
) -> Dict[str, Optional[List[float]]]:
    """95 % bootstrap intervals of `mean`s: how far they would vary over other test sets of the same size.

    The images are drawn with replacement, the same for all errors; an interval lies between the 2.5th and the 97.5th
    percentile of the resampled means. Regressors and detector stay what they are: how they would vary is not in it.

    Args:
      errors: name -> [images], NaN for images without an error; all of one length, at least one image.
      resamples: number of resampled test sets.
      random: the source of random numbers.

    Returns:
      name -> [low, high], None where no image has an error.
    """
    table = np.stack(list(errors.values()), axis=1)
    known = np.isfinite(table)
    table = np.where(known, table, 0.0)
    means = np.full((resamples, len(errors)), np.nan)
    for number in range(resamples):
        rows = random.randint(0, len(table), len(table))
        counts = known[rows].sum(axis=0)
        np.divide(table[rows].sum(axis=0), counts, out=means[number], where=counts > 0)
    return {name: _interval(means[:, column]) for column, name in enumerate(errors)}


def n_shot(
    source: np.ndarray, target: np.ndarray, tests: Dict[str, Unseen], counts: Sequence[int], draws: int, seed: int
) -> List[Dict[str, Any]]:
    """Errors of regressors fitted on few annotations, beside the mean shape of the same annotations.

    Args:
      source, target: [n, K, 2] discovered and [n, L, 2] annotated points of the training images.
      tests: what to predict; the key ("" or "_warped") ends the names of its figures.
      counts: numbers of annotations, each at most n.
      draws: how often so many training images are drawn, without replacement; all n are taken once.
      seed: of the draws; each depends on it, the count and its own number alone.

    Returns:
      one row per count: `annotations`, `draws`, then for each test the mean over the draws of `nme`, `nme_with_bias` and
      `mean_shape_nme`, and with `_sd` behind the name their standard deviation, None for a single draw.
    """
    rows = []
    for count in counts:
        row: Dict[str, Any] = {"annotations": count, "draws": 1 if count == len(source) else draws}
        found = []
        for number in range(row["draws"]):
            chosen = np.random.RandomState([seed, count, number]).permutation(len(source))[:count]
            found.append(_few_shots(source[chosen], target[chosen], tests))
        for name in found[0]:
            values = np.array([errors[name] for errors in found], np.float64)
            row[name] = mean(values)
            row[name + "_sd"] = float(values.std(ddof=1)) if len(found) > 1 and np.isfinite(values).all() else None
        rows.append(row)
    return rows


def _few_shots(source: np.ndarray, target: np.ndarray, tests: Dict[str, Unseen]) -> Dict[str, Optional[float]]:
    """The errors on each test of what is fitted on `source` and `target`."""
    plain, biased = LinearMap(source, target, bias=False), LinearMap(source, target, bias=True)
    found = {}
    for name, test in tests.items():
        predictions = {
            "nme": plain(test.source),
            "nme_with_bias": biased(test.source),
            "mean_shape_nme": target.mean(axis=0, keepdims=True),
        }
        for measure, predicted in predictions.items():
            found[measure + name] = mean(image_errors(predicted, test.target, test.unit))
    return found


def _flat(points: np.ndarray) -> np.ndarray:
    return np.asarray(points, np.float64).reshape(len(points), -1)


def _interval(means: np.ndarray) -> Optional[List[float]]:
    means = means[np.isfinite(means)]
    return [float(end) for end in np.percentile(means, [2.5, 97.5])] if len(means) else None
