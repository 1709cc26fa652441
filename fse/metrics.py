"""Measures of landmark detectors. Pure NumPy; definitions follow the literature on unsupervised landmarks.

Points are arrays [pictures, points, 2]; all of a call's arrays share one unit, and errors come out in per cent of the
inter-ocular distance.
"""

from typing import Optional

import numpy as np


class LinearMap:
    """A linear map between the coordinates of two sets of points, fitted by least squares.

    Without a bias it depends on where the origin is: the centre of the view, here as in lmdis-rep. A rank-deficient fit
    takes the solution of least norm.
    """

    def __init__(self, source: np.ndarray, target: np.ndarray, bias: bool):
        """Fits on `source` [n, K, 2] and `target` [n, L, 2]."""
        self.bias = bias
        self.points = target.shape[1]
        self.weights = np.linalg.lstsq(self._design(source), target.reshape(len(target), -1), rcond=None)[0]

    def __call__(self, source: np.ndarray) -> np.ndarray:
        """Maps [n, K, 2] to [n, L, 2]."""
        return (self._design(source) @ self.weights).reshape(len(source), self.points, 2)

    def _design(self, source: np.ndarray) -> np.ndarray:
        flat = np.asarray(source, np.float64).reshape(len(source), -1)
        return np.concatenate([flat, np.ones((len(flat), 1))], axis=1) if self.bias else flat


def distance(points: np.ndarray, first: int, second: int) -> np.ndarray:
    """Distance of two of each picture's points, [pictures]; with the two eyes, the inter-ocular distance."""
    return np.linalg.norm(points[:, first] - points[:, second], axis=-1)


def point_errors(predicted: np.ndarray, annotated: np.ndarray, unit: np.ndarray) -> np.ndarray:
    """Error of each point, [pictures, points], in per cent of each picture's `unit` [pictures].

    Pictures whose unit is zero have no error that means anything: theirs is NaN.
    """
    unit = np.where(unit > 0.0, unit, np.nan)
    return 100.0 * np.linalg.norm(predicted - annotated, axis=-1) / unit[:, None]


def picture_errors(predicted: np.ndarray, annotated: np.ndarray, unit: np.ndarray) -> np.ndarray:
    """Normalised mean error of each picture, [pictures]: `point_errors`, averaged over the points."""
    return point_errors(predicted, annotated, unit).mean(axis=1)


def mean(errors: np.ndarray) -> Optional[float]:
    """Mean over the pictures that have an error; None if there is none."""
    errors = errors[np.isfinite(errors)]
    return float(errors.mean()) if len(errors) else None


def failure_rate(errors: np.ndarray, threshold: float) -> Optional[float]:
    """Share of pictures whose error exceeds `threshold`, in [0, 1]."""
    errors = errors[np.isfinite(errors)]
    return float((errors > threshold).mean()) if len(errors) else None


def area_under_curve(errors: np.ndarray, threshold: float) -> Optional[float]:
    """Area under the cumulative error curve from 0 to `threshold`, divided by it: 1 is perfect, 0 useless.

    The curve is a step function, so the integral is exact: the mean of max(0, 1 - error / threshold).
    """
    errors = errors[np.isfinite(errors)]
    return float(np.clip(1.0 - errors / threshold, 0.0, None).mean()) if len(errors) else None
