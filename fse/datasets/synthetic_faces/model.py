"""The geometry of a synthetic face: a random pose and identity, and where its parts and landmarks are in the image.

A head is an ellipsoid. Features are curves on its surface, which is turned by yaw, pitch and roll and projected in
parallel, so features and landmarks move together and are foreshortened alike.

Lengths are in half-widths of the head. *Head coordinates* are (u, v), u to the image's right, v down, with (0, 0) in the
middle of the face. Results are in *image widths*: (x, y) in [0, 1], with (0, 0) at the top-left outer corner.
"""

from dataclasses import dataclass
from typing import Union

import numpy as np

LANDMARKS = ("left_eye", "right_eye", "nose", "left_mouth", "right_mouth")  # left and right of the image

# Every face has a random stream for each of these purposes, so background and photograph say nothing about the pose.
GEOMETRY, LOOK, BACKGROUND, CAMERA = range(4)


@dataclass(frozen=True)
class Face:
    """The geometry of one face: everything that its landmarks depend on."""

    center: np.ndarray  # [2], in image widths
    radius: float  # half the width of the head, in image widths
    aspect: float  # height of the head over its width
    rotation: np.ndarray  # [3, 3], head to camera
    yaw: float  # radians, positive towards the image's right
    roll: float  # radians, clockwise
    eye: np.ndarray  # [2] (u, v), center of the right eye's opening
    nose: np.ndarray  # [2] (u, v), tip of the nose
    nose_height: float  # height of the tip above the surface
    mouth: np.ndarray  # [2] (u, v), right corner of the mouth
    mouth_bend: float  # how far the middle of the mouth lies below its corners; positive for a smile


def random_stream(seed: int, index: int, stream: int) -> np.random.RandomState:
    """Return the random numbers of one face for one purpose, such as `GEOMETRY`."""
    return np.random.RandomState([seed, index, stream])


def sample_face(seed: int, index: int) -> Face:
    """Sample the geometry of a face: a pose that keeps the head inside the image, and an identity."""
    random = random_stream(seed, index, GEOMETRY)
    yaw, pitch, roll = np.radians(np.clip(random.normal(size=3), -2.2, 2.2) * [11.0, 8.0, 12.0])
    aspect = random.uniform(1.18, 1.38)
    radius = min(random.uniform(0.225, 0.375), 0.48 / aspect)
    axes = np.array([1.0, aspect])
    # Half the extent of the rolled ellipse along x and y; what is left of the image is room for the center to vary.
    extent = radius * np.hypot(axes * np.cos(roll), axes[::-1] * np.sin(roll))
    room = np.maximum(0.0, 0.49 - extent)
    center = 0.5 + np.clip(random.normal(size=2) * 0.038, -room, room)
    smile = np.clip(random.normal(0.2, 0.6), -1.0, 1.3)
    return Face(
        center=center,
        radius=radius,
        aspect=aspect,
        rotation=_head_rotation(yaw, pitch, roll),
        yaw=yaw,
        roll=roll,
        eye=np.array([random.uniform(0.39, 0.47), random.uniform(-0.20, -0.08)]),
        nose=np.array([0.0, random.uniform(0.20, 0.32)]),
        nose_height=random.uniform(0.14, 0.30),
        mouth=np.array([random.uniform(0.25, 0.38) + 0.04 * smile, random.uniform(0.55, 0.68) - 0.05 * smile]),
        mouth_bend=0.10 * smile,
    )


def landmarks_of(face: Face, size: int) -> np.ndarray:
    """Return the landmarks of a face in an image of `size` pixels, float64 [5, 2], in the order of `LANDMARKS`.

    Pixels are rounded to a thousandth, so that the result does not depend on the versions of the libraries.
    """
    mirror = np.array([-1.0, 1.0])
    points = np.stack([face.eye * mirror, face.eye, face.nose, face.mouth * mirror, face.mouth])
    heights = np.array([0.0, 0.0, face.nose_height, 0.0, 0.0])
    pixels: np.ndarray = np.round(on_surface(face, points, heights) * size, 3)
    return pixels


def on_surface(face: Face, points: np.ndarray, height: Union[float, np.ndarray] = 0.0) -> np.ndarray:
    """Project points of the head's surface into the image.

    Args:
      face: the face.
      points: [n, 2] head coordinates (u, v), as seen from the front.
      height: height above the ellipsoid, a number or [n].

    Returns:
      [n, 2] in image widths.
    """
    u, v = points[:, 0], points[:, 1]
    depth = np.sqrt(np.maximum(0.0, 1.0 - u**2 - (v / face.aspect) ** 2)) + height
    projected: np.ndarray = face.center + face.radius * np.stack([u, v, depth], axis=-1) @ face.rotation[:2].T
    return projected


def in_plane(face: Face, points: np.ndarray) -> np.ndarray:
    """Project points of the silhouette, which rolls with the head but is not turned out of the image plane.

    Args:
      face: the face.
      points: [n, 2] head coordinates (u, v).

    Returns:
      [n, 2] in image widths.
    """
    projected: np.ndarray = face.center + face.radius * points @ rotation_2d(face.roll).T
    return projected


def outline(face: Face, start: float, stop: float, scale: float = 1.0) -> np.ndarray:
    """Return a part of the head's silhouette, clockwise.

    Args:
      face: the face.
      start: angle of the first point in degrees: 0 is right, 90 the chin, 270 the crown.
      stop: angle of the last point in degrees.
      scale: size relative to the head.

    Returns:
      [32, 2] in image widths.
    """
    angle = np.radians(np.linspace(start, stop, 32))
    u, v = np.cos(angle) * scale, np.sin(angle) * scale
    jaw = 1.0 - 0.22 * np.maximum(0.0, v) ** 2  # narrower towards the chin
    return in_plane(face, np.stack([jaw * u + 0.15 * np.sin(face.yaw) * v, face.aspect * v], axis=-1))


def rotation_2d(angle: float) -> np.ndarray:
    """Return the [2, 2] rotation by an angle in radians, clockwise as y points down."""
    return np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])


def _head_rotation(yaw: float, pitch: float, roll: float) -> np.ndarray:
    """Return the [3, 3] rotation by yaw, then pitch, then roll; x right, y down, z towards the viewer."""
    about_y = np.array([[np.cos(yaw), 0.0, np.sin(yaw)], [0.0, 1.0, 0.0], [-np.sin(yaw), 0.0, np.cos(yaw)]])
    about_x = np.array([[1.0, 0.0, 0.0], [0.0, np.cos(pitch), np.sin(pitch)], [0.0, -np.sin(pitch), np.cos(pitch)]])
    about_z = np.eye(3)
    about_z[:2, :2] = rotation_2d(roll)
    rotation: np.ndarray = about_z @ about_x @ about_y
    return rotation
