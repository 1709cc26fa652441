"""Warped, recoloured views of pictures: what is drawn at random (NumPy) and how it is rendered (TensorFlow, on the host).

A training pair is two views of one picture, each with its own thin-plate-spline warp and its own colours. A warp maps
view points to picture points, both in half-widths of the view around the picture's centre; both views refer to the same
picture, so their landmarks can be compared there exactly, without inverting or composing warps.
"""

import math
from typing import Any, Iterator, NamedTuple

import numpy as np

from fse import geometry
from fse.config import Augment
from fse.errors import ConfigError
from fse.tf1 import tf

# Standard deviations at which normal numbers are cut off.
_CUT = 2.0


class Draw(NamedTuple):
    """The random numbers of a batch of pictures seen in `views` ways.

    targets: float32 [batch, views, C, 2], where each warp sends the control points.
    gains:   float32 [batch, views, 3], multiplies the distance of a colour from mid-grey.
    offsets: float32 [batch, views, 3], is added to a colour in [0, 1].
    """

    targets: np.ndarray
    gains: np.ndarray
    offsets: np.ndarray


def check(settings: Augment) -> None:
    """Makes sure that no warp that can be drawn folds the picture over itself.

    Raises:
      ConfigError: `augment.bend` is too large for that.
    """
    shrinking = math.exp(-_CUT * settings.scale)
    largest = shrinking / (_CUT * math.sqrt(2.0) * geometry.steepest_bend(settings.control_points))
    if settings.bend >= largest:
        raise ConfigError(
            "augment.bend must be below {:.4f} for {} control points per side and augment.scale {}, so that no warp folds; "
            "got {}".format(largest, settings.control_points, settings.scale, settings.bend)
        )


def draw(settings: Augment, random: np.random.RandomState, batch: int, views: int) -> Draw:
    """Draws warps and colours. Every normal number is cut off at two standard deviations; see `check`.

    The views of one picture share its mirroring and nothing else.
    """

    def normal(deviation: float, *shape: int) -> np.ndarray:
        return deviation * np.clip(random.standard_normal((batch, views) + shape), -_CUT, _CUT)

    points = geometry.control_points(settings.control_points)
    angle, scale = normal(settings.rotation), np.exp(normal(settings.scale))
    cosine, sine = scale * np.cos(angle), scale * np.sin(angle)
    linear = np.stack([np.stack([cosine, -sine], -1), np.stack([sine, cosine], -1)], -2)
    targets = np.einsum("bvij,cj->bvci", linear, points)
    targets += normal(settings.shift, 1, 2) + normal(settings.bend, len(points), 2)
    mirrored = (random.uniform(size=(batch, 1, 1)) < 0.5) & settings.flip
    targets[..., 0] *= np.where(mirrored, -1.0, 1.0)
    gains = np.exp(normal(settings.contrast, 1)) * np.ones(3)
    offsets = normal(settings.brightness, 1) + normal(settings.colour, 3)
    return Draw(targets.astype(np.float32), gains.astype(np.float32), offsets.astype(np.float32))


def unchanged(settings: Augment, batch: int) -> Draw:
    """The draw that leaves a picture as it is: one view, the identity warp, the picture's own colours."""
    points = geometry.control_points(settings.control_points).astype(np.float32)
    targets = np.broadcast_to(points, (batch, 1) + points.shape)
    return Draw(targets, np.ones((batch, 1, 3), np.float32), np.zeros((batch, 1, 3), np.float32))


def draws(
    settings: Augment, seed: int, batch: int, views: int, first: int, last: int, part: int = 0, parts: int = 1
) -> Iterator[Draw]:
    """The draws of steps `first` … `last - 1`; each depends on the seed and its own step alone.

    Of a batch's draws, pictures `part`, `part + parts`, … (see `records.endless`).
    """
    for step in range(first, last):
        drawn = draw(settings, np.random.RandomState([seed, step]), batch, views)
        yield Draw(*(values[part::parts] for values in drawn))


def render(pictures: Any, sampled: Any, basis: np.ndarray, view: int) -> Any:
    """Renders views by bilinear interpolation; beyond its edge a picture goes on as its mirror image.

    Args:
      pictures: uint8 tensor [batch, size, size, 3] of static shape.
      sampled: a `Draw` of tensors.
      basis: [view * view, C], `geometry.spline_basis` at the view's pixel centres.
      view: width and height of a view in pixels, at the pictures' own resolution.

    Returns:
      float32 tensor [batch * views, view, view, 3] in [-1, 1]; the views of a picture follow one another.
    """
    batch, size = pictures.shape.as_list()[:2]
    views, points = sampled.targets.shape.as_list()[1:3]
    count = batch * views
    # From half-widths of the view to pixels of the picture.
    targets = tf.reshape(sampled.targets, [count, points, 2]) * (view / 2.0) + size / 2.0
    where = _coordinates(basis, targets)
    # Mirrored back into the picture; then 0 and 1 are the centres of the first and the last pixel.
    where -= 2.0 * size * tf.floor(where / (2.0 * size))
    where = ((size - 0.5) - tf.abs(where - size)) / (size - 1.0)
    x, y = tf.unstack(tf.minimum(tf.maximum(where, 0.0), 1.0))
    # A point is sampled as a crop of one pixel: a box without extent, y, x, y, x. Nothing else that TensorFlow has
    # interpolates in one operation, let alone straight from bytes.
    corners = tf.bitcast(tf.complex(y, x), tf.float64)
    boxes = tf.reshape(tf.bitcast(tf.complex(corners, corners), tf.float32), [count * view * view, 4])
    pictures_of_boxes = np.repeat(np.arange(batch, dtype=np.int32), views * view * view)
    colours = tf.image.crop_and_resize(pictures, boxes, pictures_of_boxes, [1, 1])
    # In rows of many pixels, since products of rows of three numbers are several times as slow.
    gains, offsets = (tf.reshape(part, [count, 1, 3]) for part in (sampled.gains, sampled.offsets))
    gains, offsets = (tf.tile(part, [1, 1, view]) for part in (gains * (2.0 / 255.0), 2.0 * offsets - gains))
    colours = tf.reshape(colours, [count, view, view * 3]) * gains + offsets
    return tf.reshape(tf.minimum(tf.maximum(colours, -1.0), 1.0), [count, view, view, 3])


def apply_basis(basis: np.ndarray, targets: Any) -> Any:
    """Evaluates warps: [points, C] basis and float32 tensor [count, C, 2] targets to a tensor [count, points, 2]."""
    x, y = tf.unstack(_coordinates(basis, targets))
    return tf.bitcast(tf.complex(x, y), tf.float32)


def _coordinates(basis: np.ndarray, targets: Any) -> Any:
    """As `apply_basis`, but to [2, count, points]: all x before all y.

    So one matrix product serves the whole batch, and what follows has long rows. To put x beside y afterwards, take them
    for the parts of complex numbers: of TensorFlow's operations those that stack or transpose are many times as slow.
    """
    count, controls, _ = targets.shape.as_list()
    rows = tf.reshape(tf.transpose(targets, [2, 0, 1]), [2 * count, controls])
    return tf.reshape(tf.matmul(rows, tf.constant(basis.T, tf.float32)), [2, count, len(basis)])


def pixel_basis(settings: Augment, view: int) -> np.ndarray:
    """float32 [view * view, C]: the spline basis at a view's pixel centres, row by row."""
    ticks = geometry.centres(view)
    return geometry.spline_basis(geometry.grid(ticks, ticks), settings.control_points).astype(np.float32)
