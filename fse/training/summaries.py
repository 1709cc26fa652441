"""What TensorBoard shows of a training: scalars, and a pair of views under the names that the replaced codes gave them.

Input     the first view of an image          PredA     its heatmaps, averaged over the landmarks
Deformed  the second view of the same image  Landmark  the first view with its landmarks
"""

import colorsys
import io
from typing import Any, Dict

import numpy as np
from PIL import Image, ImageDraw

from fse.tf1 import tf


def scalars(values: Dict[str, float]) -> Any:
    """A summary of numbers by name."""
    return tf.Summary(value=[tf.Summary.Value(tag=name, simple_value=value) for name, value in values.items()])


def pair(views: np.ndarray, maps: np.ndarray, ticks: np.ndarray) -> Any:
    """A summary of four images: Input, Deformed, PredA, Landmark.

    Args:
      views: float32 [2, view, view, 3] in [-1, 1], the two views of an image.
      maps: float32 [cells * cells, K], heatmaps of the first, each sums to 1.
      ticks: [cells], where the rows and the columns of cells lie in the view, in [-1, 1].
    """
    first, second = (Image.fromarray(np.rint((view + 1.0) * 127.5).astype(np.uint8)) for view in views)
    mean = maps.mean(axis=1).reshape(len(ticks), len(ticks))
    gray = Image.fromarray(np.rint(255.0 * mean / np.max(mean)).astype(np.uint8))
    across = maps.reshape(len(ticks), len(ticks), -1).sum(axis=0)
    down = maps.reshape(len(ticks), len(ticks), -1).sum(axis=1)
    points = np.stack([ticks @ across, ticks @ down], axis=-1)
    images = {
        "Input": first,
        "Deformed": second,
        "PredA": gray.resize(first.size),
        "Landmark": _marked(first, points),
    }
    return tf.Summary(value=[tf.Summary.Value(tag=name, image=_encoded(shown)) for name, shown in images.items()])


def _marked(image: Image.Image, points: np.ndarray) -> Image.Image:
    """A copy of an image with a dot of its own hue on each of the [K, 2] points."""
    marked, radius = image.copy(), image.width / 60.0
    for number, (x, y) in enumerate((points + 1.0) * image.width / 2.0):
        hue = tuple(int(255 * part) for part in colorsys.hsv_to_rgb(number / len(points), 1.0, 1.0))
        ImageDraw.Draw(marked).ellipse([x - radius, y - radius, x + radius, y + radius], fill=hue)
    return marked


def _encoded(image: Image.Image) -> Any:
    stream = io.BytesIO()
    image.save(stream, "PNG")
    return tf.Summary.Image(
        height=image.height,
        width=image.width,
        colorspace=len(image.getbands()),
        encoded_image_string=stream.getvalue(),
    )
