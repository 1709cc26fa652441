"""Resampling of the part of an image that a crop frame covers.

Where a crop frame reaches beyond its image, the image's outermost pixels are repeated. A reflection, the other common
choice, would show a second eye beside a face at the border.
"""

from typing import Tuple

import numpy as np
from PIL import Image

from fse import geometry
from fse.errors import ImageError
from fse.preprocessing import crop_frame

_BICUBIC = Image.Resampling.BICUBIC


def resample(
    image: Image.Image, frame: np.ndarray, size: int, shrink_filter: Image.Resampling = _BICUBIC
) -> Image.Image:
    """Resample the part of an image inside a crop frame, with bicubic interpolation and antialiasing.

    Args:
      image: RGB.
      frame: [2, 3], from [-1, 1] over the crop to pixels of the image, without shear. A turned frame has equal sides.
      size: width and height of the crop in pixels.
      shrink_filter: filter for an upright frame inside the image that has more pixels than the crop.

    Returns:
      RGB, `size` x `size`.

    Raises:
      ImageError: the frame lies outside the image.
    """
    pixels_per_crop_pixel = crop_frame.sides(frame) / size
    step = float(np.min(pixels_per_crop_pixel))
    upright = frame[0, 1] == 0.0 == frame[1, 0]
    if upright:
        left, top, right, bottom = _edges(frame)
        if left >= 0.0 and top >= 0.0 and right <= image.width and bottom <= image.height:
            # `reducing_gap` averages blocks of pixels first, down to no less than twice the size of the crop.
            return image.resize(
                (size, size),
                shrink_filter if step > 1.0 else _BICUBIC,
                box=(left, top, right, bottom),
                reducing_gap=2.0,
            )
    # Averaging blocks first makes large images cheap. Blocks stay small relative to the image, because the outermost
    # blocks are repeated beyond the border.
    block = max(1, min(int(step / 2.0), max(image.size) // 64))
    region, origin = _cut(image, frame, margin=4.0 * max(1.0, float(np.max(pixels_per_crop_pixel))), block=block)
    frame = np.concatenate([frame[:, :2], frame[:, 2:] - origin[:, None]], axis=1) / block
    if upright:
        return region.resize((size, size), _BICUBIC, box=_edges(frame))
    return _resample_turned(region, frame, size, step, block)


def _resample_turned(region: Image.Image, frame: np.ndarray, size: int, step: float, block: int) -> Image.Image:
    """Resample a turned frame inside a region that has room for it.

    Pillow's transformation does not antialias, so it gets an image that is a little finer than the crop.
    """
    if step > 1.25 * block:
        # A quarter finer than the crop, so that the second resampling does not blur what the first one keeps.
        reduced = np.ceil(1.25 * np.array(region.size) * block / step).astype(int)
        frame = frame * (reduced / np.array(region.size))[:, None]
        region = region.resize(tuple(reduced.tolist()), _BICUBIC)
    # Enlarged three times by resize(), then interpolated linearly. A bicubic transform() would be simpler, but its kernel
    # (Keys' with a = -1; that of resize() has a = -1/2) does not reproduce straight lines, and shifts details by up to a
    # tenth of a pixel.
    region = region.resize((3 * region.width, 3 * region.height), _BICUBIC)
    frame = 3.0 * frame
    # Pillow's coefficients map pixels of the output to pixels of the input, both from the outer corner.
    to_crop = np.array([[2.0 / size, 0.0, -1.0], [0.0, 2.0 / size, -1.0], [0.0, 0.0, 1.0]])
    coefficients = tuple((frame @ to_crop).ravel().tolist())
    return region.transform((size, size), Image.Transform.AFFINE, coefficients, Image.Resampling.BILINEAR)


def _edges(frame: np.ndarray) -> Tuple[float, float, float, float]:
    """Return left, top, right and bottom of an upright crop frame in pixels of the image."""
    (half_width, _, x), (_, half_height, y) = frame.tolist()
    return x - half_width, y - half_height, x + half_width, y + half_height


def _cut(image: Image.Image, frame: np.ndarray, margin: float, block: int) -> Tuple[Image.Image, np.ndarray]:
    """Cut the upright region around a crop frame out of an image, averaged over blocks, with the border repeated.

    Args:
      image: RGB.
      frame: [2, 3] crop frame.
      margin: pixels that interpolation needs around the frame.
      block: side of the blocks of pixels that become one pixel.

    Returns:
      The region (RGB), and the pixel (x, y) of the image at its top-left corner, which may be negative.

    Raises:
      ImageError: the frame lies outside the image.
    """
    limits = np.array(image.size)
    corners = geometry.apply_affine(frame, np.array([[-1.0, -1.0], [1.0, -1.0], [1.0, 1.0], [-1.0, 1.0]]))
    first, last = corners.min(0), corners.max(0)
    if (last <= 0.0).any() or (first >= limits).any():
        raise ImageError("a crop frame outside the image")
    # Multiples of the block, so that blocks are aligned with the image.
    low = np.floor((first - margin) / block).astype(int) * block
    high = np.ceil((last + margin) / block).astype(int) * block
    # The border is repeated only where the frame itself leaves the image, not where only the margin does.
    low = np.where(first < 0.0, low, np.maximum(low, 0))
    high = np.where(last > limits, high, np.minimum(high, -(-limits // block) * block))
    begin, end = np.maximum(low, 0), np.minimum(high, limits)
    region = image.reduce(block, box=(*begin.tolist(), *end.tolist()))
    before = (begin - low) // block
    after = (high - low) // block - before - region.size
    if before.any() or after.any():
        padding = ((before[1], after[1]), (before[0], after[0]), (0, 0))
        region = Image.fromarray(np.pad(np.asarray(region), padding, mode="edge"))
    return region, low
