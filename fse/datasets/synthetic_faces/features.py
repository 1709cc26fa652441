"""Drawing of eyes, mouth and nose, whose landmarks `model.landmarks_of` gives."""

from dataclasses import dataclass
from typing import List

import numpy as np

from fse.datasets.synthetic_faces.canvas import Canvas, disc
from fse.datasets.synthetic_faces.colors import IRIS_COLORS
from fse.datasets.synthetic_faces.model import Face, on_surface

_EYE_WHITE, _PUPIL = np.array([0.94, 0.93, 0.91]), np.array([0.02, 0.02, 0.02])
_MOUTH_INSIDE, _TEETH = np.array([0.22, 0.06, 0.06]), np.array([0.93, 0.91, 0.87])


@dataclass(frozen=True)
class _Eyes:
    """What both eyes of a face have in common."""

    width: float  # half the width of the opening, in half-widths of the head
    openness: float  # half its height, in half-widths of the eye
    gaze: np.ndarray  # [2], center of the pupil, in half-widths of the eye
    iris: np.ndarray  # [3], color


def draw_eyes(canvas: Canvas, face: Face, skin: np.ndarray, hair: np.ndarray, random: np.random.RandomState) -> None:
    """Draw both eyes and brows."""
    width, openness = random.uniform(0.19, 0.25), random.uniform(0.32, 0.65)
    gaze = np.clip(random.normal(size=2), -1.5, 1.5) * [0.2, 0.08]
    eyes = _Eyes(width, openness, gaze, IRIS_COLORS[random.randint(len(IRIS_COLORS))])
    height, tilt, thickness = random.uniform(0.24, 0.38), random.normal() * 0.07, random.uniform(0.03, 0.07)
    for side in (-1.0, 1.0):
        center = face.eye * [side, 1.0]
        _draw_eye(canvas, face, center, eyes, skin)
        x = np.linspace(-1.0, 1.0, 11)
        brow = np.stack([1.35 * width * x, -height - 0.06 * (1.0 - x**2) + side * tilt * x], axis=-1)
        upper, lower = brow - [0.0, thickness], (brow + [0.0, 0.5 * thickness])[::-1]
        canvas.fill(on_surface(face, center + np.concatenate([upper, lower]), 0.03), 0.7 * hair, 0.9)


def _draw_eye(canvas: Canvas, face: Face, center: np.ndarray, eyes: _Eyes, skin: np.ndarray) -> None:
    """Draw one eye. Here x and y are in half-widths of the eye, with (0, 0) at the center of its opening."""

    def place(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return on_surface(face, center + eyes.width * np.stack([x, y], axis=-1))

    x = np.linspace(-1.0, 1.0, 17)
    upper, lower = -eyes.openness * (1.0 - x**2) ** 0.7, eyes.openness * (1.0 - x**2)
    canvas.fill(place(np.append(x, x[::-1]), np.append(upper, lower[::-1])), _EYE_WHITE)
    for radius, color in ((0.5, 0.5 * eyes.iris), (0.43, eyes.iris), (0.24, _PUPIL)):
        ball = disc(eyes.gaze, radius)
        # The lids cover what is outside the opening.
        top, bottom = np.interp(ball[:, 0], x, upper), np.interp(ball[:, 0], x, lower)
        canvas.fill(place(ball[:, 0], np.clip(ball[:, 1], top, bottom)), color)
    glint = disc(eyes.gaze + [-0.16, -0.16], 0.1, 8)
    canvas.fill(place(glint[:, 0], glint[:, 1]), np.ones(3))
    canvas.line(place(x, upper), 0.25 * skin, 0.055 * face.radius)
    canvas.line(place(x, lower), 0.6 * skin, 0.025 * face.radius)
    canvas.line(place(1.1 * x, upper - 0.28), 0.6 * skin, 0.025 * face.radius, 0.7)


def draw_mouth(canvas: Canvas, face: Face, skin: np.ndarray, hair: np.ndarray, random: np.random.RandomState) -> None:
    """Draw lips from corner to corner, open or closed, sometimes with a moustache.

    Curves have x in half-widths of the mouth and y in half-widths of the head, relative to the corners.
    """
    x = np.linspace(-1.0, 1.0, 25)
    bow = 1.0 - x**2  # zero at the corners
    gap = random.uniform(0.05, 0.34) if random.rand() < 0.45 else 0.0
    upper, lower = (face.mouth_bend - 0.3 * gap) * bow, (face.mouth_bend + 0.7 * gap) * bow
    cupid = 1.0 - 0.4 * np.exp(-((x / 0.2) ** 2))  # the dent in the middle of the upper lip
    top = upper - random.uniform(0.06, 0.11) * bow**0.7 * cupid
    bottom = lower + random.uniform(0.08, 0.14) * bow

    def place(above: np.ndarray, below: np.ndarray) -> np.ndarray:
        u, v = np.append(x, x[::-1]) * face.mouth[0], np.append(above, below[::-1]) + face.mouth[1]
        return on_surface(face, np.stack([u, v], axis=-1))

    lips = np.clip(skin * random.uniform(0.75, 0.95) * [1.0, 0.62, 0.62], 0.0, 1.0)
    if random.rand() < 0.15:
        moustache = place(top - 0.12 * bow**0.3, np.minimum(top, upper - 0.03) + 0.02)
        canvas.fill(moustache, 0.9 * hair, 0.9)
    canvas.fill(place(bottom, bottom + 0.1 * bow), 0.6 * skin, 0.3)  # the shade below the lips
    canvas.fill(place(top, bottom), lips)
    canvas.fill(place(top, upper), 0.85 * lips)
    if gap:
        canvas.fill(place(upper, lower), _MOUTH_INSIDE)
        canvas.fill(place(upper, np.minimum(lower, upper + 0.1 * bow**0.5)), _TEETH)
    canvas.line(place(upper, upper)[: len(x)], 0.35 * lips, 0.035 * face.radius)


def draw_nose(canvas: Canvas, face: Face, skin: np.ndarray, light: np.ndarray) -> None:
    """Draw a ridge with a lit and a dark side, a line below it, nostrils and a bright tip."""
    v, height = face.nose[1], face.nose_height

    def place(points: List[List[float]]) -> np.ndarray:
        """Project rows of u, v and height above the surface."""
        rows = np.array(points)
        return on_surface(face, rows[:, :2], rows[:, 2])

    for side in (-1.0, 1.0):
        flank = [[0.0, -0.15, 0.04], [0.0, v, height], [0.0, v + 0.1, 0.6 * height]]
        flank += [[side * 0.1, v + 0.11, 0.3 * height], [side * 0.18, v + 0.04, 0.0], [side * 0.06, -0.1, 0.0]]
        canvas.fill(place(flank), skin * (1.0 + 0.25 * side * light[0] - 0.06))
    base = place([[-0.17, v + 0.05, 0.0], [0.0, v + 0.11, 0.6 * height], [0.17, v + 0.05, 0.0]])
    canvas.line(base, 0.55 * skin, 0.04 * face.radius)
    for side in (-1.0, 1.0):
        nostril = disc(np.array([side * 0.085, v + 0.085]), [0.05, 0.028], 10)
        canvas.fill(on_surface(face, nostril, 0.4 * height), 0.25 * skin)
    for radius in (0.1, 0.07, 0.04):
        canvas.fill(on_surface(face, disc(face.nose, radius, 12), height), 1.25 * skin + 0.08, 0.35)
