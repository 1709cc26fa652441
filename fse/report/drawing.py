"""Drawing of landmarks and heatmaps on images.

Images are uint8 [height, width, 3]. Points are (x, y) in [-1, 1] between the outer edges of the image (see `fse`), so
they do not depend on the enlargement. Landmark k has the same color, shape and number in every drawing.
"""

import functools
import os
from pathlib import Path
from typing import Callable, List, Optional, Sequence, Tuple

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from fse import geometry

Color = Tuple[int, int, int]
# Signed distance of offsets (x, y) from the center of a shape to its edge or line; the third argument is its radius.
Shape = Callable[[np.ndarray, np.ndarray, float], np.ndarray]

# Ten hues that people with red-green color blindness can tell apart. Seven are from Okabe and Ito (Color Universal
# Design, 2008). The last three are far from those in OKLab, also in simulations of protanopia and deuteranopia.
_HUES: Tuple[Color, ...] = (
    (0x56, 0xB4, 0xE9),
    (0xE6, 0x9F, 0x00),
    (0x00, 0x9E, 0x73),
    (0xF0, 0xE4, 0x42),
    (0x00, 0x72, 0xB2),
    (0xD5, 0x5E, 0x00),
    (0xCC, 0x79, 0xA7),
    (0x90, 0x13, 0x08),
    (0x84, 0xEA, 0xD7),
    (0x6B, 0x37, 0x67),
)
# Landmarks beyond the first ten repeat the hues mixed with white or black: (gray level, share of the gray level).
_TINTS = ((0, 0.0), (255, 0.5), (0, 0.4), (255, 0.7), (0, 0.65))
_DARK, _LIGHT = (16, 20, 24), (255, 255, 255)
_ENLARGED = 320  # small images are enlarged to this many pixels


def colors(count: int) -> List[Color]:
    """Return the colors (red, green, blue in 0..255) of landmarks 0 to `count` - 1. The first fifty are distinct."""
    return [_color(number) for number in range(count)]


def draw_landmarks(image: np.ndarray, points: np.ndarray, scale: Optional[float] = None) -> Image.Image:
    """Draw points as numbered markers: discs for landmarks 0 to 9, squares to 19, diamonds to 29, then discs again.

    Args:
      image: uint8 [height, width, 3].
      points: [K, 2] in [-1, 1]. Markers outside the image are clipped. Points that are not finite are omitted.
      scale: enlargement; None enlarges a small image to 320 pixels and leaves a larger image unchanged.
    """
    canvas = enlarge(image, scale)
    # Many landmarks get smaller markers.
    radius = 0.047 * min(canvas.size) * min(1.0, (12.0 / max(len(points), 1)) ** 0.25)
    for number, (x, y) in _in_pixels(points, canvas):
        _numbered_marker(canvas, x, y, radius, number)
    return canvas


def draw_comparison(
    image: np.ndarray, annotated: np.ndarray, predicted: np.ndarray, scale: Optional[float] = None
) -> Image.Image:
    """Draw annotated points as rings and predicted points as crosses, joined by a line of the same color.

    Args:
      image: uint8 [height, width, 3].
      annotated: [L, 2] in [-1, 1]; clipped and omitted as in `draw_landmarks`.
      predicted: [L, 2], like `annotated`.
      scale: as in `draw_landmarks`.
    """
    canvas = enlarge(image, scale)
    radius = 0.045 * min(canvas.size) * min(1.0, (12.0 / max(len(annotated), 1)) ** 0.25)
    rings, crosses = dict(_in_pixels(annotated, canvas)), dict(_in_pixels(predicted, canvas))
    for number in sorted(set(rings) & set(crosses)):
        ImageDraw.Draw(canvas).line([*rings[number], *crosses[number]], _color(number), max(1, round(radius / 5)))
    for number, (x, y) in rings.items():
        _annotated_marker(canvas, x, y, radius, number)
    for number, (x, y) in crosses.items():
        _predicted_marker(canvas, x, y, radius, number)
    return canvas


def draw_annotated(image: np.ndarray, points: np.ndarray, scale: Optional[float] = None) -> Image.Image:
    """Draw annotated points as rings; the arguments are those of `draw_comparison`."""
    return draw_comparison(image, points, np.zeros((0, 2)), scale)


def draw_spread(image: np.ndarray, shapes: np.ndarray, scale: Optional[float] = None) -> Image.Image:
    """Draw the points of many shapes as dots over the dimmed image, and their means as rings.

    Args:
      image: uint8 [height, width, 3].
      shapes: [n, L, 2] in [-1, 1]; clipped and omitted as in `draw_landmarks`.
      scale: as in `draw_landmarks`.
    """
    canvas = Image.fromarray(np.rint(_dimmed(enlarge(image, scale))).astype(np.uint8)).convert("RGB")
    draw, radius = ImageDraw.Draw(canvas), 0.004 * min(canvas.size)
    for shape in shapes:
        for number, (x, y) in _in_pixels(shape, canvas):
            draw.ellipse([x - radius, y - radius, x + radius, y + radius], fill=_color(number))
    return draw_annotated(np.asarray(canvas), shapes.mean(axis=0), scale=1.0)


def contact_sheet(tiles: Sequence[Image.Image], columns: int) -> Image.Image:
    """Return images of equal size in a grid on white, row by row, with at most `columns` in a row."""
    gap, (width, height) = 4, tiles[0].size
    columns, rows = min(columns, len(tiles)), -(-len(tiles) // columns)
    sheet = Image.new("RGB", (columns * (width + gap) - gap, rows * (height + gap) - gap), _LIGHT)
    for index, tile in enumerate(tiles):
        sheet.paste(tile, (index % columns * (width + gap), index // columns * (height + gap)))
    return sheet


def overlay_heatmaps(
    image: np.ndarray,
    maps: np.ndarray,
    palette: Sequence[Color],
    ticks: Optional[np.ndarray] = None,
    scale: Optional[float] = None,
) -> Image.Image:
    """Overlay heatmaps on the dimmed image, each in its color and normalized to its maximum.

    Args:
      image: uint8 [height, width, 3].
      maps: [rows, columns, K], not negative.
      palette: K colors.
      ticks: [cells] centers of the rows and of the columns of cells, in [-1, 1]; None if they divide the image evenly.
      scale: as in `draw_landmarks`.
    """
    canvas = enlarge(image, scale)
    width, height = canvas.size
    interpolation_x = _interpolation(width, geometry.centers(maps.shape[1]) if ticks is None else ticks)
    interpolation_y = _interpolation(height, geometry.centers(maps.shape[0]) if ticks is None else ticks)
    # The color of a pixel is the mean of the landmarks' colors, weighted with their squared strengths: the strongest
    # landmark dominates.
    tint, weight = np.zeros((height, width, 3)), np.full((height, width, 1), 1e-9)
    strongest = np.zeros((height, width, 1))
    for number, color in enumerate(palette):
        # Separable linear interpolation: [height, rows] @ [rows, columns] @ [columns, width].
        strength = (interpolation_y @ maps[:, :, number].astype(np.float64) @ interpolation_x.T)[:, :, None]
        strength /= max(float(maps[:, :, number].max()), 1e-12)
        tint += strength**2 * np.array(color, np.float64) * (255.0 / max(color))  # a dark color would be invisible
        weight += strength**2
        strongest = np.maximum(strongest, strength)
    gray = _dimmed(canvas)[:, :, None]
    mixed = gray + 0.9 * np.minimum(strongest, 1.0) * (tint / weight - gray)
    return Image.fromarray(np.clip(np.rint(mixed), 0, 255).astype(np.uint8))


def landmark_key(number: int, size: int) -> Image.Image:
    """Return the marker of a discovered landmark for a legend: RGBA, `size` x `size` pixels."""
    image = Image.new("RGBA", (size, size), (0, 0, 0, 0))
    _numbered_marker(image, size / 2.0, size / 2.0, size * 0.36, number)
    return image


def comparison_key(number: int, size: int) -> Image.Image:
    """Return the ring and the cross of an annotated point for a legend: RGBA, `2 * size` x `size` pixels."""
    image = Image.new("RGBA", (2 * size, size), (0, 0, 0, 0))
    _annotated_marker(image, size * 0.5, size / 2.0, size * 0.34, number)
    _predicted_marker(image, size * 1.4, size / 2.0, size * 0.34, number)
    return image


def enlarge(image: np.ndarray, scale: Optional[float] = None) -> Image.Image:
    """Return an image resized by Lanczos interpolation; `scale` is that of `draw_landmarks`."""
    height, width = image.shape[:2]
    scale = max(1.0, _ENLARGED / float(max(height, width))) if scale is None else scale
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return Image.fromarray(np.ascontiguousarray(image)).resize(size, Image.Resampling.LANCZOS)


def _dimmed(image: Image.Image) -> np.ndarray:
    """Return gray levels [height, width], dark enough that colors on them are visible."""
    return np.asarray(image.convert("L"), np.float64) * 0.45 + 12.0


def _color(number: int) -> Color:
    gray, share = _TINTS[number // len(_HUES) % len(_TINTS)]
    red, green, blue = (round(value + share * (gray - value)) for value in _HUES[number % len(_HUES)])
    return red, green, blue


def _in_pixels(points: np.ndarray, image: Image.Image) -> List[Tuple[int, Tuple[float, float]]]:
    """Return (number, (x, y)) of each finite point, in pixels from the top left corner of the image."""
    pixels = geometry.to_pixels(np.asarray(points, np.float64).reshape(-1, 2), image.size)
    # A bad prediction can be so far outside that its coordinates overflow Pillow's integers.
    pixels = np.clip(pixels, -1e4, 1e4 + max(image.size))
    return [(number, (float(x), float(y))) for number, (x, y) in enumerate(pixels) if np.isfinite(x + y)]


def _interpolation(size: int, ticks: np.ndarray) -> np.ndarray:
    """Return the matrix [size, cells] that interpolates linearly from cells to pixels.

    Args:
      size: number of pixels.
      ticks: [cells] centers of the cells in [-1, 1]. Pixels outside the cells get the value zero.
    """
    pixels = geometry.centers(size)
    # Column k interpolates a map that is one in cell k and zero elsewhere.
    weights = np.stack([np.interp(pixels, ticks, unit) for unit in np.eye(len(ticks))], axis=1)
    half = (ticks[1] - ticks[0]) / 2.0 if len(ticks) > 1 else 1.0
    weights[(pixels < ticks[0] - half) | (pixels > ticks[-1] + half)] = 0.0
    return weights


def _disc(x: np.ndarray, y: np.ndarray, radius: float) -> np.ndarray:
    distance: np.ndarray = np.hypot(x, y) - radius
    return distance


def _square(x: np.ndarray, y: np.ndarray, radius: float) -> np.ndarray:
    distance: np.ndarray = np.maximum(np.abs(x), np.abs(y)) - 0.9 * radius
    return distance


def _diamond(x: np.ndarray, y: np.ndarray, radius: float) -> np.ndarray:
    distance: np.ndarray = (np.abs(x) + np.abs(y)) / np.sqrt(2.0) - 0.9 * radius
    return distance


def _ring(x: np.ndarray, y: np.ndarray, radius: float) -> np.ndarray:
    distance: np.ndarray = np.abs(np.hypot(x, y) - radius)
    return distance


def _cross(x: np.ndarray, y: np.ndarray, radius: float) -> np.ndarray:
    # The arms are diagonals. |x + y| / sqrt(2) and |x - y| / sqrt(2) are the coordinates along and across the nearer arm.
    along = np.maximum(np.abs(x + y), np.abs(x - y)) / np.sqrt(2.0)
    across = np.minimum(np.abs(x + y), np.abs(x - y)) / np.sqrt(2.0)
    distance: np.ndarray = np.hypot(np.maximum(along - radius, 0.0), across)
    return distance


_SHAPES = (_disc, _square, _diamond)  # of landmarks 0 to 9, 10 to 19 and 20 to 29


def _numbered_marker(image: Image.Image, x: float, y: float, radius: float, number: int) -> None:
    """Draw the marker of a discovered landmark: a filled shape with its number."""
    color = _color(number)
    _paint_shape(image, x, y, radius, 0.0, color, _SHAPES[number // len(_HUES) % len(_SHAPES)])
    text = str(number)
    font = _font(max(6, round(radius * (1.45, 1.2, 0.9)[min(len(text), 3) - 1])))
    left, top, right, bottom = font.getbbox(text)
    bright = 0.299 * color[0] + 0.587 * color[1] + 0.114 * color[2] > 120  # luma of ITU-R BT.601
    corner = (round(x - (left + right) / 2.0), round(y - (top + bottom) / 2.0))
    ImageDraw.Draw(image).text(corner, text, fill=_DARK if bright else _LIGHT, font=font)


def _annotated_marker(image: Image.Image, x: float, y: float, radius: float, number: int) -> None:
    _paint_shape(image, x, y, radius, 0.14 * radius, _color(number), _ring)


def _predicted_marker(image: Image.Image, x: float, y: float, radius: float, number: int) -> None:
    _paint_shape(image, x, y, 0.6 * radius, 0.15 * radius, _color(number), _cross)


def _paint_shape(
    image: Image.Image, x: float, y: float, radius: float, half_width: float, color: Color, shape: Shape
) -> None:
    """Paint a shape with a light and a dark outline, so that it is visible on any background.

    The opacity of a pixel follows from the distance of its center to the shape. This makes edges smooth and centers the
    shape with subpixel accuracy.

    Args:
      image: the image to paint on.
      x: center in pixels from the left edge.
      y: center in pixels from the top edge.
      radius: of the shape in pixels.
      half_width: half the width of its line in pixels; 0 for a filled shape.
      color: of the shape.
      shape: the distance function of the shape.
    """
    outline = max(1.0, min(radius * 0.13, 3.0))
    margin = int(np.ceil(radius * 1.5 + half_width + 2.0 * outline)) + 1
    left, top = int(np.floor(x)) - margin, int(np.floor(y)) - margin
    centers = np.arange(2 * margin + 1) + 0.5
    offset_x, offset_y = np.meshgrid(centers + left - x, centers + top - y)
    distance = shape(offset_x, offset_y, radius) - half_width
    for widening, paint in ((1.6 * outline, _DARK), (outline, _LIGHT), (0.0, color)):
        opacity = np.clip(widening + 0.5 - distance, 0.0, 1.0)
        image.paste(paint, (left, top), Image.fromarray(np.rint(255.0 * opacity).astype(np.uint8)))


@functools.lru_cache(maxsize=None)
def _font(size: int) -> ImageFont.FreeTypeFont:
    """Return the DejaVu Sans that comes with Matplotlib, so that images look the same on every machine."""
    path = Path(matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSans-Bold.ttf")
    return ImageFont.truetype(os.fspath(path), size)
