"""Crop frames: the part of an image that a crop shows.

A crop frame is an affine map, a [2, 3] matrix, from points of the crop (in [-1, 1] over its outer edges) to pixels of the
image, where (0, 0) is the outer corner of the top-left pixel. It may be turned. Its sides are equal, except in mode
`squash`: there it is as wide and as high as the image, and the crop shows the image distorted.
"""

from typing import Optional, Tuple

import numpy as np

from fse import geometry
from fse.config import Crop
from fse.errors import DataError, ImageError

# A frame with a side longer than this many times the image's longer side comes from a wrong annotation.
_MAX_SIDE = 20.0
# A shape with a landmark farther than this from the middle of the eyes, in inter-ocular distances, is a wrong annotation
# or a profile, whose eyes nearly coincide.
_MAX_REACH = 10.0


def crop_frame_of(
    settings: Crop, mean: Optional[np.ndarray], points: np.ndarray, box: Optional[np.ndarray], size: np.ndarray
) -> np.ndarray:
    """Return the crop frame of an image.

    Args:
      settings: the mode and its settings.
      mean: `mean_shape`, for mode `landmarks`.
      points: [L, 2] landmarks in pixels, for mode `landmarks`.
      box: [4] x, y, width and height in pixels, for mode `box`.
      size: [2] width and height of the image in pixels.

    Returns:
      [2, 3] float64.

    Raises:
      ImageError: the annotations do not define a frame, or the margins leave nothing of the image.
    """
    if settings.mode == "landmarks":
        frame = _fitted_frame(points, mean)
    elif settings.mode == "box":
        frame = _box_frame(settings, box)
    else:
        frame = _margin_frame(settings, size)
    # `shift` is a share of the frame's width and height, which are 2 in coordinates of the crop.
    frame[:, 2] = geometry.apply_affine(frame, 2.0 * np.array(settings.shift))
    shorter, longer = sorted(sides(frame).tolist())
    if shorter < 1.0 or longer > _MAX_SIDE * size.max():
        raise ImageError(f"a crop frame of {longer:.3g} pixels a side")
    return frame


def mean_shape(points: np.ndarray, eyes: Tuple[int, int], eye_distance: float) -> np.ndarray:
    """Return where the landmarks of an average face are in the crop.

    Every shape is turned, scaled and moved until its eyes are at (-1/2, 0) and (1/2, 0). The mean of these shapes is
    scaled to `eye_distance`, with its centroid at the center of the crop. Shapes that reach farther than ten inter-ocular
    distances from the eyes are left out.

    Args:
      points: [n, L, 2] pixels; shapes with NaN are left out.
      eyes: indices of the two eyes among the landmarks, in any order.
      eye_distance: distance between the eyes in the crop, as a share of its width.

    Returns:
      float64 [L, 2] in [-1, 1] over the crop.

    Raises:
      DataError: no shape is left.
    """
    # As complex numbers x + iy, a rotation and a scale are one division.
    shapes = points[..., 0] + 1j * points[..., 1]  # [n, L]
    shapes = shapes[np.isfinite(shapes).all(1) & (shapes[:, eyes[0]] != shapes[:, eyes[1]])]
    left, right = shapes[:, eyes[0]], shapes[:, eyes[1]]
    if (right - left).real.sum() < 0.0:
        left, right = right, left
    shapes = (shapes - (left + right)[:, None] / 2.0) / (right - left)[:, None]
    shapes = shapes[(np.abs(shapes) < _MAX_REACH).all(1)]
    if not len(shapes):
        raise DataError("crop.mode landmarks: no training image has usable landmarks; the mean shape needs them")
    mean = shapes.mean(0)
    mean = 2.0 * eye_distance * (mean - mean.mean())
    return np.stack([mean.real, mean.imag], axis=-1)


def upright_crop_frame(center: np.ndarray, side: np.ndarray) -> np.ndarray:
    """Return the crop frame that is not turned and has this center and size.

    Args:
      center: [2] (x, y) in pixels of the image.
      side: length of a side, or [2] width and height, in pixels of the image.

    Returns:
      [2, 3] float64.
    """
    frame = np.zeros((2, 3))
    frame[[0, 1], [0, 1]] = np.asarray(side) / 2.0
    frame[:, 2] = center
    return frame


def sides(frame: np.ndarray) -> np.ndarray:
    """Return width and height of a crop frame in pixels of the image, [2]."""
    lengths: np.ndarray = 2.0 * np.hypot(frame[0, :2], frame[1, :2])
    return lengths


def _margin_frame(settings: Crop, size: np.ndarray) -> np.ndarray:
    """Return the frame of modes `center` and `squash`, in the middle of what the margins leave of the image."""
    left_top, right_bottom = np.reshape(settings.margins, (2, 2))
    rest = size - left_top - right_bottom
    if (rest <= 0.0).any():
        raise ImageError(f"{size[0]:g} x {size[1]:g} pixels, less than crop.margins remove")
    side = rest if settings.mode == "squash" else rest.min()
    return upright_crop_frame(left_top + rest / 2.0, settings.scale * side)


def _box_frame(settings: Crop, box: Optional[np.ndarray]) -> np.ndarray:
    """Return the frame of mode `box`, centered on the annotated box."""
    assert box is not None  # the plan checks it
    if not (np.isfinite(box).all() and (box[2:] > 0.0).all()):
        raise ImageError("a box without extent")
    side = box[2] if settings.box_side == "width" else box[2:].max()
    return upright_crop_frame(box[:2] + box[2:] / 2.0, settings.scale * side)


def _fitted_frame(points: np.ndarray, mean: Optional[np.ndarray]) -> np.ndarray:
    """Return the frame of mode `landmarks`, in which the landmarks come closest to the mean shape.

    The least squares are those of the crop: the fit maps the image to the crop, and the frame is its inverse.
    """
    assert mean is not None  # the plan makes it
    try:
        return geometry.invert_affine(geometry.fit_similarity(points, mean))
    except (ValueError, np.linalg.LinAlgError):
        raise ImageError("landmarks that coincide") from None
