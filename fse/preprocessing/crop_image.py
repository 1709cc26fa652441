"""Cropping of one image: decode, resample, encode. The stage runs it in parallel processes."""

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Optional

import numpy as np
from PIL import Image

from fse import geometry
from fse.config import Crop as CropSettings
from fse.datasets import images
from fse.errors import ImageError
from fse.preprocessing import crop_frame
from fse.preprocessing.resample import resample

# An image is decoded to no fewer than this many pixels per pixel of the crop along a side; resampling does the rest.
_DECODED_PER_CROP_PIXEL = 2.0
# The filter that makes a crop smaller. Hamming's has half the taps of the bicubic one. On photographs of 178 pixels that
# become 146, it differs by 47.5 dB from crops of far larger images, and bicubic by 52.3 dB; but JPEG of quality 95 alone
# differs by 44.4 dB, so its crops gain nothing from the slower filter.
_SHRINK_FILTERS = {"png": Image.Resampling.BICUBIC, "jpeg": Image.Resampling.HAMMING}


@dataclass(frozen=True)
class CropJob:
    """An image to crop."""

    image: Path  # the file to read
    crop: Path  # the file to write
    points: np.ndarray  # float64 [L, 2], its landmarks in pixels
    size: Optional[np.ndarray]  # float64 [2], its annotated width and height, if any
    box: Optional[np.ndarray]  # float64 [4], x, y, width and height of its annotated box, if any


class CropResult(NamedTuple):
    """The outcome of a job: the landmarks in the crop, or the reason why there is no crop."""

    reason: str  # empty if the crop was written
    points: Optional[np.ndarray]  # float64 [L, 2] in [-1, 1] over the crop; None if it was not written


def crop_image(settings: CropSettings, mean: Optional[np.ndarray], job: CropJob) -> CropResult:
    """Crop one image and write the crop.

    Args:
      settings: the section `crop` of the configuration.
      mean: the mean shape, in mode `landmarks`.
      job: the image.

    Raises:
      OSError: the crop cannot be written. An image that cannot be used is a result, not an error.
    """
    try:
        if not np.isfinite(job.points).all():
            raise ImageError("a landmark without coordinates")
        frame = np.zeros((2, 3))

        def max_reduction(width: int, height: int) -> float:
            # The frame depends on the image's size, which the decoder reports here before it decodes any pixels.
            frame[:] = _checked_frame(settings, mean, job, np.array([width, height], np.float64))
            return float(np.min(crop_frame.sides(frame))) / (_DECODED_PER_CROP_PIXEL * settings.size)

        image, factor = images.decode_reduced(job.image, settings.max_pixels, max_reduction)
        crop = resample(image, frame / factor, settings.size, _SHRINK_FILTERS[settings.format])
    except ImageError as error:
        return CropResult(str(error), None)
    # Each format ignores the other's option.
    crop.save(job.crop, settings.format, quality=settings.quality, compress_level=1)
    return CropResult("", geometry.apply_affine(geometry.invert_affine(frame), job.points))


def _checked_frame(settings: CropSettings, mean: Optional[np.ndarray], job: CropJob, size: np.ndarray) -> np.ndarray:
    """Return the crop frame of an image whose annotations agree with its size.

    Args:
      settings: the section `crop` of the configuration.
      mean: the mean shape, in mode `landmarks`.
      job: the image.
      size: [2], its width and height in pixels.

    Returns:
      [2, 3] float64.

    Raises:
      ImageError: the annotations do not agree with the size, or do not define a frame.
    """
    if job.size is not None and (job.size != size).any():
        raise ImageError(f"{size[0]:g} x {size[1]:g} pixels, but annotated as {job.size[0]:g} x {job.size[1]:g}")
    overhang = settings.overhang * np.max(size)
    if (job.points < -overhang).any() or (job.points > size + overhang).any():
        raise ImageError("a landmark outside the image")
    return crop_frame.crop_frame_of(settings, mean, job.points, job.box, size)
