"""Drawing of the figure from back to front: long hair, body, head, features, hair and glasses."""

import numpy as np

from fse.datasets.synthetic_faces import features
from fse.datasets.synthetic_faces.canvas import Canvas, circle, disc
from fse.datasets.synthetic_faces.colors import HAIR_COLORS, sample_skin
from fse.datasets.synthetic_faces.model import Face, in_plane, on_surface, outline


def draw_figure(canvas: Canvas, face: Face, light: np.ndarray, random: np.random.RandomState) -> None:
    """Draw a figure with the given geometry and a sampled look.

    Args:
      canvas: the canvas, with the background on it.
      face: the geometry.
      light: see `photograph.sample_light`.
      random: the stream of the look. The order in which it is used is part of the data set.
    """
    skin = sample_skin(random)
    hair = np.clip(HAIR_COLORS[random.randint(len(HAIR_COLORS))] + random.normal(size=3) * 0.03, 0.02, 1.0)
    style = random.choice(["bald", "short", "fringe", "long", "curly"], p=[0.12, 0.28, 0.2, 0.25, 0.15])
    if style == "long":
        _draw_long_hair(canvas, face, hair, random)
    _draw_body(canvas, face, skin, random)
    _draw_ears(canvas, face, skin)
    canvas.fill_figure(outline(face, 0.0, 360.0), skin)
    _draw_cheeks(canvas, face, skin, random)
    if random.rand() < 0.2:
        _draw_beard(canvas, face, hair, random)
    features.draw_eyes(canvas, face, skin, hair, random)
    features.draw_mouth(canvas, face, skin, hair, random)
    features.draw_nose(canvas, face, skin, light)
    if style != "bald":
        _draw_hair(canvas, face, hair, style, random)
    if random.rand() < 0.18:
        _draw_glasses(canvas, face, random)


def _draw_long_hair(canvas: Canvas, face: Face, hair: np.ndarray, random: np.random.RandomState) -> None:
    """Draw the hair behind head and neck."""
    length = random.uniform(0.8, 1.9)
    v = np.linspace(0.0, length, 8)
    edge = 1.15 + 0.1 * np.sin(v * random.uniform(2.0, 7.0)) * random.rand() + 0.08 * v
    right, left = np.stack([edge, v], axis=-1), np.stack([-edge, v], axis=-1)
    sides = in_plane(face, np.concatenate([right, left[::-1]]))
    canvas.fill_figure(np.concatenate([outline(face, 180.0, 360.0, 1.15), sides]), 0.8 * hair)


def _draw_body(canvas: Canvas, face: Face, skin: np.ndarray, random: np.random.RandomState) -> None:
    """Draw neck and shoulders, which stay upright when the head rolls."""
    chin = in_plane(face, np.array([[0.0, face.aspect]]))
    neck = random.uniform(0.42, 0.6)
    top = in_plane(face, np.array([[-neck, 0.4], [neck, 0.4]]))
    cloth, wide = random.uniform(0.05, 0.95, 3), random.uniform(1.7, 2.5)
    right = np.array([[neck, 0.15], [0.7 * wide, 0.45], [0.9 * wide, 0.75], [wide, 1.4], [wide, 9.0]])
    shoulders = np.concatenate([right, right[::-1] * [-1.0, 1.0]])
    canvas.fill_figure(np.concatenate([top, chin + face.radius * np.array([[neck, 0.6], [-neck, 0.6]])]), 0.72 * skin)
    canvas.fill_figure(chin + face.radius * shoulders, cloth)
    collar = np.array([[-neck - 0.05, 0.13], [0.0, random.uniform(0.2, 0.8)], [neck + 0.05, 0.13]])
    canvas.fill_figure(chin + face.radius * collar, 0.85 * skin)
    if random.rand() < 0.4:
        stripe = random.uniform(0.0, 1.0, 3)
        for v in np.arange(0.6, 3.0, random.uniform(0.2, 0.5)):
            canvas.line(chin + face.radius * np.array([[-0.8 * wide, v], [0.8 * wide, v]]), stripe, 0.08 * face.radius)


def _draw_ears(canvas: Canvas, face: Face, skin: np.ndarray) -> None:
    for side in (-1.0, 1.0):
        # The ear on the side to which the head turns moves inward, behind the head.
        inwards = 1.0 - max(0.0, side * np.sin(face.yaw))
        ear = disc(np.array([side * 0.98 * inwards, 0.05]), [0.14, 0.26])
        canvas.fill_figure(in_plane(face, ear), 0.9 * skin * [1.0, 0.93, 0.9])


def _draw_cheeks(canvas: Canvas, face: Face, skin: np.ndarray, random: np.random.RandomState) -> None:
    """Draw blush, and the shade of the eye sockets."""
    blush = random.uniform(0.0, 0.12)
    for side in (-1.0, 1.0):
        for scale in (1.0, 0.7):
            cheek = disc(np.array([side * 0.52, 0.32]), np.array([0.24, 0.2]) * scale)
            canvas.fill(on_surface(face, cheek), skin * [1.0, 0.6, 0.55], blush)
            socket = disc(face.eye * [side, 1.0], np.array([0.3, 0.22]) * scale)
            canvas.fill(on_surface(face, socket), 0.6 * skin, 0.13)


def _draw_beard(canvas: Canvas, face: Face, hair: np.ndarray, random: np.random.RandomState) -> None:
    u = np.linspace(-0.97, 0.97, 25)
    upper_edge = face.mouth[1] - 0.2 + random.uniform(0.0, 0.3) * np.sin(np.pi * u) ** 2 - 0.5 * u**6
    edge = on_surface(face, np.stack([u, upper_edge], axis=-1))
    opacity = random.uniform(0.5, 0.99)
    canvas.fill(np.concatenate([outline(face, 5.0, 175.0, random.uniform(1.0, 1.1)), edge]), 0.9 * hair, opacity)


def _draw_hair(canvas: Canvas, face: Face, hair: np.ndarray, style: str, random: np.random.RandomState) -> None:
    """Draw the hair in front, between the silhouette of the skull and a hairline on the face."""
    u = np.linspace(-0.97, 0.97, 33)
    if style == "fringe":
        forehead, raggedness = face.eye[1] - random.uniform(0.25, 0.4), random.uniform(0.0, 0.12)
    else:
        forehead, raggedness = -random.uniform(0.58, 0.75) * face.aspect, 0.03
    temple = random.uniform(-0.3, 0.15)
    parting = random.uniform(-0.5, 0.5)
    v = forehead + (temple - forehead) * np.abs(u) ** random.uniform(2.5, 6.0) + 0.1 * np.abs(u - parting)
    v += raggedness * random.uniform(-1.0, 1.0, len(u))
    hairline = on_surface(face, np.stack([u, v], axis=-1))
    skull = outline(face, 178.0, 362.0, random.uniform(1.06, 1.2))
    if style == "curly":
        for point in np.concatenate([skull, hairline[::3]]):
            curl = disc(point, random.uniform(0.12, 0.3) * face.radius, 12)
            canvas.fill_figure(curl, hair * random.uniform(0.8, 1.1))
    canvas.fill_figure(np.concatenate([skull, hairline[::-1]]), hair)
    for start, stop in zip(skull[2:-2:2], hairline[2:-3:2]):
        strand = np.stack([start, stop]) + random.normal(size=(2, 1)) * 0.02 * face.radius
        canvas.line(strand, hair * random.uniform(0.6, 1.5), 0.03 * face.radius, 0.3)


def _draw_glasses(canvas: Canvas, face: Face, random: np.random.RandomState) -> None:
    color, width = random.uniform(0.0, 0.5, 3), random.uniform(0.035, 0.07) * face.radius
    # The exponent shapes the rims: 1 is an ellipse, and smaller values are squarer.
    radii, exponent = [random.uniform(0.25, 0.31), random.uniform(0.2, 0.28)], random.uniform(0.5, 1.0)
    for side in (-1.0, 1.0):
        ring = circle(24)
        rim = face.eye * [side, 1.0] + np.sign(ring) * np.abs(ring) ** exponent * radii
        canvas.fill(on_surface(face, rim, 0.1), np.ones(3), 0.12)
        canvas.line(on_surface(face, np.append(rim, rim[:2], axis=0), 0.1), color, width)
        arm = np.array([[side * (face.eye[0] + radii[0]), face.eye[1]], [side * 0.98, face.eye[1]]])
        canvas.line(on_surface(face, arm, 0.05), color, width)
    bridge = np.array([[radii[0] - face.eye[0], face.eye[1]], [face.eye[0] - radii[0], face.eye[1]]])
    canvas.line(on_surface(face, bridge, 0.12), color, width)
