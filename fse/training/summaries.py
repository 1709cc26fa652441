"""TensorBoard summaries of a training: scalars, and a pair of views with heatmaps and landmarks.

The images have the names that the reference implementations gave them:

    Input     the first view of an image          PredA     its heatmaps, averaged over the landmarks
    Deformed  the second view of the same image   Landmark  the first view with its landmarks
"""

import colorsys
import io
from typing import Any, Dict

import numpy as np
from PIL import Image, ImageDraw

from fse.tf1 import tf


def scalars(values: Dict[str, float]) -> Any:
    """Return a summary of numbers by name."""
    return tf.Summary(value=[tf.Summary.Value(tag=name, simple_value=value) for name, value in values.items()])


def pair(views: np.ndarray, heatmaps: np.ndarray, ticks: np.ndarray) -> Any:
    """Return a summary of four images: Input, Deformed, PredA and Landmark.

    Args:
      views: float32 [2, view, view, 3] in [-1, 1], two views of an image.
      heatmaps: float32 [cells * cells, K], the heatmaps of the first view, each sums to 1.
      ticks: [cells] coordinates of the rows and of the columns of cells, in [-1, 1] over the view.
    """
    first, second = (Image.fromarray(np.rint((view + 1.0) * 127.5).astype(np.uint8)) for view in views)
    maps = heatmaps.reshape(len(ticks), len(ticks), -1)  # [rows, columns, K]
    mean = heatmaps.mean(axis=1).reshape(len(ticks), len(ticks))
    gray = Image.fromarray(np.rint(255.0 * mean / np.max(mean)).astype(np.uint8))
    # The expected x and y under the marginals of each heatmap over columns and rows, [cells] @ [cells, K].
    points = np.stack([ticks @ maps.sum(axis=0), ticks @ maps.sum(axis=1)], axis=-1)
    images = {
        "Input": first,
        "Deformed": second,
        "PredA": gray.resize(first.size),
        "Landmark": _draw_points(first, points),
    }
    return tf.Summary(value=[tf.Summary.Value(tag=name, image=_encode(image)) for name, image in images.items()])


def _draw_points(image: Image.Image, points: np.ndarray) -> Image.Image:
    """Return a copy of an image with a dot on each of the [K, 2] points, every dot in its own hue."""
    copy, radius = image.copy(), image.width / 60.0
    for number, (x, y) in enumerate((points + 1.0) * image.width / 2.0):
        hue = tuple(int(255 * part) for part in colorsys.hsv_to_rgb(number / len(points), 1.0, 1.0))
        ImageDraw.Draw(copy).ellipse([x - radius, y - radius, x + radius, y + radius], fill=hue)
    return copy


def _encode(image: Image.Image) -> Any:
    """Return an image as a TensorBoard image, PNG."""
    stream = io.BytesIO()
    image.save(stream, "PNG")
    return tf.Summary.Image(
        height=image.height,
        width=image.width,
        colorspace=len(image.getbands()),
        encoded_image_string=stream.getvalue(),
    )
