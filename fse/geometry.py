"""Points, similarity fits and thin-plate-spline warps, in pure NumPy.

Coordinates
  A point is `(x, y)`: x to the right, y down, in [-1, 1] over the image. -1 and +1 are the *outer edges* of the image,
  not the centers of its outermost pixels, so pixel i of n has its center at (2i + 1)/n - 1. A pair of coordinates
  therefore means the same place at every resolution, in images and in heatmaps. `to_pixels` and `from_pixels` convert
  to and from pixels, where (0, 0) is the outer corner of the top-left pixel.

Affine maps
  A [2, 3] matrix M maps a point p to M[:, :2] @ p + M[:, 2].

Warps
  A warp maps points of a *view* (the distorted image that the network sees) to points of the *image* that the view shows.
  This direction is the one that rendering needs: for each pixel of the view it says where to look up the color. A warp
  is a thin-plate spline through C control points. The control points form a fixed square grid over the view; only their
  *destinations* in the image differ from warp to warp.

  The coefficients of a thin-plate spline solve a linear system whose matrix depends on the control points alone. As
  these are fixed, the matrix is inverted once, and the inverse is folded into a basis:

      warp(p) = spline_basis(p) @ destinations        [1, C] @ [C, 2]

  No system is solved while training runs: a warp costs one matrix product, exact for pixels, heatmap cells and landmarks
  alike, and differentiable with respect to the destinations.
"""

import functools
from typing import Tuple

import numpy as np

# Errors and losses in "cells" count 64 cells over the width of a view, so a half-width has 32. The reference
# implementations report cells of this size: their heatmap cells are 2 pixels of a view of 128 pixels.
CELLS_PER_HALF_WIDTH = 32.0


# Points --------------------------------------------------------------------------------------------------------------


def centers(count: int) -> np.ndarray:
    """Return the centers of `count` equal pixels or cells in a row: (2i + 1)/count - 1.

    Returns:
      [count] float64 in (-1, 1).
    """
    return (2.0 * np.arange(count) + 1.0) / count - 1.0


def grid(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return all points with an x from `x` and a y from `y`, row by row as in an image: x varies fastest.

    Args:
      x: [columns] coordinates.
      y: [rows] coordinates.

    Returns:
      [rows * columns, 2] float64 points (x, y).
    """
    columns, rows = np.meshgrid(x, y)
    return np.stack([columns.ravel(), rows.ravel()], axis=-1)


def to_pixels(points: np.ndarray, size: Tuple[int, int]) -> np.ndarray:
    """Convert points in [-1, 1] to pixels, where (0, 0) is the outer corner of the top-left pixel.

    Args:
      points: [..., 2] points (x, y).
      size: width and height of the image in pixels.

    Returns:
      [..., 2] float64 pixels (x, y).
    """
    pixels: np.ndarray = (np.asarray(points, np.float64) + 1.0) * np.asarray(size, np.float64) / 2.0
    return pixels


def from_pixels(pixels: np.ndarray, size: Tuple[int, int]) -> np.ndarray:
    """Convert pixels to points in [-1, 1]: the inverse of `to_pixels`.

    Args:
      pixels: [..., 2] pixels (x, y).
      size: width and height of the image in pixels.

    Returns:
      [..., 2] float64 points (x, y).
    """
    points: np.ndarray = 2.0 * np.asarray(pixels, np.float64) / np.asarray(size, np.float64) - 1.0
    return points


# Affine maps ---------------------------------------------------------------------------------------------------------


def fit_similarity(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Fit the similarity (rotation, uniform scale and translation) that maps `source` to `target` in least squares.

    Umeyama, "Least-squares estimation of transformation parameters between two point patterns", PAMI 1991, eqs. 40-43,
    for two dimensions and without reflections.

    Args:
      source: [points, 2], at least two of them distinct.
      target: [points, 2].

    Returns:
      [2, 3] float64 matrix of an affine map.

    Raises:
      ValueError: the source points coincide.
    """
    source, target = np.asarray(source, np.float64), np.asarray(target, np.float64)
    source_mean, target_mean = source.mean(0), target.mean(0)
    s, t = source - source_mean, target - target_mean
    spread = (s * s).sum()
    if spread < 1e-12:
        raise ValueError("source points coincide; a similarity needs at least two distinct points")
    # With points as complex numbers x + iy, a rotation with a scale is a multiplication by one number a + ib. The least
    # squares problem is then linear: a + ib = sum(conj(s) t) / sum(|s|^2).
    a = (s * t).sum() / spread
    b = (s[:, 0] * t[:, 1] - s[:, 1] * t[:, 0]).sum() / spread
    linear = np.array([[a, -b], [b, a]])
    return np.concatenate([linear, (target_mean - linear @ source_mean)[:, None]], axis=1)


def apply_affine(matrix: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Map [..., 2] points by a [2, 3] affine matrix."""
    mapped: np.ndarray = np.asarray(points, np.float64) @ matrix[:, :2].T + matrix[:, 2]
    return mapped


def invert_affine(matrix: np.ndarray) -> np.ndarray:
    """Return the inverse of a [2, 3] affine matrix, again as [2, 3].

    Raises:
      numpy.linalg.LinAlgError: the matrix is singular.
    """
    (a, b, x), (c, d, y) = matrix.tolist()  # six times as fast as numpy.linalg.inv on so small a matrix
    determinant = a * d - b * c
    if determinant == 0.0:
        raise np.linalg.LinAlgError("Singular matrix")
    inverse: np.ndarray = np.array([[d, -b, b * y - d * x], [-c, a, c * x - a * y]]) / determinant
    return inverse


# Thin-plate-spline warps ---------------------------------------------------------------------------------------------


def control_points(per_side: int) -> np.ndarray:
    """Return the fixed control points of every warp: a square grid over the view, its corners included.

    Args:
      per_side: number of control points per side of the grid.

    Returns:
      [per_side ** 2, 2] float64 points of the view, in the order of `grid`.
    """
    ticks = np.linspace(-1.0, 1.0, per_side)
    return grid(ticks, ticks)


def spline_basis(points: np.ndarray, per_side: int) -> np.ndarray:
    """Evaluate the thin-plate-spline basis at points of the view.

    `spline_basis(points, n) @ destinations` is the interpolating thin-plate spline that maps `control_points(n)` to
    `destinations`, evaluated at `points`. Each row sums to one, and affine maps are reproduced exactly.

    Args:
      points: [..., 2] points (x, y), which may lie outside [-1, 1].
      per_side: control points per side of the grid.

    Returns:
      [..., C] float64 with C = per_side ** 2: the weight of each control point's destination.
    """
    points = np.asarray(points, np.float64)
    distance_squared = ((points[..., None, :] - control_points(per_side)) ** 2).sum(-1)
    ones = np.ones(points.shape[:-1] + (1,))
    terms = np.concatenate([_kernel(distance_squared), ones, points], axis=-1)  # [..., C + 3]
    basis: np.ndarray = terms @ _spline_solution(per_side)
    return basis


def _kernel(distance_squared: np.ndarray) -> np.ndarray:
    """Return the thin-plate kernel U(r) = r^2 log r^2, with U(0) = 0.

    r^2 log r is the same kernel up to a factor of 2, which the coefficients absorb.
    """
    return distance_squared * np.log(np.where(distance_squared > 0.0, distance_squared, 1.0))


@functools.lru_cache(maxsize=None)
def _spline_solution(per_side: int) -> np.ndarray:
    """Return the matrix that maps destinations of the control points to coefficients of the spline.

    A thin-plate spline is f(p) = sum_c w_c U(|p - p_c|) + a_0 + a_x x + a_y y. It passes through the values v_c at the
    control points p_c with the least bending energy if (Bookstein, "Principal warps: thin-plate
    splines and the decomposition of deformations", PAMI 1989)

        [ K   P ] [w]   [v]      K = U(|p_c - p_d|), [C, C]
        [ P^T 0 ] [a] = [0]      P = rows (1, x_c, y_c), [C, 3]

    The right side ends in zeros, so the first C columns of the inverse are enough.

    Returns:
      [C + 3, C] float64: C kernel weights w, then a_0, a_x and a_y.
    """
    points = control_points(per_side)
    count = len(points)
    system = np.zeros((count + 3, count + 3))
    system[:count, :count] = _kernel(((points[:, None] - points[None]) ** 2).sum(-1))
    system[:count, count] = 1.0
    system[:count, count + 1 :] = points
    system[count:, :count] = system[:count, count:].T
    return np.linalg.inv(system)[:, :count]


@functools.lru_cache(maxsize=None)
def max_spline_slope(per_side: int) -> float:
    """Return how fast a warp can change between control points: the largest sum of |directional derivatives| of its basis.

    If every control point is displaced by at most d along each axis, the warp's derivative in a direction differs from
    that of its affine part by at most sqrt(2) * d * max_spline_slope. A warp does not fold the view over itself if its
    affine part stretches every direction by more than that.

    The maximum is taken over a grid of 81 x 81 points of the view and 32 directions, by central differences.
    """
    ticks, step = np.linspace(-1.0, 1.0, 81), 1e-5
    points = grid(ticks, ticks)
    by_x, by_y = (
        (spline_basis(points + shift, per_side) - spline_basis(points - shift, per_side)) / (2.0 * step)
        for shift in ([step, 0.0], [0.0, step])
    )
    angles = np.linspace(0.0, np.pi, 32, endpoint=False)
    return float(max(np.abs(np.cos(angle) * by_x + np.sin(angle) * by_y).sum(-1).max() for angle in angles))


def warp_points(points: np.ndarray, destinations: np.ndarray) -> np.ndarray:
    """Map points of the view to the image by one warp.

    Args:
      points: [..., 2] points of the view.
      destinations: [C, 2] points of the image to which the warp maps the C control points.

    Returns:
      [..., 2] float64 points of the image.
    """
    basis = spline_basis(points, round(len(destinations) ** 0.5))
    warped: np.ndarray = basis @ np.asarray(destinations, np.float64)
    return warped


def unwarp_points(points: np.ndarray, destinations: np.ndarray) -> np.ndarray:
    """Map points of the image to the view by the inverse of one warp.

    The inverse of a thin-plate spline has no closed form. A Newton iteration finds it, with the derivative of the warp's
    affine part instead of the warp's own derivative: warps are nearly affine, and one 2 x 2 matrix serves all points.

    Args:
      points: [..., 2] points of the image.
      destinations: [C, 2] points of the image to which the warp maps the C control points.

    Returns:
      [..., 2] float64 points of the view that the warp maps to `points`, to 1e-9.

    Raises:
      ValueError: the iteration does not converge, as the warp folds at one of the points.
    """
    controls = control_points(round(len(destinations) ** 0.5))
    design = np.concatenate([controls, np.ones((len(controls), 1))], axis=1)
    affine = np.linalg.lstsq(design, np.asarray(destinations, np.float64), rcond=None)[0].T  # [2, 3]
    inverse = invert_affine(affine)
    estimate = apply_affine(inverse, points)
    for _ in range(200):
        step = (warp_points(estimate, destinations) - points) @ inverse[:, :2].T
        estimate -= step
        largest = np.abs(step).max(initial=0.0)
        if largest <= 1e-9:
            return estimate
        if not largest < 1e3:  # also true for NaN
            break
    raise ValueError("the warp cannot be inverted at some of the points: it folds there")
