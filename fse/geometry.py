"""Coordinates, similarity fits and thin-plate-spline warps. Pure NumPy.

Points are `(x, y)`, x right, y down, in [-1, 1] over the outer edges of an image (see `fse`).

A warp maps points of a *view* (what the network sees) to points of the *image* it is taken from. Its control points
are a fixed grid, so the spline's linear system is solved once: `basis(points) @ targets` evaluates any warp that sends
the control points to `targets`, exactly, for pixels, map cells and landmarks alike.
"""

import functools
from typing import Tuple

import numpy as np

# A reported squared cell: 1 cell = 1/64 of the view's width, so 1 half-width = 32 cells (2 pixels of 128, as in the
# replaced codes, whose map cells are 2 pixels apart).
CELLS_PER_HALF_WIDTH = 32.0


def centers(count: int) -> np.ndarray:
    """Centers of `count` pixels or cells side by side: (2i + 1)/count - 1.

    Returns:
      [count] float64 in (-1, 1).
    """
    return (2.0 * np.arange(count) + 1.0) / count - 1.0


def grid(across: np.ndarray, down: np.ndarray) -> np.ndarray:
    """All points with x from `across` and y from `down`, row by row (y outer, x inner).

    Args:
      across, down: [columns] and [rows] coordinates.

    Returns:
      [rows * columns, 2] float64 points (x, y).
    """
    x, y = np.meshgrid(across, down)
    return np.stack([x.ravel(), y.ravel()], axis=-1)


def to_pixels(points: np.ndarray, size: Tuple[int, int]) -> np.ndarray:
    """Points in [-1, 1] to pixels, where (0, 0) is the outer corner of the top-left pixel.

    Args:
      points: [..., 2] points (x, y).
      size: width and height of the image in pixels.
    """
    return (np.asarray(points, np.float64) + 1.0) * np.asarray(size, np.float64) / 2.0


def from_pixels(pixels: np.ndarray, size: Tuple[int, int]) -> np.ndarray:
    """The inverse of `to_pixels`."""
    return 2.0 * np.asarray(pixels, np.float64) / np.asarray(size, np.float64) - 1.0


def fit_similarity(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """The similarity (rotation, uniform scale, shift) that brings `source` closest to `target` in least squares.

    Umeyama, "Least-squares estimation of transformation parameters between two point patterns", PAMI 1991, eqs. 40-43,
    in two dimensions and without reflection.

    Args:
      source, target: [points, 2], at least two distinct source points.

    Returns:
      [2, 3] matrix M: a point p goes to M[:, :2] @ p + M[:, 2].

    Raises:
      ValueError: the source points coincide.
    """
    source, target = np.asarray(source, np.float64), np.asarray(target, np.float64)
    center_s, center_t = source.mean(0), target.mean(0)
    s, t = source - center_s, target - center_t
    spread = (s * s).sum()
    if spread < 1e-12:
        raise ValueError("the points coincide, no similarity can be fitted")
    # In two dimensions the optimum is a complex number a + ib: scale and rotation at once.
    a = (s * t).sum() / spread
    b = (s[:, 0] * t[:, 1] - s[:, 1] * t[:, 0]).sum() / spread
    linear = np.array([[a, -b], [b, a]])
    return np.concatenate([linear, (center_t - linear @ center_s)[:, None]], axis=1)


def apply_affine(matrix: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Applies a [2, 3] matrix to [..., 2] points."""
    return np.asarray(points, np.float64) @ matrix[:, :2].T + matrix[:, 2]


def invert_affine(matrix: np.ndarray) -> np.ndarray:
    """The inverse of a [2, 3] affine matrix, again [2, 3].

    Raises:
      numpy.linalg.LinAlgError: there is none.
    """
    (a, b, x), (c, d, y) = matrix.tolist()  # NumPy's, for large matrices, takes six times as long
    determinant = a * d - b * c
    if determinant == 0.0:
        raise np.linalg.LinAlgError("Singular matrix")
    return np.array([[d, -b, b * y - d * x], [-c, a, c * x - a * y]]) / determinant


def control_points(per_side: int) -> np.ndarray:
    """The fixed control points of every warp: a square grid over the view, corners included.

    Returns:
      [per_side ** 2, 2] float64.
    """
    ticks = np.linspace(-1.0, 1.0, per_side)
    return grid(ticks, ticks)


def _radial(distance_squared: np.ndarray) -> np.ndarray:
    """The thin-plate kernel r^2 log r, here as r^2 log r^2 (the factor 2 goes into the weights)."""
    return distance_squared * np.log(np.where(distance_squared > 0.0, distance_squared, 1.0))


@functools.lru_cache(maxsize=None)
def _spline_solution(per_side: int) -> np.ndarray:
    """[C + 3, C]: control-point values to spline coefficients (C kernel weights, then constant, x and y terms)."""
    points = control_points(per_side)
    count = len(points)
    system = np.zeros((count + 3, count + 3))
    system[:count, :count] = _radial(((points[:, None] - points[None]) ** 2).sum(-1))
    system[:count, count] = 1.0
    system[:count, count + 1 :] = points
    system[count:, :count] = system[:count, count:].T
    return np.linalg.inv(system)[:, :count]


def spline_basis(points: np.ndarray, per_side: int) -> np.ndarray:
    """Thin-plate-spline basis at given points (Bookstein, PAMI 1989).

    `spline_basis(points, n) @ targets` is the interpolating thin-plate spline that sends `control_points(n)` to
    `targets`, evaluated at `points`. Rows sum to one; affine maps are reproduced exactly.

    Args:
      points: [..., 2], also outside [-1, 1].
      per_side: control points per side of the grid.

    Returns:
      [..., per_side ** 2] float64.
    """
    points = np.asarray(points, np.float64)
    distance_squared = ((points[..., None, :] - control_points(per_side)) ** 2).sum(-1)
    ones = np.ones(points.shape[:-1] + (1,))
    return np.concatenate([_radial(distance_squared), ones, points], axis=-1) @ _spline_solution(per_side)


@functools.lru_cache(maxsize=None)
def largest_safe_jitter(per_side: int) -> float:
    """How fast a spline can change between control points: the largest sum of |directional derivatives| of its basis.

    Where every control point is displaced by at most d along each axis, the warp's derivative in a direction differs
    from that of its affine part by at most sqrt(2) * d * largest_safe_jitter; a warp whose affine part stretches every
    direction by more than that does not fold. Taken over a grid on the view and 32 directions.
    """
    ticks, step = np.linspace(-1.0, 1.0, 81), 1e-5
    points = grid(ticks, ticks)
    across, down = (
        (spline_basis(points + shift, per_side) - spline_basis(points - shift, per_side)) / (2.0 * step)
        for shift in ([step, 0.0], [0.0, step])
    )
    angles = np.linspace(0.0, np.pi, 32, endpoint=False)
    return float(max(np.abs(np.cos(a) * across + np.sin(a) * down).sum(-1).max() for a in angles))


def warp_points(points: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Applies one warp to points of the view.

    Args:
      points: [..., 2] in the view.
      targets: [C, 2], where the warp sends the C control points.

    Returns:
      [..., 2] points of the image.
    """
    return spline_basis(points, round(len(targets) ** 0.5)) @ np.asarray(targets, np.float64)


def unwarp_points(points: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Applies the inverse of one warp, by simplified Newton iteration on the warp's affine part.

    Args:
      points: [..., 2] points of the image.
      targets: [C, 2], where the warp sends the C control points.

    Returns:
      [..., 2] points of the view that the warp sends to `points`, to 1e-9.

    Raises:
      ValueError: the iteration does not converge: the warp folds there.
    """
    controls = control_points(round(len(targets) ** 0.5))
    design = np.concatenate([controls, np.ones((len(controls), 1))], axis=1)
    inverse = invert_affine(np.linalg.lstsq(design, np.asarray(targets, np.float64), rcond=None)[0].T)
    found = apply_affine(inverse, points)
    for _ in range(200):
        step = (warp_points(found, targets) - points) @ inverse[:, :2].T
        found = found - step
        largest = np.abs(step).max(initial=0.0)
        if largest <= 1e-9:
            return found
        if not largest < 1e3:
            break
    raise ValueError("the warp cannot be inverted at some of the points, it folds there")
