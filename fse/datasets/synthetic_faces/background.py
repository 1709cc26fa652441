"""Backgrounds: noise, stripes and clutter, sampled without knowledge of the face."""

import numpy as np
from PIL import Image

from fse.datasets.synthetic_faces.canvas import OVERSAMPLING, Canvas, disc
from fse.datasets.synthetic_faces.colors import sample_skin


def draw_background(random: np.random.RandomState, size: int) -> Image.Image:
    """Draw smooth noise of four octaves, in a third of the images stripes, and clutter.

    Args:
      random: the stream of the background.
      size: width and height of the image in pixels.

    Returns:
      RGB, oversampled.
    """
    image = np.tile(np.float32(random.uniform(30.0, 225.0) + random.normal(size=3) * 25.0), (size, size, 1))
    vivid = random.rand()  # 0: gray noise, 1: noise of its own in every channel
    for cells in (2, 5, 11, 24):
        gray, hue = random.randint(0, 256, (cells, cells, 1)), random.randint(0, 256, (cells, cells, 3))
        noise = (gray + vivid * (hue - gray)).astype(np.uint8)
        smooth = np.asarray(Image.fromarray(noise).resize((size, size), Image.Resampling.BICUBIC), np.float32)
        image += (smooth - 128.0) * np.float32(random.uniform(0.0, 0.4))
    if random.rand() < 0.35:
        image += _stripes(random, size)
    pixels = Image.fromarray(np.clip(image, 0.0, 255.0).astype(np.uint8))
    background = pixels.resize((size * OVERSAMPLING,) * 2, Image.Resampling.NEAREST)
    _draw_clutter(Canvas(background), random)
    return background


def _stripes(random: np.random.RandomState, size: int) -> np.ndarray:
    """Sample stripes of any direction, width and color: float32 [size, size, 3], to be added to 0..255."""
    x_frequency, y_frequency = random.normal(size=2) * 25.0
    ticks = np.arange(size, dtype=np.float32) / size
    waves = np.sin(x_frequency * ticks[None, :] + y_frequency * ticks[:, None] + random.uniform(0.0, 6.0))
    stripes: np.ndarray = np.clip(3.0 * waves, -1.0, 1.0)[..., None] * np.float32(random.uniform(-40.0, 40.0, 3))
    return stripes


def _draw_clutter(canvas: Canvas, random: np.random.RandomState) -> None:
    """Draw up to 13 discs, polygons and rods anywhere, a third of them in a color of skin."""
    for _ in range(random.randint(0, 14)):
        color = sample_skin(random) if random.rand() < 0.3 else random.uniform(0.0, 1.0, 3)
        center, opacity = random.uniform(0.0, 1.0, 2), random.uniform(0.4, 1.0)
        shape = random.randint(3)
        if shape == 0:
            canvas.fill(disc(center, random.uniform(0.02, 0.2, 2)), color, opacity)
        elif shape == 1:
            canvas.fill(center + random.normal(size=(random.randint(3, 6), 2)) * 0.12, color, opacity)
        else:
            rod = np.stack([center, center + random.normal(size=2) * 0.4])
            canvas.line(rod, color, random.uniform(0.01, 0.05), opacity)
