from typing import Any, Optional

import numpy as np
import pytest

from fse import geometry
from fse.errors import DataError, ImageError
from fse.preprocessing import crop_frame
from tests.fse.preprocessing.dotted import FACE, settings


def test_mean_shape_is_centered_with_the_eyes_at_the_given_distance() -> None:
    turned = FACE @ np.array([[0.0, -30.0], [30.0, 0.0]]) + [100.0, 70.0]
    nowhere = np.full((3, 2), np.nan)
    mistyped = FACE * 30.0
    mistyped[2] = [1e6, 0.0]
    blind = FACE * [[0.0, 1.0]]
    shapes = np.array([FACE * 20.0 + 50.0, turned, nowhere, mistyped, blind])
    for eyes in ((0, 1), (1, 0)):
        mean = crop_frame.mean_shape(shapes, eyes, 0.4)
        assert np.allclose(mean.mean(0), 0.0)
        assert np.allclose(mean[1] - mean[0], [0.8, 0.0])
        assert np.allclose(mean[2] - mean[:2].mean(0), [0.0, 0.96])
    with pytest.raises(DataError, match="no training image"):
        crop_frame.mean_shape(shapes[2:], (0, 1), 0.4)


def in_crop(values: Any, points: Any, box: Optional[np.ndarray] = None) -> np.ndarray:
    """Pixels of the crop for points of an image of CelebA's size, 178 x 218 pixels."""
    chosen = settings(**values).crop
    frame = crop_frame.crop_frame_of(chosen, None, np.zeros((0, 2)), box, np.array([178.0, 218.0]))
    return geometry.to_pixels(
        geometry.apply_affine(geometry.invert_affine(frame), np.array(points)), (chosen.size, chosen.size)
    )


POINTS = np.array([[69.5, 109.5], [106.5, 113.5], [77.25, 142.0]])


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        # lmdis-rep, IMM and the reference implementations: both sides scaled to the same length.
        ({"mode": "squash", "size": 100}, POINTS * [100 / 178, 100 / 218]),
        ({"mode": "squash", "size": 146}, POINTS * [146 / 178, 146 / 218]),
        # DVE: rows 30 to 207 of CelebA.
        ({"size": 100, "margins": [0, 30, 0, 10]}, (POINTS - [0, 30]) * 100 / 178),
        ({"mode": "squash", "size": 100, "margins": [0, 30, 0, 10]}, (POINTS - [0, 30]) * 100 / 178),
        ({"size": 146}, (POINTS - [0, 20]) * 146 / 178),
        ({"size": 80, "shift": [0.1, -0.2]}, (POINTS - [17.8, 20 - 35.6]) * 80 / 178),
    ],
)
def test_frames_agree_with_the_protocols(values: Any, expected: Any) -> None:
    assert np.abs(in_crop(values, POINTS) - expected).max() < 0.01


def test_the_frame_of_300w() -> None:
    """The box is 52 of 100 pixels wide, with its center 2 pixels below the crop's."""
    box = np.array([40.0, 60.0, 104.0, 130.0])
    values = {"mode": "box", "size": 100, "scale": 100 / 52, "box_side": "width", "shift": [0.0, -0.02]}
    corners = in_crop(values, [[40.0, 125.0], [144.0, 125.0]], box)
    assert np.abs(corners - [[24.0, 52.0], [76.0, 52.0]]).max() < 0.01


def test_margins_that_leave_nothing_of_the_image_are_rejected() -> None:
    with pytest.raises(ImageError, match="less than crop.margins remove"):
        in_crop({"margins": [100, 0, 100, 0]}, POINTS)
