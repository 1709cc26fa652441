"""Where the square lies that is cut out of an image.

A square is a [2, 3] matrix from points of the crop (in [-1, 1] over its outer edges) to pixels of the image, where
(0, 0) is the outer corner of the top-left pixel. In mode `squash` it is as wide and as high as the image.
"""

from typing import Optional, Tuple

import numpy as np

from fse import geometry
from fse.config import Crop
from fse.errors import DataError, ImageError

# A square whose side is more than this many times the image's longer side cannot be meant.
_LARGEST_SQUARE = 20.0
# A shape with a point farther than this from the eyes' middle, in eye distances, is a mistake or a profile.
_FARTHEST_POINT = 10.0


def square_of(
    settings: Crop, mean: Optional[np.ndarray], points: np.ndarray, box: Optional[np.ndarray], size: np.ndarray
) -> np.ndarray:
    """[2, 3]: the square to cut out of an image.

    Args:
      settings: which.
      mean: `mean_shape`, in mode `landmarks`.
      points: [L, 2] landmarks in pixels, for mode `landmarks`.
      box: [4] x, y, width and height, for mode `box`.
      size: [2] width and height of the image.

    Raises:
      ImageError: the annotations do not give one, or margins leave nothing of the image.
    """
    if settings.mode == "landmarks":
        square = _fitted(points, mean)
    elif settings.mode == "box":
        assert box is not None  # else there is no such mode
        if not (np.isfinite(box).all() and (box[2:] > 0.0).all()):
            raise ImageError("a box without extent")
        side = box[2] if settings.box_side == "width" else box[2:].max()
        square = upright_square(box[:2] + box[2:] / 2.0, settings.scale * side)
    else:
        first, beyond = np.reshape(settings.margins, (2, 2))
        left = size - first - beyond
        if (left <= 0.0).any():
            raise ImageError("{:g} x {:g} pixels, less than crop.margins take".format(*size))
        squashed = settings.mode == "squash"
        square = upright_square(first + left / 2.0, settings.scale * (left if squashed else left.min()))
    square[:, 2] = geometry.apply_affine(square, 2.0 * np.array(settings.shift))
    shorter, longer = sorted(sides(square).tolist())
    if shorter < 1.0 or longer > _LARGEST_SQUARE * size.max():
        raise ImageError(f"a square of {longer:.3g} pixels a side")
    return square


def mean_shape(points: np.ndarray, eyes: Tuple[int, int], eye_distance: float) -> np.ndarray:
    """Where the landmarks of an average face go in the crop.

    Every shape is turned, scaled and shifted until its eyes are at (-1/2, 0) and (1/2, 0). Their mean is placed with
    its centroid in the middle of the crop. Shapes that reach farther than ten eye distances from the eyes are left out.

    Args:
      points: [n, L, 2] pixels; shapes with NaN are left out.
      eyes: places of the two eyes among the landmarks, in any order.
      eye_distance: distance of the eyes in the crop, as a share of its width.

    Returns:
      float64 [L, 2] in [-1, 1] over the crop.

    Raises:
      DataError: no shape is left.
    """
    plane = points[..., 0] + 1j * points[..., 1]
    plane = plane[np.isfinite(plane).all(1) & (plane[:, eyes[0]] != plane[:, eyes[1]])]
    left, right = plane[:, eyes[0]], plane[:, eyes[1]]
    if (right - left).real.sum() < 0.0:
        left, right = right, left
    shapes = (plane - (left + right)[:, None] / 2.0) / (right - left)[:, None]
    shapes = shapes[(np.abs(shapes) < _FARTHEST_POINT).all(1)]
    if not len(shapes):
        raise DataError("crop.mode landmarks: no training image has usable landmarks to take the mean shape from")
    mean = shapes.mean(0)
    mean = 2.0 * eye_distance * (mean - mean.mean())
    return np.stack([mean.real, mean.imag], axis=-1)


def upright_square(center: np.ndarray, side: np.ndarray) -> np.ndarray:
    """[2, 3]: the upright square with this center (x, y) and side, or width and height, in pixels of the image."""
    square = np.zeros((2, 3))
    square[[0, 1], [0, 1]] = np.asarray(side) / 2.0
    square[:, 2] = center
    return square


def sides(square: np.ndarray) -> np.ndarray:
    """[2]: width and height of a square in pixels of the image."""
    return 2.0 * np.hypot(square[0, :2], square[1, :2])


def _fitted(points: np.ndarray, mean: Optional[np.ndarray]) -> np.ndarray:
    """The square in which the landmarks come closest to the mean shape, in least squares of the crop."""
    assert mean is not None  # else there is no such mode
    try:
        return geometry.invert_affine(geometry.fit_similarity(points, mean))
    except (ValueError, np.linalg.LinAlgError):
        raise ImageError("landmarks that coincide") from None
