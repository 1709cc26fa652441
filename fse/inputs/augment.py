"""Warped, recolored views of images: what is drawn at random. `fse.inputs.rendering` makes the views.

A training pair is two views of one image, each with its own thin-plate-spline warp and its own colors. A warp maps
view points to image points, both in half-widths of the view around the image's center; both views refer to the same
image, so their landmarks can be compared there exactly, without inverting or composing warps.
"""

import math
from typing import NamedTuple

import numpy as np

from fse import geometry
from fse.config import Augment
from fse.errors import ConfigError

# Standard deviations at which normal numbers are cut off.
_CUT = 2.0


class Draw(NamedTuple):
    """The random numbers of a batch of images seen in `views` ways.

    targets: float32 [batch, views, C, 2], where each warp sends the control points.
    gains:   float32 [batch, views, 3], multiplies the distance of a color from mid-gray.
    offsets: float32 [batch, views, 3], is added to a color in [0, 1].
    """

    targets: np.ndarray
    gains: np.ndarray
    offsets: np.ndarray


def check(settings: Augment) -> None:
    """Makes sure that no warp that can be drawn folds the image over itself.

    Raises:
      ConfigError: `augment.control_point_jitter` is too large for that.
    """
    shrinking = math.exp(-_CUT * settings.scale)
    largest = shrinking / (_CUT * math.sqrt(2.0) * geometry.largest_safe_jitter(settings.control_points))
    if settings.control_point_jitter >= largest:
        raise ConfigError(
            f"augment.control_point_jitter must be below {largest:.4f} for {settings.control_points} control points per side and augment.scale {settings.scale}, so that no warp folds; "
            f"got {settings.control_point_jitter}"
        )


def draw(settings: Augment, random: np.random.RandomState, batch: int, views: int) -> Draw:
    """Draws warps and colors. Every normal number is cut off at two standard deviations; see `check`.

    The views of one image share its mirroring and nothing else.
    """

    def normal(deviation: float, *shape: int) -> np.ndarray:
        return deviation * np.clip(random.standard_normal((batch, views) + shape), -_CUT, _CUT)

    points = geometry.control_points(settings.control_points)
    angle, scale = normal(settings.rotation), np.exp(normal(settings.scale))
    cosine, sine = scale * np.cos(angle), scale * np.sin(angle)
    linear = np.stack([np.stack([cosine, -sine], -1), np.stack([sine, cosine], -1)], -2)
    targets = np.einsum("bvij,cj->bvci", linear, points)
    targets += normal(settings.shift, 1, 2) + normal(settings.control_point_jitter, len(points), 2)
    mirrored = (random.uniform(size=(batch, 1, 1)) < 0.5) & settings.flip
    targets[..., 0] *= np.where(mirrored, -1.0, 1.0)
    gains = np.exp(normal(settings.contrast, 1)) * np.ones(3)
    offsets = normal(settings.brightness, 1) + normal(settings.color, 3)
    return Draw(targets.astype(np.float32), gains.astype(np.float32), offsets.astype(np.float32))


def unchanged(settings: Augment, batch: int) -> Draw:
    """The draw that leaves an image as it is: one view, the identity warp, the image's own colors."""
    points = geometry.control_points(settings.control_points).astype(np.float32)
    targets = np.broadcast_to(points, (batch, 1) + points.shape)
    return Draw(targets, np.ones((batch, 1, 3), np.float32), np.zeros((batch, 1, 3), np.float32))


def draw_step(settings: Augment, seed: int, step: int, batch: int, views: int, part: int = 0, parts: int = 1) -> Draw:
    """The draw of one step, which depends on the seed and the step alone.

    Of the batch, images `part`, `part + parts`, … (see `records.repeated_batches`).
    """
    drawn = draw(settings, np.random.RandomState([seed, step]), batch, views)
    return Draw(*(values[part::parts] for values in drawn))
