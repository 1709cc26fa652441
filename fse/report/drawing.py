"""Drawing landmarks and heatmaps on images.

Images are uint8 [height, width, 3]; points are `(x, y)` in [-1, 1] over the image's outer edges (see `fse`), so they
keep their place at any enlargement. Landmark k has the same color, shape and number in every drawing.
"""

import functools
from pathlib import Path
from typing import Callable, List, Optional, Sequence, Tuple

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from fse import geometry

Color = Tuple[int, int, int]
Shape = Callable[[np.ndarray, np.ndarray, float], np.ndarray]  # distance of (x, y) from the shape's edge or line

# Ten hues that stay apart in red-green blindness: seven of Okabe and Ito (Color Universal Design, 2008), and three that
# lie far from them in OKLab, also as a protanope and a deuteranope see them.
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
# Landmarks beyond the first ten repeat the hues, mixed with white or black: (gray level, its share).
_TINTS = ((0, 0.0), (255, 0.5), (0, 0.4), (255, 0.7), (0, 0.65))
_DARK, _LIGHT = (16, 20, 24), (255, 255, 255)
_SIDE = 320  # pixels to which small images are enlarged


def colors(count: int) -> List[Color]:
    """Colors (red, green, blue in 0..255) of landmarks 0 to `count` - 1; the first fifty are all different."""
    return [_color(number) for number in range(count)]


def draw_landmarks(image: np.ndarray, points: np.ndarray, scale: Optional[float] = None) -> Image.Image:
    """Draws each point as a numbered marker: discs for landmarks 0 to 9, squares to 19, diamonds to 29, and again.

    Args:
      image: uint8 [height, width, 3].
      points: [K, 2] in [-1, 1]; those outside the image are cut off, those that are not finite are left out.
      scale: enlargement; None enlarges a small image to 320 pixels and leaves others as they are.
    """
    canvas = enlarge(image, scale)
    radius = 0.047 * min(canvas.size) * min(1.0, (12.0 / max(len(points), 1)) ** 0.25)
    for number, (x, y) in _in_pixels(points, canvas):
        _numbered_marker(canvas, x, y, radius, number)
    return canvas


def draw_comparison(
    image: np.ndarray, annotated: np.ndarray, predicted: np.ndarray, scale: Optional[float] = None
) -> Image.Image:
    """Draws annotated points as rings and predicted ones as crosses, in one color and joined by a line.

    Args:
      image: uint8 [height, width, 3].
      annotated, predicted: [L, 2] in [-1, 1], treated as in `draw_landmarks`.
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
    """Draws annotated points as rings; arguments as in `draw_comparison`."""
    return draw_comparison(image, points, np.zeros((0, 2)), scale)


def draw_spread(image: np.ndarray, shapes: np.ndarray, scale: Optional[float] = None) -> Image.Image:
    """Draws the points of many shapes as dots over the dimmed image, and their means as rings.

    Args:
      image: uint8 [height, width, 3].
      shapes: [n, L, 2] in [-1, 1], treated as in `draw_landmarks`.
      scale: as in `draw_landmarks`.
    """
    canvas = Image.fromarray(np.rint(_dimmed(enlarge(image, scale))).astype(np.uint8)).convert("RGB")
    draw, radius = ImageDraw.Draw(canvas), 0.004 * min(canvas.size)
    for shape in shapes:
        for number, (x, y) in _in_pixels(shape, canvas):
            draw.ellipse([x - radius, y - radius, x + radius, y + radius], fill=_color(number))
    return draw_annotated(np.asarray(canvas), shapes.mean(axis=0), scale=1.0)


def contact_sheet(tiles: Sequence[Image.Image], columns: int) -> Image.Image:
    """Images of one size beside each other on white, `columns` in a row, in reading order."""
    gap, (width, height) = 4, tiles[0].size
    across, down = min(columns, len(tiles)), -(-len(tiles) // columns)
    sheet = Image.new("RGB", (across * (width + gap) - gap, down * (height + gap) - gap), _LIGHT)
    for number, tile in enumerate(tiles):
        sheet.paste(tile, (number % columns * (width + gap), number // columns * (height + gap)))
    return sheet


def overlay_heatmaps(
    image: np.ndarray,
    maps: np.ndarray,
    palette: Sequence[Color],
    ticks: Optional[np.ndarray] = None,
    scale: Optional[float] = None,
) -> Image.Image:
    """Lays heatmaps in their colors over the dimmed image, each at full strength where it is largest.

    Args:
      image: uint8 [height, width, 3].
      maps: [rows, columns, K], not negative.
      palette: K colors.
      ticks: [cells] where the rows and the columns of cells have their centers; None if they divide the image evenly.
      scale: as in `draw_landmarks`.
    """
    canvas = enlarge(image, scale)
    width, height = canvas.size
    across = _interpolation(width, geometry.centers(maps.shape[1]) if ticks is None else ticks)
    down = _interpolation(height, geometry.centers(maps.shape[0]) if ticks is None else ticks)
    tint, weight = np.zeros((height, width, 3)), np.full((height, width, 1), 1e-9)
    strongest = np.zeros((height, width, 1))
    for number, color in enumerate(palette):
        strength = (down @ maps[:, :, number].astype(np.float64) @ across.T)[:, :, None]
        strength /= max(float(maps[:, :, number].max()), 1e-12)
        tint += strength**2 * np.array(color, np.float64) * (255.0 / max(color))  # dark colors would not show
        weight += strength**2
        strongest = np.maximum(strongest, strength)
    gray = _dimmed(canvas)[:, :, None]
    mixed = gray + 0.9 * np.minimum(strongest, 1.0) * (tint / weight - gray)
    return Image.fromarray(np.clip(np.rint(mixed), 0, 255).astype(np.uint8))


def landmark_key(number: int, size: int) -> Image.Image:
    """The marker of a discovered landmark by itself, for legends: RGBA [size, size]."""
    image = Image.new("RGBA", (size, size), (0, 0, 0, 0))
    _numbered_marker(image, size / 2.0, size / 2.0, size * 0.36, number)
    return image


def comparison_key(number: int, size: int) -> Image.Image:
    """Ring and cross of an annotated landmark side by side, for legends: RGBA [size, 2 * size]."""
    image = Image.new("RGBA", (2 * size, size), (0, 0, 0, 0))
    _annotated_marker(image, size * 0.5, size / 2.0, size * 0.34, number)
    _predicted_marker(image, size * 1.4, size / 2.0, size * 0.34, number)
    return image


def enlarge(image: np.ndarray, scale: Optional[float] = None) -> Image.Image:
    """Enlarges by Lanczos interpolation, outer edges on outer edges; `scale` as in `draw_landmarks`."""
    height, width = image.shape[:2]
    scale = max(1.0, _SIDE / float(max(height, width))) if scale is None else scale
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return Image.fromarray(np.ascontiguousarray(image)).resize(size, Image.Resampling.LANCZOS)


def _dimmed(image: Image.Image) -> np.ndarray:
    """[height, width] gray levels on which colors show."""
    return np.asarray(image.convert("L"), np.float64) * 0.45 + 12.0


def _color(number: int) -> Color:
    gray, share = _TINTS[number // len(_HUES) % len(_TINTS)]
    red, green, blue = (round(value + share * (gray - value)) for value in _HUES[number % len(_HUES)])
    return red, green, blue


def _in_pixels(points: np.ndarray, image: Image.Image) -> List[Tuple[int, Tuple[float, float]]]:
    """Numbers and places, in pixels from the outer corner, of the points that are finite."""
    places = geometry.to_pixels(np.asarray(points, np.float64).reshape(-1, 2), image.size)
    # A wild prediction is drawn just outside rather than at a coordinate that no image library takes.
    places = np.clip(places, -1e4, 1e4 + max(image.size))
    return [(number, (float(x), float(y))) for number, (x, y) in enumerate(places) if np.isfinite(x + y)]


def _interpolation(size: int, ticks: np.ndarray) -> np.ndarray:
    """[size, cells]: linear interpolation of cells centerd at `ticks` to pixels; zero where the cells do not reach."""
    pixels = geometry.centers(size)
    weights = np.stack([np.interp(pixels, ticks, row) for row in np.eye(len(ticks))], axis=1)
    half = (ticks[1] - ticks[0]) / 2.0 if len(ticks) > 1 else 1.0
    weights[(pixels < ticks[0] - half) | (pixels > ticks[-1] + half)] = 0.0
    return weights


def _disc(x: np.ndarray, y: np.ndarray, radius: float) -> np.ndarray:
    return np.hypot(x, y) - radius


def _square(x: np.ndarray, y: np.ndarray, radius: float) -> np.ndarray:
    return np.maximum(np.abs(x), np.abs(y)) - 0.9 * radius


def _diamond(x: np.ndarray, y: np.ndarray, radius: float) -> np.ndarray:
    return (np.abs(x) + np.abs(y)) / np.sqrt(2.0) - 0.9 * radius


def _ring(x: np.ndarray, y: np.ndarray, radius: float) -> np.ndarray:
    return np.abs(np.hypot(x, y) - radius)


def _cross(x: np.ndarray, y: np.ndarray, radius: float) -> np.ndarray:
    along, aside = np.maximum(np.abs(x + y), np.abs(x - y)), np.minimum(np.abs(x + y), np.abs(x - y))
    return np.hypot(np.maximum(along / np.sqrt(2.0) - radius, 0.0), aside / np.sqrt(2.0))


_SHAPES = (_disc, _square, _diamond)


def _numbered_marker(image: Image.Image, x: float, y: float, radius: float, number: int) -> None:
    color = _color(number)
    _shape(image, x, y, radius, 0.0, color, _SHAPES[number // len(_HUES) % len(_SHAPES)])
    text = str(number)
    font = _font(max(6, round(radius * (1.45, 1.2, 0.9)[min(len(text), 3) - 1])))
    left, top, right, bottom = font.getbbox(text)
    bright = 0.299 * color[0] + 0.587 * color[1] + 0.114 * color[2] > 120
    corner = (round(x - (left + right) / 2.0), round(y - (top + bottom) / 2.0))
    ImageDraw.Draw(image).text(corner, text, fill=_DARK if bright else _LIGHT, font=font)


def _annotated_marker(image: Image.Image, x: float, y: float, radius: float, number: int) -> None:
    _shape(image, x, y, radius, 0.14 * radius, _color(number), _ring)


def _predicted_marker(image: Image.Image, x: float, y: float, radius: float, number: int) -> None:
    _shape(image, x, y, 0.6 * radius, 0.15 * radius, _color(number), _cross)


def _shape(
    image: Image.Image, x: float, y: float, radius: float, half_width: float, color: Color, shape: Shape
) -> None:
    """Paints a shape, centerd at (x, y) in pixels, with a light and a dark outline that show on any background.

    Coverage of a pixel follows from the distance of its center to the shape, so that shapes are smooth and centerd to a
    fraction of a pixel.
    """
    outline = max(1.0, min(radius * 0.13, 3.0))
    reach = int(np.ceil(radius * 1.5 + half_width + 2.0 * outline)) + 1
    left, top = int(np.floor(x)) - reach, int(np.floor(y)) - reach
    places = np.arange(2 * reach + 1) + 0.5
    across, down = np.meshgrid(places + left - x, places + top - y)
    distance = shape(across, down, radius) - half_width
    for widening, paint in ((1.6 * outline, _DARK), (outline, _LIGHT), (0.0, color)):
        coverage = np.clip(widening + 0.5 - distance, 0.0, 1.0)
        image.paste(paint, (left, top), Image.fromarray(np.rint(255.0 * coverage).astype(np.uint8)))


@functools.lru_cache(maxsize=None)
def _font(size: int) -> ImageFont.FreeTypeFont:
    """Matplotlib's own DejaVu Sans, so that images look the same on every machine."""
    return ImageFont.truetype(str(Path(matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSans-Bold.ttf")), size)
