"""The embedded data set: stylized faces with exact landmarks, rendered.

A head is an ellipsoid. Features are curves on its surface, turned by yaw, pitch and roll and projected in parallel, so
that features and landmarks move together and are foreshortened alike. Background, face and camera draw from separate
random streams: nothing but the figure itself tells where the face is.

Inside this module lengths are in *half-widths of the head* and head coordinates are `(u, v)`, u to the image's right,
v down, (0, 0) in the middle of the face. Colors are RGB in [0, 1].
"""

import csv
import functools
from pathlib import Path
from typing import Iterator, List, NamedTuple, Sequence, Tuple, Union

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from fse.config import Dataset
from fse.runtime.processes import ordered_map
from fse.runtime.progress import progress_bar

LANDMARKS = ("left_eye", "right_eye", "nose", "left_mouth", "right_mouth")

# Test images are numbered from here, beyond any training image: more training images leave them as they are.
FIRST_TEST_INDEX = 10_000_000

_OVERSAMPLING = 2
_GEOMETRY, _LOOK, _BACKGROUND, _CAMERA = range(4)

_LIGHT_SKIN, _DARK_SKIN = np.array([0.97, 0.82, 0.71]), np.array([0.36, 0.23, 0.16])
_HAIR_COLORS = np.array(
    [
        [0.07, 0.06, 0.06],
        [0.20, 0.13, 0.09],
        [0.36, 0.22, 0.12],
        [0.52, 0.23, 0.11],
        [0.78, 0.62, 0.36],
        [0.88, 0.78, 0.56],
        [0.62, 0.61, 0.60],
        [0.85, 0.84, 0.82],
    ]
)
_IRIS_COLORS = np.array(
    [[0.20, 0.11, 0.06], [0.32, 0.20, 0.09], [0.22, 0.36, 0.55], [0.24, 0.40, 0.25], [0.30, 0.32, 0.35]]
)


class Face(NamedTuple):
    """The geometry of one face: all that its landmarks depend on."""

    center: np.ndarray  # [2], in image widths
    radius: float  # half the width of the head, in image widths
    aspect: float  # height of the head over its width
    rotation: np.ndarray  # [3, 3], head to camera
    yaw: float  # radians, positive towards the image's right
    roll: float  # radians, clockwise
    eye: np.ndarray  # [2], center of the right eye's opening
    nose: np.ndarray  # [2], tip
    nose_height: float  # of the tip above the surface
    mouth: np.ndarray  # [2], right corner
    bend: float  # of the mouth: its middle lies this much below the corners


def render(settings: Dataset, folder: Path, processes: int = 0) -> None:
    """Renders the data set into `folder`.

    Writes `images/000000.png` … (RGB, `settings.size` square; `settings.train` training images, then `settings.test`
    test images) and at the end `landmarks.csv`: file, width, height, split and the landmarks' x and y in pixels,
    where (0, 0) is the outer corner of the top-left pixel.

    Args:
      settings: `size`, `train`, `test` and `seed` are read.
      folder: an existing, empty folder.
      processes: parallel processes; 0 is one per processor. The result does not depend on it.

    Raises:
      StageError: a process that renders was killed.
      OSError: a file cannot be written.
    """
    images = Path(folder) / "images"
    images.mkdir()
    jobs = list(_jobs(settings, images))
    rows = list(
        progress_bar(
            ordered_map(_write, jobs, processes, "rendering"), total=len(jobs), unit="images", desc="rendering"
        )
    )
    with open(str(Path(folder) / "landmarks.csv"), "w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(
            ["file", "width", "height", "split"] + [name + axis for name in LANDMARKS for axis in ("_x", "_y")]
        )
        for job, points in zip(jobs, rows):
            writer.writerow(
                [job.file.name, job.size, job.size, job.split] + [f"{value:.3f}" for value in points.ravel()]
            )


def render_face(seed: int, index: int, size: int) -> Tuple[np.ndarray, np.ndarray]:
    """Renders one face, a pure function of its arguments.

    Args:
      seed: of the data set, in [0, 2**32).
      index: of the image, in [0, 2**32).
      size: width and height in pixels. Another size shows the same face, but for sensor noise.

    Returns:
      The image, uint8 [size, size, 3] RGB, and `landmarks(seed, index, size)`.
    """
    face = _face(seed, index)
    canvas = _Canvas(_background(_random(seed, index, _BACKGROUND), size))
    random = _random(seed, index, _LOOK)
    light = _light(random)
    _draw_figure(canvas, face, light, random)
    colors = canvas.colors.reduce(_OVERSAMPLING)
    figure = np.asarray(canvas.figure.reduce(_OVERSAMPLING), np.float32)[..., None] / 255.0
    lit = np.asarray(colors, np.float32) * (1.0 + figure * (_shading(face, light, size)[..., None] - 1.0))
    return _photograph(lit, _random(seed, index, _CAMERA)), _landmarks(face, size)


def landmarks(seed: int, index: int, size: int) -> np.ndarray:
    """The landmarks of `render_face(seed, index, size)`, without rendering it.

    Returns:
      float64 [5, 2]: (x, y) in pixels of `LANDMARKS` (left and right are the image's), rounded to a thousandth, so
      that they do not depend on the versions of the libraries.
    """
    return _landmarks(_face(seed, index), size)


def _landmarks(face: Face, size: int) -> np.ndarray:
    mirror = np.array([-1.0, 1.0])
    points = np.stack([face.eye * mirror, face.eye, face.nose, face.mouth * mirror, face.mouth])
    heights = np.array([0.0, 0.0, face.nose_height, 0.0, 0.0])
    return np.round(_on_surface(face, points, heights) * size, 3)


class _Job(NamedTuple):
    file: Path
    split: str
    seed: int
    number: int
    size: int


def _jobs(settings: Dataset, images: Path) -> Iterator[_Job]:
    faces = [("train", number) for number in range(settings.train)]
    faces += [("test", FIRST_TEST_INDEX + number) for number in range(settings.test)]
    for position, (split, number) in enumerate(faces):
        yield _Job(images / f"{position:06d}.png", split, settings.seed, number, settings.size)


def _write(job: _Job) -> np.ndarray:
    image, points = render_face(job.seed, job.number, job.size)
    Image.fromarray(image).save(str(job.file), compress_level=1)
    return points


# Geometry ------------------------------------------------------------------------------------------------------------


def _random(seed: int, index: int, stream: int) -> np.random.RandomState:
    return np.random.RandomState([seed, index, stream])


def _face(seed: int, index: int) -> Face:
    """The geometry of face `index`: a pose that keeps the head inside the image, and an identity."""
    random = _random(seed, index, _GEOMETRY)
    yaw, pitch, roll = np.radians(np.clip(random.normal(size=3), -2.2, 2.2) * [11.0, 8.0, 12.0])
    aspect = random.uniform(1.18, 1.38)
    radius = min(random.uniform(0.225, 0.375), 0.48 / aspect)
    axes = np.array([1.0, aspect])
    room = np.maximum(0.0, 0.49 - radius * np.hypot(axes * np.cos(roll), axes[::-1] * np.sin(roll)))
    center = 0.5 + np.clip(random.normal(size=2) * 0.038, -room, room)
    smile = np.clip(random.normal(0.2, 0.6), -1.0, 1.3)
    return Face(
        center=center,
        radius=radius,
        aspect=aspect,
        rotation=_rotation(yaw, pitch, roll),
        yaw=yaw,
        roll=roll,
        eye=np.array([random.uniform(0.39, 0.47), random.uniform(-0.20, -0.08)]),
        nose=np.array([0.0, random.uniform(0.20, 0.32)]),
        nose_height=random.uniform(0.14, 0.30),
        mouth=np.array([random.uniform(0.25, 0.38) + 0.04 * smile, random.uniform(0.55, 0.68) - 0.05 * smile]),
        bend=0.10 * smile,
    )


def _rotation(yaw: float, pitch: float, roll: float) -> np.ndarray:
    """[3, 3]: yaw first, then pitch, then roll. x right, y down, z towards the viewer."""
    about_y = np.array([[np.cos(yaw), 0.0, np.sin(yaw)], [0.0, 1.0, 0.0], [-np.sin(yaw), 0.0, np.cos(yaw)]])
    about_x = np.array([[1.0, 0.0, 0.0], [0.0, np.cos(pitch), np.sin(pitch)], [0.0, -np.sin(pitch), np.cos(pitch)]])
    about_z = np.eye(3)
    about_z[:2, :2] = _turn(roll)
    return about_z @ about_x @ about_y


def _turn(angle: float) -> np.ndarray:
    return np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])


def _on_surface(face: Face, points: np.ndarray, height: Union[float, np.ndarray] = 0.0) -> np.ndarray:
    """Where points of the face come to lie in the image.

    Args:
      points: [n, 2] head coordinates (u, v), seen from the front.
      height: above the ellipsoid's surface, a number or [n].

    Returns:
      [n, 2] in image widths.
    """
    u, v = points[:, 0], points[:, 1]
    depth = np.sqrt(np.maximum(0.0, 1.0 - u**2 - (v / face.aspect) ** 2)) + height
    return face.center + face.radius * np.stack([u, v, depth], axis=-1) @ face.rotation[:2].T


def _in_plane(face: Face, points: np.ndarray) -> np.ndarray:
    """Like `_on_surface`, for points of the silhouette: rolled, but not turned out of the plane."""
    return face.center + face.radius * points @ _turn(face.roll).T


def _outline(face: Face, start: float, stop: float, grow: float = 1.0) -> np.ndarray:
    """[32, 2] points of the head's silhouette, clockwise; angles in degrees, 0 right, 90 chin, 270 crown."""
    angle = np.radians(np.linspace(start, stop, 32))
    u, v = np.cos(angle) * grow, np.sin(angle) * grow
    jaw = 1.0 - 0.22 * np.maximum(0.0, v) ** 2
    return _in_plane(face, np.stack([jaw * u + 0.15 * np.sin(face.yaw) * v, face.aspect * v], axis=-1))


# Drawing -------------------------------------------------------------------------------------------------------------


class _Canvas:
    """Colors, and a mask of the figure, both oversampled. Points are [n, 2] in image widths."""

    def __init__(self, background: Image.Image) -> None:
        self.colors = background
        self.figure = Image.new("L", background.size)
        self._color_pen = ImageDraw.Draw(self.colors, "RGBA")
        self._figure_pen = ImageDraw.Draw(self.figure)

    def fill(self, points: np.ndarray, color: np.ndarray, opacity: float = 1.0) -> None:
        """Fills a polygon."""
        self._color_pen.polygon(self._corners(points), fill=_ink(color, opacity))

    def fill_figure(self, points: np.ndarray, color: np.ndarray) -> None:
        """Fills a polygon that belongs to the figure's silhouette: light falls on it."""
        self.fill(points, color)
        self._figure_pen.polygon(self._corners(points), fill=255)

    def line(self, points: np.ndarray, color: np.ndarray, width: float, opacity: float = 1.0) -> None:
        """Draws a polygonal line; `width` in image widths."""
        pixels = max(1, round(width * self.colors.width))
        self._color_pen.line(self._corners(points), fill=_ink(color, opacity), width=pixels, joint="curve")

    def _corners(self, points: np.ndarray) -> List[float]:
        return (points * self.colors.width).ravel().tolist()


def _ink(color: np.ndarray, opacity: float) -> Tuple[int, ...]:
    return tuple(int(255.0 * min(1.0, max(0.0, value))) for value in (*color, opacity))


def _background(random: np.random.RandomState, size: int) -> Image.Image:
    """Smooth noise of several octaves, often stripes, and clutter. It knows nothing of the face."""
    image = np.tile(np.float32(random.uniform(30.0, 225.0) + random.normal(size=3) * 25.0), (size, size, 1))
    vivid = random.rand()
    for cells in (2, 5, 11, 24):
        gray, hue = random.randint(0, 256, (cells, cells, 1)), random.randint(0, 256, (cells, cells, 3))
        noise = (gray + vivid * (hue - gray)).astype(np.uint8)
        smooth = np.asarray(Image.fromarray(noise).resize((size, size), Image.Resampling.BICUBIC), np.float32)
        image += (smooth - 128.0) * np.float32(random.uniform(0.0, 0.4))
    if random.rand() < 0.35:
        image += _stripes(random, size)
    pixels = Image.fromarray(np.clip(image, 0.0, 255.0).astype(np.uint8))
    background = pixels.resize((size * _OVERSAMPLING,) * 2, Image.Resampling.NEAREST)
    _draw_clutter(_Canvas(background), random)
    return background


def _stripes(random: np.random.RandomState, size: int) -> np.ndarray:
    across, down = random.normal(size=2) * 25.0
    ticks = np.arange(size, dtype=np.float32) / size
    waves = np.sin(across * ticks[None, :] + down * ticks[:, None] + random.uniform(0.0, 6.0))
    return np.clip(3.0 * waves, -1.0, 1.0)[..., None] * np.float32(random.uniform(-40.0, 40.0, 3))


def _draw_clutter(canvas: _Canvas, random: np.random.RandomState) -> None:
    """Up to 13 discs, polygons and rods anywhere, often in the colors of skin and hair."""
    for _ in range(random.randint(0, 14)):
        color = _skin(random) if random.rand() < 0.3 else random.uniform(0.0, 1.0, 3)
        center, opacity = random.uniform(0.0, 1.0, 2), random.uniform(0.4, 1.0)
        kind = random.randint(3)
        if kind == 0:
            canvas.fill(_disc(center, random.uniform(0.02, 0.2, 2)), color, opacity)
        elif kind == 1:
            canvas.fill(center + random.normal(size=(random.randint(3, 6), 2)) * 0.12, color, opacity)
        else:
            canvas.line(
                np.stack([center, center + random.normal(size=2) * 0.4]), color, random.uniform(0.01, 0.05), opacity
            )


def _disc(center: np.ndarray, radii: Union[float, Sequence[float], np.ndarray], count: int = 20) -> np.ndarray:
    """[count, 2] points of an ellipse."""
    return center + _circle(count) * radii


@functools.lru_cache(maxsize=None)
def _circle(count: int) -> np.ndarray:
    angle = np.linspace(0.0, 2.0 * np.pi, count, endpoint=False)
    return np.stack([np.cos(angle), np.sin(angle)], axis=-1)


def _skin(random: np.random.RandomState) -> np.ndarray:
    return _LIGHT_SKIN * (_DARK_SKIN / _LIGHT_SKIN) ** random.uniform() + random.normal(size=3) * 0.02


def _draw_figure(canvas: _Canvas, face: Face, light: np.ndarray, random: np.random.RandomState) -> None:
    skin = _skin(random)
    hair = np.clip(_HAIR_COLORS[random.randint(len(_HAIR_COLORS))] + random.normal(size=3) * 0.03, 0.02, 1.0)
    style = random.choice(["bald", "short", "fringe", "long", "curly"], p=[0.12, 0.28, 0.2, 0.25, 0.15])
    if style == "long":
        _draw_long_hair(canvas, face, hair, random)
    _draw_body(canvas, face, skin, random)
    _draw_ears(canvas, face, skin)
    canvas.fill_figure(_outline(face, 0.0, 360.0), skin)
    _draw_cheeks(canvas, face, skin, random)
    if random.rand() < 0.2:
        _draw_beard(canvas, face, skin, hair, random)
    _draw_eyes(canvas, face, skin, hair, random)
    _draw_mouth(canvas, face, skin, hair, random)
    _draw_nose(canvas, face, skin, light)
    if style != "bald":
        _draw_hair(canvas, face, hair, style, random)
    if random.rand() < 0.18:
        _draw_glasses(canvas, face, random)


def _draw_long_hair(canvas: _Canvas, face: Face, hair: np.ndarray, random: np.random.RandomState) -> None:
    """The hair behind head and neck."""
    length = random.uniform(0.8, 1.9)
    v = np.linspace(0.0, length, 8)
    edge = 1.15 + 0.1 * np.sin(v * random.uniform(2.0, 7.0)) * random.rand() + 0.08 * v
    right, left = np.stack([edge, v], axis=-1), np.stack([-edge, v], axis=-1)
    sides = _in_plane(face, np.concatenate([right, left[::-1]]))
    canvas.fill_figure(np.concatenate([_outline(face, 180.0, 360.0, 1.15), sides]), 0.8 * hair)


def _draw_body(canvas: _Canvas, face: Face, skin: np.ndarray, random: np.random.RandomState) -> None:
    """Neck and shoulders: upright under the head, whatever its roll."""
    base = _in_plane(face, np.array([[0.0, face.aspect]]))
    neck = random.uniform(0.42, 0.6)
    top = _in_plane(face, np.array([[-neck, 0.4], [neck, 0.4]]))
    cloth, wide = random.uniform(0.05, 0.95, 3), random.uniform(1.7, 2.5)
    right = np.array([[neck, 0.15], [0.7 * wide, 0.45], [0.9 * wide, 0.75], [wide, 1.4], [wide, 9.0]])
    shoulders = np.concatenate([right, right[::-1] * [-1.0, 1.0]])
    canvas.fill_figure(np.concatenate([top, base + face.radius * np.array([[neck, 0.6], [-neck, 0.6]])]), 0.72 * skin)
    canvas.fill_figure(base + face.radius * shoulders, cloth)
    collar = np.array([[-neck - 0.05, 0.13], [0.0, random.uniform(0.2, 0.8)], [neck + 0.05, 0.13]])
    canvas.fill_figure(base + face.radius * collar, 0.85 * skin)
    if random.rand() < 0.4:
        stripe = random.uniform(0.0, 1.0, 3)
        for v in np.arange(0.6, 3.0, random.uniform(0.2, 0.5)):
            canvas.line(base + face.radius * np.array([[-0.8 * wide, v], [0.8 * wide, v]]), stripe, 0.08 * face.radius)


def _draw_ears(canvas: _Canvas, face: Face, skin: np.ndarray) -> None:
    for side in (-1.0, 1.0):
        turned = 1.0 - max(0.0, side * np.sin(face.yaw))
        ear = _disc(np.array([side * 0.98 * turned, 0.05]), [0.14, 0.26])
        canvas.fill_figure(_in_plane(face, ear), 0.9 * skin * [1.0, 0.93, 0.9])


def _draw_cheeks(canvas: _Canvas, face: Face, skin: np.ndarray, random: np.random.RandomState) -> None:
    """Blush, and the shade of the eye sockets."""
    blush = random.uniform(0.0, 0.12)
    for side in (-1.0, 1.0):
        for grow in (1.0, 0.7):
            cheek = _disc(np.array([side * 0.52, 0.32]), np.array([0.24, 0.2]) * grow)
            canvas.fill(_on_surface(face, cheek), skin * [1.0, 0.6, 0.55], blush)
            socket = _disc(face.eye * [side, 1.0], np.array([0.3, 0.22]) * grow)
            canvas.fill(_on_surface(face, socket), 0.6 * skin, 0.13)


def _draw_beard(canvas: _Canvas, face: Face, skin: np.ndarray, hair: np.ndarray, random: np.random.RandomState) -> None:
    u = np.linspace(-0.97, 0.97, 25)
    inner = face.mouth[1] - 0.2 + random.uniform(0.0, 0.3) * np.sin(np.pi * u) ** 2 - 0.5 * u**6
    edge = _on_surface(face, np.stack([u, inner], axis=-1))
    stubble = random.uniform(0.5, 0.99)
    canvas.fill(np.concatenate([_outline(face, 5.0, 175.0, random.uniform(1.0, 1.1)), edge]), 0.9 * hair, stubble)


def _draw_eyes(canvas: _Canvas, face: Face, skin: np.ndarray, hair: np.ndarray, random: np.random.RandomState) -> None:
    width, openness = random.uniform(0.19, 0.25), random.uniform(0.32, 0.65)
    gaze = np.clip(random.normal(size=2), -1.5, 1.5) * [0.2, 0.08]
    iris = _IRIS_COLORS[random.randint(len(_IRIS_COLORS))]
    height, tilt, thick = random.uniform(0.24, 0.38), random.normal() * 0.07, random.uniform(0.03, 0.07)
    for side in (-1.0, 1.0):
        _draw_eye(canvas, face, face.eye * [side, 1.0], width, openness, gaze, iris, skin)
        x = np.linspace(-1.0, 1.0, 11)
        brow = -height - 0.06 * (1.0 - x**2) + side * tilt * x
        strip = np.stack([1.35 * width * x, brow], axis=-1)
        upper, lower = strip - [0.0, thick], (strip + [0.0, 0.5 * thick])[::-1]
        canvas.fill(_on_surface(face, face.eye * [side, 1.0] + np.concatenate([upper, lower]), 0.03), 0.7 * hair, 0.9)


def _draw_eye(
    canvas: _Canvas,
    face: Face,
    center: np.ndarray,
    width: float,
    openness: float,
    gaze: np.ndarray,
    iris: np.ndarray,
    skin: np.ndarray,
) -> None:
    """One eye; x and y in half-widths of the eye, whose opening is centerd on (0, 0)."""

    def place(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return _on_surface(face, center + width * np.stack([x, y], axis=-1))

    x = np.linspace(-1.0, 1.0, 17)
    upper, lower = -openness * (1.0 - x**2) ** 0.7, openness * (1.0 - x**2)
    canvas.fill(place(np.append(x, x[::-1]), np.append(upper, lower[::-1])), np.array([0.94, 0.93, 0.91]))
    for radius, color in ((0.5, 0.5 * iris), (0.43, iris), (0.24, np.array([0.02, 0.02, 0.02]))):
        ball = _disc(gaze, radius)
        top, bottom = np.interp(ball[:, 0], x, upper), np.interp(ball[:, 0], x, lower)
        canvas.fill(place(ball[:, 0], np.clip(ball[:, 1], top, bottom)), color)
    glint = _disc(gaze + [-0.16, -0.16], 0.1, 8)
    canvas.fill(place(glint[:, 0], glint[:, 1]), np.ones(3))
    canvas.line(place(x, upper), 0.25 * skin, 0.055 * face.radius)
    canvas.line(place(x, lower), 0.6 * skin, 0.025 * face.radius)
    canvas.line(place(1.1 * x, upper - 0.28), 0.6 * skin, 0.025 * face.radius, 0.7)


def _draw_mouth(canvas: _Canvas, face: Face, skin: np.ndarray, hair: np.ndarray, random: np.random.RandomState) -> None:
    """Lips from corner to corner, open or closed; sometimes a moustache above."""
    x = np.linspace(-1.0, 1.0, 25)
    bow = 1.0 - x**2
    gap = random.uniform(0.05, 0.34) if random.rand() < 0.45 else 0.0
    upper, lower = (face.bend - 0.3 * gap) * bow, (face.bend + 0.7 * gap) * bow
    cupid = 1.0 - 0.4 * np.exp(-((x / 0.2) ** 2))
    top = upper - random.uniform(0.06, 0.11) * bow**0.7 * cupid
    bottom = lower + random.uniform(0.08, 0.14) * bow

    def place(above: np.ndarray, below: np.ndarray) -> np.ndarray:
        u, v = np.append(x, x[::-1]) * face.mouth[0], np.append(above, below[::-1]) + face.mouth[1]
        return _on_surface(face, np.stack([u, v], axis=-1))

    lips = np.clip(skin * random.uniform(0.75, 0.95) * [1.0, 0.62, 0.62], 0.0, 1.0)
    if random.rand() < 0.15:
        canvas.fill(place(top - 0.12 * bow**0.3, np.minimum(top, upper - 0.03) + 0.02), 0.9 * hair, 0.9)
    canvas.fill(place(bottom, bottom + 0.1 * bow), 0.6 * skin, 0.3)
    canvas.fill(place(top, bottom), lips)
    canvas.fill(place(top, upper), 0.85 * lips)
    if gap:
        canvas.fill(place(upper, lower), np.array([0.22, 0.06, 0.06]))
        canvas.fill(place(upper, np.minimum(lower, upper + 0.1 * bow**0.5)), np.array([0.93, 0.91, 0.87]))
    canvas.line(place(upper, upper)[: len(x)], 0.35 * lips, 0.035 * face.radius)


def _draw_nose(canvas: _Canvas, face: Face, skin: np.ndarray, light: np.ndarray) -> None:
    """A ridge with a lit and a dark side, nostrils below and a bright tip."""
    v, height = face.nose[1], face.nose_height

    def place(points: List[List[float]]) -> np.ndarray:
        rows = np.array(points)
        return _on_surface(face, rows[:, :2], rows[:, 2])

    for side in (-1.0, 1.0):
        flank = [[0.0, -0.15, 0.04], [0.0, v, height], [0.0, v + 0.1, 0.6 * height]]
        flank += [[side * 0.1, v + 0.11, 0.3 * height], [side * 0.18, v + 0.04, 0.0], [side * 0.06, -0.1, 0.0]]
        canvas.fill(place(flank), skin * (1.0 + 0.25 * side * light[0] - 0.06))
    canvas.line(
        place([[-0.17, v + 0.05, 0.0], [0.0, v + 0.11, 0.6 * height], [0.17, v + 0.05, 0.0]]),
        0.55 * skin,
        0.04 * face.radius,
    )
    for side in (-1.0, 1.0):
        nostril = _disc(np.array([side * 0.085, v + 0.085]), [0.05, 0.028], 10)
        canvas.fill(_on_surface(face, nostril, 0.4 * height), 0.25 * skin)
    for radius in (0.1, 0.07, 0.04):
        canvas.fill(_on_surface(face, _disc(face.nose, radius, 12), height), 1.25 * skin + 0.08, 0.35)


def _draw_hair(canvas: _Canvas, face: Face, hair: np.ndarray, style: str, random: np.random.RandomState) -> None:
    """The hair in front: from the silhouette of the skull to a hairline on the face."""
    u = np.linspace(-0.97, 0.97, 33)
    if style == "fringe":
        forehead, ragged = face.eye[1] - random.uniform(0.25, 0.4), random.uniform(0.0, 0.12)
    else:
        forehead, ragged = -random.uniform(0.58, 0.75) * face.aspect, 0.03
    temple = random.uniform(-0.3, 0.15)
    parting = random.uniform(-0.5, 0.5)
    line = forehead + (temple - forehead) * np.abs(u) ** random.uniform(2.5, 6.0) + 0.1 * np.abs(u - parting)
    line += ragged * random.uniform(-1.0, 1.0, len(u))
    hairline = _on_surface(face, np.stack([u, line], axis=-1))
    skull = _outline(face, 178.0, 362.0, random.uniform(1.06, 1.2))
    if style == "curly":
        for point in np.concatenate([skull, hairline[::3]]):
            canvas.fill_figure(
                _disc(point, random.uniform(0.12, 0.3) * face.radius, 12), hair * random.uniform(0.8, 1.1)
            )
    canvas.fill_figure(np.concatenate([skull, hairline[::-1]]), hair)
    for start, stop in zip(skull[2:-2:2], hairline[2:-3:2]):
        strand = np.stack([start, stop]) + random.normal(size=(2, 1)) * 0.02 * face.radius
        canvas.line(strand, hair * random.uniform(0.6, 1.5), 0.03 * face.radius, 0.3)


def _draw_glasses(canvas: _Canvas, face: Face, random: np.random.RandomState) -> None:
    color, width = random.uniform(0.0, 0.5, 3), random.uniform(0.035, 0.07) * face.radius
    radii, square = [random.uniform(0.25, 0.31), random.uniform(0.2, 0.28)], random.uniform(0.5, 1.0)
    for side in (-1.0, 1.0):
        ring = _circle(24)
        rim = face.eye * [side, 1.0] + np.sign(ring) * np.abs(ring) ** square * radii
        canvas.fill(_on_surface(face, rim, 0.1), np.ones(3), 0.12)
        canvas.line(_on_surface(face, np.append(rim, rim[:2], axis=0), 0.1), color, width)
        arm = np.array([[side * (face.eye[0] + radii[0]), face.eye[1]], [side * 0.98, face.eye[1]]])
        canvas.line(_on_surface(face, arm, 0.05), color, width)
    bridge = np.array([[radii[0] - face.eye[0], face.eye[1]], [face.eye[0] - radii[0], face.eye[1]]])
    canvas.line(_on_surface(face, bridge, 0.12), color, width)


def _light(random: np.random.RandomState) -> np.ndarray:
    """[3] where the light comes from, mostly from above and in front; its length is the strength of the shading."""
    direction = np.array([random.uniform(-1.0, 1.0), random.uniform(-0.8, 0.2), random.uniform(0.4, 1.0)])
    return direction / np.sqrt((direction**2).sum()) * random.uniform(0.2, 0.75)


def _shading(face: Face, light: np.ndarray, size: int) -> np.ndarray:
    """[size, size] float32, the light that falls on the head's ellipsoid (and on the figure around it)."""
    ticks = ((np.arange(size) + 0.5) / size).astype(np.float32)
    x = ((ticks - float(face.center[0])) / face.radius)[None, :]
    y = ((ticks - float(face.center[1])) / (face.radius * face.aspect))[:, None]
    outside = np.maximum(1.0, np.sqrt(x * x + y * y))
    x, y = x / outside, y / outside
    z = np.sqrt(np.maximum(0.0, 1.0 - x * x - y * y))
    right, down, front = light.tolist()
    return (1.0 - 0.6 * front) + right * x + down * y + front * z


def _photograph(light: np.ndarray, random: np.random.RandomState) -> np.ndarray:
    """Exposure, contrast, color cast, blur and sensor noise; float [size, size, 3] in 0..255 to uint8."""
    size = len(light)
    contrast, cast = float(np.exp(random.normal() * 0.15)), np.exp(random.normal(size=3) * 0.05).astype(np.float32)
    image = ((light - 128.0) * contrast + (128.0 + float(random.normal()) * 15.0)) * cast
    quantized = Image.fromarray(np.clip(image, 0.0, 255.0).astype(np.uint8))
    blurred = quantized.filter(ImageFilter.GaussianBlur(random.uniform(0.0, 0.8) * size / 128.0))
    # The sum of two uniform bytes is nearly normal and ten times as fast; its standard deviation is 104.
    bytes_ = np.frombuffer(random.bytes(2 * light.size), np.uint8).reshape((2,) + light.shape)
    noise = (bytes_.sum(0, dtype=np.int16) - np.float32(255.0)) * np.float32(random.uniform(0.5, 5.0) / 104.0)
    return np.clip(np.asarray(blurred, np.float32) + noise + 0.5, 0.0, 255.0).astype(np.uint8)
