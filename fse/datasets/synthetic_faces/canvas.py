"""The canvas on which a face is drawn: colors, and a mask of the figure that light falls on. Colors are RGB in [0, 1]."""

import functools
from typing import List, Sequence, Tuple, Union

import numpy as np
from PIL import Image, ImageDraw

# The canvas has this many pixels per pixel of the image along a side; reducing it antialiases the edges.
OVERSAMPLING = 2


class Canvas:
    """An oversampled image, and a mask of the same size. Points are [n, 2] in image widths.

    Args:
      background: RGB; the canvas draws on it.
    """

    def __init__(self, background: Image.Image) -> None:
        self.colors = background
        self.figure = Image.new("L", background.size)  # 255 where the figure is
        self._color_pen = ImageDraw.Draw(self.colors, "RGBA")
        self._figure_pen = ImageDraw.Draw(self.figure)

    def fill(self, points: np.ndarray, color: np.ndarray, opacity: float = 1.0) -> None:
        """Fill a polygon."""
        self._color_pen.polygon(self._pixels(points), fill=_rgba(color, opacity))

    def fill_figure(self, points: np.ndarray, color: np.ndarray) -> None:
        """Fill a polygon that belongs to the figure, so that light falls on it."""
        self.fill(points, color)
        self._figure_pen.polygon(self._pixels(points), fill=255)

    def line(self, points: np.ndarray, color: np.ndarray, width: float, opacity: float = 1.0) -> None:
        """Draw a polygonal line; `width` is in image widths."""
        pixels = max(1, round(width * self.colors.width))
        self._color_pen.line(self._pixels(points), fill=_rgba(color, opacity), width=pixels, joint="curve")

    def _pixels(self, points: np.ndarray) -> List[float]:
        """Return x and y of each point in turn, in pixels of the canvas."""
        pixels: List[float] = (points * self.colors.width).ravel().tolist()
        return pixels


def disc(center: np.ndarray, radii: Union[float, Sequence[float], np.ndarray], count: int = 20) -> np.ndarray:
    """Return [count, 2] points of a circle or ellipse, clockwise from the right."""
    points: np.ndarray = center + circle(count) * radii
    return points


@functools.lru_cache(maxsize=None)
def circle(count: int) -> np.ndarray:
    """Return [count, 2] points of the unit circle."""
    angle = np.linspace(0.0, 2.0 * np.pi, count, endpoint=False)
    return np.stack([np.cos(angle), np.sin(angle)], axis=-1)


def _rgba(color: np.ndarray, opacity: float) -> Tuple[int, ...]:
    return tuple(int(255.0 * min(1.0, max(0.0, value))) for value in (*color, opacity))
