"""Random warps and colors of training views: the numbers. `fse.inputs.rendering` makes the views from them.

The views of an image are training pairs, two by two. Each view has its own thin-plate-spline warp and its own colors. A
warp maps points of the view to points of the image, both in half-widths of the view around the image's center (see
`fse.geometry`). All views of an image refer to that one image, so a loss can compare their landmarks there: no warp has
to be inverted, and no two warps have to be composed.
"""

import math
from typing import NamedTuple

import numpy as np

from fse import geometry
from fse.config import Augment
from fse.errors import ConfigError

# Normal numbers are clipped at this many standard deviations, so that warps have a largest size: see `check_jitter`.
_CLIP = 2.0


class ViewSamples(NamedTuple):
    """The sampled warps and colors of a batch of images, each seen in `views` ways.

    `geometry.warp_points(points, destinations[image, view])` maps points of a view to its image. A color c in [0, 1]
    becomes 0.5 + gain * (c - 0.5) + offset, clipped to [0, 1].
    """

    destinations: np.ndarray  # float32 [batch, views, C, 2]: where each warp sends the C control points
    gains: np.ndarray  # float32 [batch, views, 3]: contrast per RGB channel, about mid-gray
    offsets: np.ndarray  # float32 [batch, views, 3]: brightness per RGB channel


def check_jitter(settings: Augment) -> None:
    """Check that no warp that can be sampled folds an image over itself.

    Raises:
      ConfigError: `augment.control_point_jitter` is too large for the other settings.
    """
    # The affine part of a warp is a rotation times a scale, at the least exp(-2 * scale). The warp does not fold while
    # the displacements of control points change every directional derivative by less: see `geometry.max_spline_slope`.
    min_scale = math.exp(-_CLIP * settings.scale)
    max_jitter = min_scale / (_CLIP * math.sqrt(2.0) * geometry.max_spline_slope(settings.control_points))
    if settings.control_point_jitter >= max_jitter:
        raise ConfigError(
            f"augment.control_point_jitter must be below {max_jitter:.4f} for {settings.control_points} control points "
            f"per side and augment.scale {settings.scale}, so that no warp folds; got {settings.control_point_jitter}"
        )


def sample_views(settings: Augment, random: np.random.RandomState, batch: int, views: int) -> ViewSamples:
    """Sample warps and colors for `views` views of each of `batch` images.

    Normal numbers are clipped at two standard deviations. The views of one image are mirrored alike, because landmarks
    of a mirrored object are other landmarks; everything else is independent.
    """

    def normal(deviation: float, *shape: int) -> np.ndarray:
        return deviation * np.clip(random.standard_normal((batch, views) + shape), -_CLIP, _CLIP)

    # The order of the calls below is part of the result: a seed gives the same views in every version.
    points = geometry.control_points(settings.control_points)
    angle, scale = normal(settings.rotation), np.exp(normal(settings.scale))
    cosine, sine = scale * np.cos(angle), scale * np.sin(angle)
    linear = np.stack([np.stack([cosine, -sine], -1), np.stack([sine, cosine], -1)], -2)  # [batch, views, 2, 2]
    destinations = np.einsum("bvij,cj->bvci", linear, points)
    destinations += normal(settings.shift, 1, 2) + normal(settings.control_point_jitter, len(points), 2)
    mirrored = (random.uniform(size=(batch, 1, 1)) < 0.5) & settings.flip
    destinations[..., 0] *= np.where(mirrored, -1.0, 1.0)
    gains = np.exp(normal(settings.contrast, 1)) * np.ones(3)
    offsets = normal(settings.brightness, 1) + normal(settings.color, 3)
    return ViewSamples(destinations.astype(np.float32), gains.astype(np.float32), offsets.astype(np.float32))


def identity_views(settings: Augment, batch: int) -> ViewSamples:
    """Return the samples that leave images as they are: one view each, the identity warp and unchanged colors."""
    points = geometry.control_points(settings.control_points).astype(np.float32)
    destinations = np.broadcast_to(points, (batch, 1) + points.shape)
    return ViewSamples(destinations, np.ones((batch, 1, 3), np.float32), np.zeros((batch, 1, 3), np.float32))


def sample_step(
    settings: Augment, seed: int, step: int, batch: int, views: int, rank: int = 0, ranks: int = 1
) -> ViewSamples:
    """Sample the views of one training step, which depend on the seed and the step alone.

    Every rank samples the whole batch and keeps its own images, so the number of ranks does not change the views.

    Args:
      settings: strength of the warps and color changes.
      seed: seed of the training.
      step: number of the step, from 0.
      batch: images per step, over all ranks.
      views: views per image.
      rank: this rank, which gets images `rank`, `rank + ranks`, … of the batch (see `records.repeated_batches`).
      ranks: number of ranks that share the batch.
    """
    samples = sample_views(settings, np.random.RandomState([seed, step]), batch, views)
    return ViewSamples(*(values[rank::ranks] for values in samples))
