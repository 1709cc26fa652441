"""Light on the figure, and the camera: exposure, contrast, color cast, blur and noise."""

import numpy as np
from PIL import Image, ImageFilter

from fse.datasets.synthetic_faces.model import Face


def sample_light(random: np.random.RandomState) -> np.ndarray:
    """Sample where the light comes from, mostly above and in front.

    Returns:
      [3], right, down and front; its length is the strength of the shading.
    """
    direction = np.array([random.uniform(-1.0, 1.0), random.uniform(-0.8, 0.2), random.uniform(0.4, 1.0)])
    light: np.ndarray = direction / np.sqrt((direction**2).sum()) * random.uniform(0.2, 0.75)
    return light


def shading(face: Face, light: np.ndarray, size: int) -> np.ndarray:
    """Return the brightness of the head's ellipsoid; outside it, the silhouette's nearest point counts.

    Args:
      face: the face.
      light: see `sample_light`.
      size: width and height of the image in pixels.

    Returns:
      float32 [size, size], a factor around 1.
    """
    ticks = ((np.arange(size) + 0.5) / size).astype(np.float32)
    x = ((ticks - float(face.center[0])) / face.radius)[None, :]
    y = ((ticks - float(face.center[1])) / (face.radius * face.aspect))[:, None]
    outside = np.maximum(1.0, np.sqrt(x * x + y * y))
    x, y = x / outside, y / outside
    z = np.sqrt(np.maximum(0.0, 1.0 - x * x - y * y))
    right, down, front = light.tolist()
    # Lambert's cosine law for the normal (x, y, z), over ambient light that keeps the face's mean brightness.
    brightness: np.ndarray = (1.0 - 0.6 * front) + right * x + down * y + front * z
    return brightness


def photograph(light: np.ndarray, random: np.random.RandomState) -> np.ndarray:
    """Apply exposure, contrast, color cast, blur and sensor noise.

    Args:
      light: float32 [size, size, 3] in 0..255.
      random: the stream of the camera.

    Returns:
      uint8 [size, size, 3].
    """
    size = len(light)
    contrast, cast = float(np.exp(random.normal() * 0.15)), np.exp(random.normal(size=3) * 0.05).astype(np.float32)
    image = ((light - 128.0) * contrast + (128.0 + float(random.normal()) * 15.0)) * cast
    quantized = Image.fromarray(np.clip(image, 0.0, 255.0).astype(np.uint8))
    blurred = quantized.filter(ImageFilter.GaussianBlur(random.uniform(0.0, 0.8) * size / 128.0))
    # The sum of two uniform bytes is nearly normal, with a standard deviation of 104, and is sampled ten times as fast.
    pairs = np.frombuffer(random.bytes(2 * light.size), np.uint8).reshape((2,) + light.shape)
    noise = (pairs.sum(0, dtype=np.int16) - np.float32(255.0)) * np.float32(random.uniform(0.5, 5.0) / 104.0)
    noisy: np.ndarray = np.clip(np.asarray(blurred, np.float32) + noise + 0.5, 0.0, 255.0).astype(np.uint8)
    return noisy
