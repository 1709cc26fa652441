import csv
import dataclasses
import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Iterator

import numpy as np
import pytest
from PIL import Image

from fse import config, geometry
from fse.datasets import download
from fse.errors import DataError, ImageError, StageError
from fse.preprocessing import align_crop, crop_frame
from fse.runtime import processes

FACES = Path(__file__).resolve().parents[4] / "shared" / "data" / "faces.zip"
EYES = ("left_eye", "right_eye")
FACE = np.array([[-0.5, 0.0], [0.5, 0.0], [0.0, 1.2]])  # left eye, right eye, mouth; eyes 1 apart
NAMES = ["left_eye", "right_eye", "mouth"]


def settings(**values: Any) -> Any:
    crop_size = values.setdefault("size", 50)
    values.setdefault("reads_test_annotations", True)
    return config.from_tables({"crop": values, "network": {"view": min(16, crop_size)}})


def dotted(size: Any, points: Any, radius: Any = 2.0) -> Any:
    """A gray image with a soft white dot at each point, uint8 [height, width, 3]."""
    width, height = size
    x, y = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
    light = np.full((height, width), 40.0)
    for point in np.reshape(points, (-1, 2)):
        light += 200.0 * np.exp(-((x - point[0]) ** 2 + (y - point[1]) ** 2) / (2.0 * radius**2))
    return np.repeat(np.clip(np.round(light), 0, 255).astype(np.uint8)[:, :, None], 3, axis=2)


def dot(image: Any, near: Any, reach: Any) -> Any:
    """The centroid of the light around a pixel position, in pixels."""
    light = image[:, :, 0].astype(float) - 40.0
    y, x = np.mgrid[: len(light), : light.shape[1]] + 0.5
    light[np.hypot(x - near[0], y - near[1]) > reach] = 0.0
    return np.array([(light * x).sum(), (light * y).sum()]) / light.sum()


def make(
    folder: Any, rows: Any, columns: Any = "file,split,left_eye_x,left_eye_y,right_eye_x,right_eye_y,mouth_x,mouth_y"
) -> Any:
    """A data set as Download writes it: rows of (name, image or bytes, further cells)."""
    (folder / "images").mkdir(parents=True, exist_ok=True)
    lines = [columns]
    for name, image, cells in rows:
        path = folder / "images" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(image, bytes):
            path.write_bytes(image)
        elif image is not None:
            Image.fromarray(image).save(str(path))
        if cells is not None:
            lines.append(",".join([name] + [str(cell) for cell in cells]))
    if columns:
        (folder / "landmarks.csv").write_text("\n".join(lines) + "\n")
    return folder


def faces(folder: Any, count: Any = 6, size: Any = (120, 100)) -> Any:
    """Dotted faces of known places, turned and scaled. Returns the folder and the points [count, 3, 2]."""
    random, rows, points = np.random.RandomState(1), [], []
    for number in range(count):
        angle, zoom = random.uniform(-0.5, 0.5), random.uniform(20.0, 30.0)
        turn = zoom * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        place = np.round(FACE @ turn.T + np.array(size) / 2.0 - [0.0, 12.0], 3)
        split = "test" if number % 3 == 2 else "train"
        rows.append((f"{number}.png", dotted(size, place), [split] + place.ravel().tolist()))
        points.append(place)
    return make(folder, rows), np.array(points)


def table(folder: Any, name: Any = "landmarks.csv") -> Any:
    with open(str(folder / name), newline="") as stream:
        return list(csv.DictReader(stream))


def points_of(row: Any, names: Any = NAMES) -> Any:
    return np.array([[float(row[name + "_x"]), float(row[name + "_y"])] for name in names])


def image_of(folder: Any, row: Any) -> Any:
    return np.asarray(Image.open(str(folder / "images" / row["file"])))


def sample(image: Any, square: Any, size: Any) -> Any:
    return np.asarray(align_crop.resample(Image.fromarray(image), square, size))


# Resampling ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("angle", [0.0, 0.3, -1.2, np.pi])
@pytest.mark.parametrize("side", [20.0, 50.0, 77.7, 160.0, 333.0, 900.0])
def test_dots_are_found_where_their_landmarks_are(angle: Any, side: float) -> None:
    """Within a tenth of a crop pixel, enlarging or shrinking, turned or not, also where the square leaves the image."""
    random = np.random.RandomState(0)
    size, center = 50, np.array([203.3, 158.8])
    half = side / 2.0 * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    square = np.concatenate([half, center[:, None]], axis=1)
    step = side / size
    for _ in range(4):
        landmark = random.uniform(-0.6, 0.6, 2) * min(1.0, 240.0 / side)
        pixel = geometry.apply_affine(square, landmark)
        image = dotted((400, 300), pixel, radius=max(1.2, 1.5 * step))
        wanted = geometry.to_pixels(landmark, (size, size))
        found = dot(sample(image, square, size), wanted, 4.0 + 6.0 / step)
        assert np.abs(found - wanted).max() < 0.1


def center_of(image: Any, near: Any, reach: Any) -> Any:
    """The middle of a smooth round spot near a pixel position, by moments under a round window that follows it.

    Exact for spots that a linear map made of a Gaussian one, but for the 8 bits of a pixel: it knows nothing of squares.
    """
    light = image[:, :, 0].astype(float) - 40.0
    y, x = np.mgrid[: len(light), : light.shape[1]] + 0.5
    center = np.round(near)
    for _ in range(12):
        weights = light * np.exp(-((x - center[0]) ** 2 + (y - center[1]) ** 2) / (2.0 * reach**2))
        center = np.array([(weights * x).sum(), (weights * y).sum()]) / weights.sum()
    return center


@pytest.mark.parametrize("angle", [0.0, 1e-3, 0.3, np.pi / 2, np.pi])
@pytest.mark.parametrize("side", [50.0, 100.0, 160.0, 333.0])
def test_landmarks_are_exact_to_a_hundredth_of_a_pixel(angle: Any, side: float) -> None:
    """Turned by a little or a right angle, neither larger nor smaller: there interpolation may shift a whole image.

    The fractions are such that no value is rounded back to the pixel's beside it all over the image, which 8 bits do to
    shifts of a few hundredths.
    """
    size, step = 100, side / 100.0
    half = side / 2.0 * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    for number, part in enumerate((0.3, 0.61)):
        square = np.concatenate([half, [[203.0 + part], [158.5 + part]]], axis=1)
        landmark = np.array([[0.237, -0.311], [-0.123, 0.171]])[number]
        image = dotted((400, 300), geometry.apply_affine(square, landmark), radius=max(5.0, 5.0 * step))
        wanted = geometry.to_pixels(landmark, (size, size))
        found = center_of(sample(image, square, size), wanted, max(5.0 / step, 5.0))
        assert np.abs(found - wanted).max() < 0.01


@pytest.mark.parametrize(
    "values",
    [
        {"mode": "center", "scale": 0.9, "shift": [0.02, -0.03]},
        {"mode": "center", "margins": [3, 8, 0, 1]},
        {"mode": "squash"},
        {"mode": "squash", "margins": [11, 0, 7, 5], "scale": 1.1},
        {"mode": "box", "scale": 1.3, "box_side": "width", "shift": [0.0, -0.02]},
        {"mode": "landmarks", "eye_distance": 0.35},
    ],
    ids=lambda values: "{mode}-{}".format(len(values), **values),
)
def test_every_protocol_shows_its_landmarks_to_a_hundredth_of_a_pixel(tmp_path: Path, values: Any) -> None:
    size, random, rows = (290, 240), np.random.RandomState(3), []
    for number in range(3):
        angle = random.uniform(-0.2, 0.2)
        turn = 80.0 * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        points = np.round(FACE @ turn.T + [145.0, 90.0] + random.uniform(-4.0, 4.0, 2), 3)
        box = [*points.min(0) - 40.0, 170.0, 150.0]
        image = dotted(size, points, radius=9.0)
        rows.append((f"{number}.png", image, ["train", *box, *points.ravel()]))
    columns = "file,split,box_x,box_y,box_width,box_height," + ",".join(
        name + axis for name in NAMES for axis in ("_x", "_y")
    )
    align_crop.align_crop(
        settings(format="png", **dict(values, size=100)), make(tmp_path / "data", rows, columns), tmp_path / "out"
    )
    made = table(tmp_path / "out")
    assert len(made) == 3
    for row in made:
        for wanted in geometry.to_pixels(points_of(row), (100, 100)):
            found = center_of(image_of(tmp_path / "out", row), wanted, 4.5)
            assert np.abs(found - wanted).max() < 0.01


def test_a_crop_of_the_same_size_changes_nothing() -> None:
    image = np.random.RandomState(0).randint(0, 256, (40, 40, 3)).astype(np.uint8)
    square = np.array([[20.0, 0.0, 20.0], [0.0, 20.0, 20.0]])
    assert (sample(image, square, 40) == image).all()
    quarter = np.array([[0.0, -20.0, 20.0], [20.0, 0.0, 20.0]])  # right of the crop is down in the image
    assert np.abs(sample(image, quarter, 40).astype(int) - np.rot90(image).astype(int)).max() <= 1


@pytest.mark.parametrize("angle", [0.0, 0.4])
@pytest.mark.parametrize("side", [400.0, 1500.0])
def test_shrinking_is_antialiased(angle: float, side: float) -> None:
    """A one-pixel chequerboard becomes even gray."""
    board = np.indices((1600, 1600)).sum(0) % 2 * 255
    image = np.repeat(board.astype(np.uint8)[:, :, None], 3, axis=2)
    half = side / 2.0 * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    found = sample(image, np.concatenate([half, [[800.0], [800.0]]], axis=1), 50)
    assert np.abs(found.astype(int) - 127).max() <= 8


@pytest.mark.parametrize("angle", [0.0, 0.4])
@pytest.mark.parametrize("side", [30.0, 250.0, 2000.0])
def test_the_border_is_repeated_outside(angle: float, side: float) -> None:
    ramp = np.repeat(np.linspace(50, 200, 100).astype(np.uint8)[None, :, None], 100, axis=0).repeat(3, axis=2)
    half = side / 2.0 * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    found = sample(ramp, np.concatenate([half, [[0.0], [50.0]]], axis=1), 32)
    points = geometry.apply_affine(
        np.concatenate([half, [[0.0], [50.0]]], axis=1), geometry.grid(*[geometry.centers(32)] * 2)
    )
    outside = points[:, 0].reshape(32, 32) < -2.0 * max(1.0, side / 32)
    assert outside.any()
    assert np.abs(found[outside].astype(int) - 50).max() <= (2 if side < 100 else 10)
    assert found.min() >= 40


def test_a_square_outside_the_image() -> None:
    image = dotted((50, 50), [25, 25])
    with pytest.raises(ImageError, match="outside the image"):
        sample(image, np.array([[10.0, 0.0, 80.0], [0.0, 10.0, 25.0]]), 20)


def test_a_giant_square_takes_little_memory() -> None:
    found = sample(dotted((60, 40), [30, 20], 9.0), np.array([[600.0, 5.0, 30.0], [-5.0, 600.0, 20.0]]), 1024)
    assert found.shape == (1024, 1024, 3)


# Mean shape ------------------------------------------------------------------------------------------------------------


def test_the_mean_shape_is_centerd_with_its_eyes_a_given_part_apart() -> None:
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


# Where the square lies --------------------------------------------------------------------------------------------------


def placed(values: Any, points: Any, box: Any = None, size: Any = (178.0, 218.0)) -> Any:
    """Pixels of the crop where points of the image come to lie."""
    chosen = settings(**values).crop
    square = crop_frame.square_of(chosen, None, np.zeros((0, 2)), box, np.array(size))
    return geometry.to_pixels(
        geometry.apply_affine(geometry.invert_affine(square), np.array(points)), (chosen.size, chosen.size)
    )


POINTS = np.array([[69.5, 109.5], [106.5, 113.5], [77.25, 142.0]])


@pytest.mark.parametrize(
    ("values", "wanted"),
    [
        # lmdis-rep, IMM and the replaced codes: both sides to the same length.
        ({"mode": "squash", "size": 100}, POINTS * [100 / 178, 100 / 218]),
        ({"mode": "squash", "size": 146}, POINTS * [146 / 178, 146 / 218]),
        # DVE: rows 30 to 207 of CelebA.
        ({"size": 100, "margins": [0, 30, 0, 10]}, (POINTS - [0, 30]) * 100 / 178),
        ({"mode": "squash", "size": 100, "margins": [0, 30, 0, 10]}, (POINTS - [0, 30]) * 100 / 178),
        ({"size": 146}, (POINTS - [0, 20]) * 146 / 178),
        ({"size": 80, "shift": [0.1, -0.2]}, (POINTS - [17.8, 20 - 35.6]) * 80 / 178),
    ],
)
def test_squares_are_those_of_the_protocols(values: Any, wanted: Any) -> None:
    assert np.abs(placed(values, POINTS) - wanted).max() < 0.01


def test_the_square_of_300w() -> None:
    """The box's width on 52 of 100 pixels, its middle 2 pixels below the crop's."""
    box = np.array([40.0, 60.0, 104.0, 130.0])
    values = {"mode": "box", "size": 100, "scale": 100 / 52, "box_side": "width", "shift": [0.0, -0.02]}
    corners = placed(values, [[40.0, 125.0], [144.0, 125.0]], box)
    assert np.abs(corners - [[24.0, 52.0], [76.0, 52.0]]).max() < 0.01


def test_margins_that_leave_nothing() -> None:
    with pytest.raises(ImageError, match="less than crop.margins take"):
        placed({"margins": [100, 0, 100, 0]}, POINTS)


def test_a_squashed_image_shows_its_landmarks_where_they_are() -> None:
    point = np.array([120.0, 60.0])
    square = crop_frame.upright_square(np.array([89.0, 109.0]), np.array([178.0, 218.0]))
    found = dot(sample(dotted((178, 218), point, 5.0), square, 100), point * [100 / 178, 100 / 218], 12.0)
    assert np.abs(found - point * [100 / 178, 100 / 218]).max() < 0.1


def test_landmarks_may_hang_over_the_image(tmp_path: Path) -> None:
    dataset = make(tmp_path / "data", [("a.png", GOOD, ["train", -5.0, 20, 40, 20, 30, 40])])
    align_crop.align_crop(settings(overhang=0.1), dataset, tmp_path / "out")
    assert len(table(tmp_path / "out")) == 1
    with pytest.raises(DataError, match="no usable image"):
        align_crop.align_crop(settings(overhang=0.05), dataset, tmp_path / "out2")


# The stage -------------------------------------------------------------------------------------------------------------


def test_center(tmp_path: Path) -> None:
    dataset, points = faces(tmp_path / "data")
    align_crop.align_crop(settings(scale=0.9), dataset, tmp_path / "out")
    rows = table(tmp_path / "out")
    assert [row["source"] for row in rows] == [f"{number}.png" for number in range(6)]
    assert [row["split"] for row in rows] == ["train", "train", "test"] * 2
    for row, place in zip(rows, points):
        wanted = (place - [60.0, 50.0]) / 45.0
        assert np.allclose(points_of(row), wanted, atol=1e-6)
        image = image_of(tmp_path / "out", row)
        assert image.shape == (50, 50, 3)
        for point in geometry.to_pixels(wanted, (50, 50)):
            assert np.abs(dot(image, point, 4.0) - point).max() < 0.1
    assert json.loads((tmp_path / "out" / "crop.json").read_text()) == {
        "images": 6,
        "skipped": 0,
        "splits": {"train": 4, "test": 2},
        "landmarks": NAMES,
        "size": 50,
        "mode": "center",
        "reads_test_annotations": False,
    }
    assert (tmp_path / "out" / "skipped.csv").read_text() == "source,reason\n"
    assert (tmp_path / "out" / "landmarks.csv").read_text().startswith("file,source,split,left_eye_x,left_eye_y,")


def test_landmarks_bring_every_face_to_the_mean_shape(tmp_path: Path) -> None:
    dataset, _ = faces(tmp_path / "data")
    align_crop.align_crop(settings(mode="landmarks", eye_distance=0.4), dataset, tmp_path / "out")
    wanted = 0.8 * (FACE - FACE.mean(0))
    for row in table(tmp_path / "out"):
        assert np.allclose(points_of(row), wanted, atol=1e-3)
        for point in geometry.to_pixels(points_of(row), (50, 50)):
            assert np.abs(dot(image_of(tmp_path / "out", row), point, 5.0) - point).max() < 0.1
    assert json.loads((tmp_path / "out" / "crop.json").read_text())["reads_test_annotations"] is True


def test_the_mean_shape_is_of_training_images_only(tmp_path: Path) -> None:
    dataset, _ = faces(tmp_path / "data")
    align_crop.align_crop(settings(mode="landmarks"), dataset, tmp_path / "out")
    text = (dataset / "landmarks.csv").read_text().splitlines()
    text[3] = "2.png,test,40,40,60,40,41,90"  # another shape
    (dataset / "landmarks.csv").write_text("\n".join(text))
    align_crop.align_crop(settings(mode="landmarks"), dataset, tmp_path / "out2")
    before, after = table(tmp_path / "out"), table(tmp_path / "out2")
    assert [a == b for a, b in zip(before, after)] == [True, True, False, True, True, True]


def test_box(tmp_path: Path) -> None:
    image = dotted((100, 80), [30.0, 40.0])
    columns = "file,nose_x,nose_y,box_x,box_y,box_width,box_height"
    rows = [("a.png", image, [30, 40, 20, 30, 20, 40]), ("b.png", image, [30, 40, -10, 0, 50, 40])]
    align_crop.align_crop(settings(mode="box", scale=1.5), make(tmp_path / "data", rows, columns), tmp_path / "out")
    first, second = table(tmp_path / "out")
    assert np.allclose(points_of(first, ["nose"]), [[0.0, -10.0 / 30.0]], atol=1e-6)
    assert np.allclose(points_of(second, ["nose"]), [[15.0 / 37.5, 20.0 / 37.5]], atol=1e-6)
    for row in (first, second):
        point = geometry.to_pixels(points_of(row, ["nose"]), (50, 50))[0]
        assert np.abs(dot(image_of(tmp_path / "out", row), point, 6.0) - point).max() < 0.1


def test_exif_orientation_comes_before_the_landmarks(tmp_path: Path) -> None:
    upright = dotted((60, 90), [15.0, 30.0])
    dataset = make(tmp_path / "data", [("a.png", None, [60, 90, 15, 30])], "file,width,height,nose_x,nose_y")
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise
    Image.fromarray(np.ascontiguousarray(np.rot90(upright))).save(str(dataset / "images" / "a.png"), exif=exif)
    align_crop.align_crop(settings(size=60), dataset, tmp_path / "out")
    (row,) = table(tmp_path / "out")
    assert np.allclose(geometry.to_pixels(points_of(row, ["nose"]), (60, 60)), [[15.0, 15.0]], atol=1e-4)
    assert np.abs(dot(image_of(tmp_path / "out", row), [15.0, 15.0], 6.0) - 15.0).max() < 0.1


@pytest.mark.parametrize("orientation", [1, 2, 3, 6, 8])
@pytest.mark.parametrize("size", [(1600, 1200), (1603, 1205)])
def test_large_photographs_are_decoded_coarsely_and_stay_exact(tmp_path: Path, size: Any, orientation: int) -> None:
    """Dots lie where the landmarks are, as exactly as 8 bits a pixel tell."""
    turned = Image.fromarray(dotted(size, [0.4 * size[0], 0.6 * size[1]], radius=40.0))
    place = {1: (0.4, 0.6), 2: (0.6, 0.6), 3: (0.6, 0.4), 6: (0.4, 0.4), 8: (0.6, 0.6)}[orientation]
    upright = np.array(size if orientation < 5 else size[::-1], float)
    point = upright * place
    cells = [*upright.astype(int), *point]
    dataset = make(tmp_path / "data", [("a.jpg", None, cells)], "file,width,height,nose_x,nose_y")
    exif = Image.Exif()
    exif[0x0112] = orientation
    turned.save(str(dataset / "images" / "a.jpg"), exif=exif, quality=100, subsampling=0)
    align_crop.align_crop(settings(size=100), dataset, tmp_path / "out")
    (row,) = table(tmp_path / "out")
    wanted = geometry.to_pixels(points_of(row, ["nose"]), (100, 100))[0]
    assert np.allclose(wanted, (point - upright / 2.0) * 100.0 / 1200.0 + 50.0, atol=0.1 if size[0] % 8 else 1e-3)
    assert np.abs(dot(image_of(tmp_path / "out", row), wanted, 15.0) - wanted).max() < 0.02


def test_without_annotations(tmp_path: Path) -> None:
    dataset = make(tmp_path / "data", [("a.png", dotted((40, 30), [9, 9]), None)], "")
    align_crop.align_crop(settings(), dataset, tmp_path / "out")
    assert (tmp_path / "out" / "landmarks.csv").read_text() == "file,source,split\na.png,a.png,train\n"
    assert json.loads((tmp_path / "out" / "crop.json").read_text())["landmarks"] == []


GOOD = dotted((60, 50), [[20, 20], [40, 20], [30, 40]])
PLACE = ["train", 20, 20, 40, 20, 30, 40]


@pytest.mark.parametrize(
    ("image", "cells", "values", "reason"),
    [
        (b"no image", PLACE, {}, "not a JPEG"),
        (b"", PLACE, {}, "the file is empty"),
        (None, PLACE, {}, "no such file"),
        (GOOD, None, {}, "no annotation"),
        (GOOD, ["train", "", 20, 40, 20, 30, 40], {}, "a landmark without coordinates"),
        (GOOD, ["train", "inf", 20, 40, 20, 30, 40], {}, "a landmark without coordinates"),
        (GOOD, ["train", 20, 20, 40, 20, 30, 50.5], {}, "a landmark outside the image"),
        (GOOD, ["train", -0.5, 20, 40, 20, 30, 40], {}, "a landmark outside the image"),
        (GOOD, ["train", 30, 20, 30, 20, 30, 20], {"mode": "landmarks"}, "landmarks that coincide"),
        (dotted((61, 50), [20, 20]), PLACE, {"max_pixels": 3000}, "61 x 50 pixels, more than 3000"),
    ],
)
def test_what_is_skipped_and_why(tmp_path: Path, image: Any, cells: Any, values: Any, reason: str) -> None:
    dataset = make(tmp_path / "data", [("bad.png", image, cells)] + [(f"{i}.png", GOOD, PLACE) for i in range(3)])
    align_crop.align_crop(settings(max_skipped=0.25, **values), dataset, tmp_path / "out")
    assert [row["source"] for row in table(tmp_path / "out")] == ["0.png", "1.png", "2.png"]
    (skipped,) = table(tmp_path / "out", "skipped.csv")
    assert skipped["source"] == "bad.png"
    assert reason in skipped["reason"]
    assert json.loads((tmp_path / "out" / "crop.json").read_text())["skipped"] == 1
    assert sorted(path.name for path in (tmp_path / "out" / "images").iterdir()) == ["0.png", "1.png", "2.png"]
    with pytest.raises(DataError, match=r"1 of 4 images .* crop.max_skipped = 0.2 permits: bad.png: ") as caught:
        align_crop.align_crop(settings(max_skipped=0.2, **values), dataset, tmp_path / "out2")
    assert reason in str(caught.value)


@pytest.mark.parametrize(
    ("columns", "cells", "values", "reason"),
    [
        ("file,width,height", [60, 51], {}, "60 x 50 pixels, but annotated as 60 x 51"),
        ("file,box_x,box_y,box_width,box_height", [1, 1, 0, 5], {"mode": "box"}, "a box without extent"),
        ("file,box_x,box_y,box_width,box_height", [1, 1, "", 5], {"mode": "box"}, "a box without extent"),
        ("file,box_x,box_y,box_width,box_height", [99, 1, 5, 5], {"mode": "box"}, "a square outside the image"),
        ("file,box_x,box_y,box_width,box_height", [1, 1, 1e9, 5], {"mode": "box"}, "a square of 1e+09 pixels"),
    ],
)
def test_sizes_and_boxes_that_are_skipped(tmp_path: Path, columns: str, cells: Any, values: Any, reason: str) -> None:
    good = [60, 50] if "width" in columns.split(",") else [10, 10, 20, 20]
    dataset = make(tmp_path / "data", [("bad.png", GOOD, cells), ("good.png", GOOD, good)], columns)
    align_crop.align_crop(settings(max_skipped=0.5, **values), dataset, tmp_path / "out")
    assert [row["source"] for row in table(tmp_path / "out")] == ["good.png"]
    assert table(tmp_path / "out", "skipped.csv") == [{"source": "bad.png", "reason": reason}] or reason in str(
        table(tmp_path / "out", "skipped.csv")
    )


@pytest.mark.parametrize(
    ("columns", "values", "message"),
    [
        ("file", {"mode": "box"}, "crop.mode box: .*no columns box_x"),
        ("", {"mode": "box"}, "crop.mode box: .*no columns box_x"),
        ("", {"mode": "landmarks"}, r"evaluate.eyes names left_eye, right_eye, but .* has no landmarks"),
        ("file,nose_x,nose_y", {"mode": "landmarks"}, r"evaluate.eyes names left_eye, right_eye, but .* has nose"),
    ],
)
def test_modes_that_want_more_than_there_is(tmp_path: Path, columns: str, values: Any, message: str) -> None:
    cells = [1] * columns.count(",") if columns else None
    dataset = make(tmp_path / "data", [("a.png", GOOD, cells)], columns)
    with pytest.raises(DataError, match=message):
        align_crop.align_crop(settings(**values), dataset, tmp_path / "out")


def test_nothing_usable(tmp_path: Path) -> None:
    dataset = make(tmp_path / "data", [("a.png", b"", PLACE)])
    with pytest.raises(DataError, match=r"no usable image among 1\. a.png: the file is empty"):
        align_crop.align_crop(settings(max_skipped=1.0), dataset, tmp_path / "out")
    with pytest.raises(DataError, match="no usable image among 0"):
        align_crop.align_crop(settings(), make(tmp_path / "none", [], ""), tmp_path / "out2")


def test_an_output_that_cannot_be_written(tmp_path: Path) -> None:
    dataset, _ = faces(tmp_path / "data", 1)
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StageError, match="cannot be written to"):
        align_crop.align_crop(settings(), dataset, tmp_path / "file" / "out")


def test_names_are_flat_safe_and_distinct() -> None:
    sources = ["a/b.jpg", "c d.png", "ä.jpg", "ö.jpg", "x.jpg", "x.png", "A_B.jpg", "q" * 300 + ".jpg", "e.f.jpg"]
    names = align_crop.crop_names(sources, "png")
    assert len({name.lower() for name in names}) == len(sources)
    assert names[1] == "c_d.png"
    assert names[8] == "e.f.png"
    assert names[0].startswith("a_b-")
    assert all(len(name) < 130 and name.isascii() if hasattr(name, "isascii") else True for name in names)
    again = align_crop.crop_names(sources[::-1], "png")[::-1]
    assert names == again


def test_sub_folders_become_flat(tmp_path: Path) -> None:
    rows = [(name, GOOD, None) for name in ("a/1.png", "b/1.png", "a_1.png")]
    align_crop.align_crop(settings(), make(tmp_path / "data", rows, ""), tmp_path / "out")
    written = table(tmp_path / "out")
    assert [row["source"] for row in written] == ["a/1.png", "a_1.png", "b/1.png"]
    assert sorted(row["file"] for row in written) == sorted(
        path.name for path in (tmp_path / "out" / "images").iterdir()
    )


def test_crops_as_jpeg(tmp_path: Path) -> None:
    """The same crops, named, stored and packed as JPEG, and nothing of the image's own metadata in them."""
    dataset, _ = faces(tmp_path / "data", 3)
    marked = Image.fromarray(dotted((120, 100), [60, 50]))
    marked.save(str(dataset / "images" / "0.png"), icc_profile=b"a profile")
    align_crop.align_crop(settings(), dataset, tmp_path / "png")
    align_crop.align_crop(settings(format="jpeg", quality=90), dataset, tmp_path / "jpeg")
    for exact, row in zip(table(tmp_path / "png"), table(tmp_path / "jpeg")):
        assert row == dict(exact, file=exact["file"].replace(".png", ".jpeg"))
        with Image.open(str(tmp_path / "jpeg" / "images" / row["file"])) as stored:
            assert stored.format == "JPEG"
            assert np.abs(np.asarray(stored).astype(int) - image_of(tmp_path / "png", exact)).mean() < 2.0
            assert "icc_profile" not in stored.info
        with Image.open(str(tmp_path / "png" / "images" / exact["file"])) as stored:
            assert "icc_profile" not in stored.info


def test_processes_do_not_change_the_result(tmp_path: Path) -> None:
    dataset, _ = faces(tmp_path / "data", 70)
    (dataset / "images" / "33.png").write_bytes(b"broken")
    for count in (1, 2):
        align_crop.align_crop(settings(processes=count, max_skipped=0.1), dataset, tmp_path / str(count))
    names = sorted(str(path.relative_to(tmp_path / "1")) for path in (tmp_path / "1").rglob("*.*"))
    assert len(names) == 69 + 3
    for name in names:
        assert (tmp_path / "1" / name).read_bytes() == (tmp_path / "2" / name).read_bytes()


@pytest.mark.skipif(not FACES.is_file(), reason="no ../shared/data/faces.zip beside the repository")
def test_an_interrupted_stage_goes_on_at_the_last_finished_shard(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    faces(tmp_path / "data", 9)
    (tmp_path / "data" / "images" / "4.png").write_bytes(b"broken")
    experiment = settings(mode="landmarks", size=32, max_skipped=0.5)
    align_crop.align_crop(experiment, tmp_path / "data", tmp_path / "whole")
    monkeypatch.setattr(align_crop, "_SHARD", 2)
    cropped, work = [], align_crop._crop

    def stopped_at_the_sixth(chosen: Any, mean: Any, job: Any) -> Any:
        cropped.append(job)
        if len(cropped) == 6:
            raise KeyboardInterrupt
        return work(chosen, mean, job)

    monkeypatch.setattr(align_crop, "_crop", stopped_at_the_sixth)
    with pytest.raises(KeyboardInterrupt):
        align_crop.align_crop(experiment, tmp_path / "data", tmp_path / "resumed")
    align_crop.align_crop(experiment, tmp_path / "data", tmp_path / "resumed")
    assert len(cropped) == 6 + 5  # two shards of two were finished; of the third, one of two
    names = sorted(path.name for path in (tmp_path / "whole").rglob("*"))
    assert names == sorted(path.name for path in (tmp_path / "resumed").rglob("*"))
    for path in (tmp_path / "whole").rglob("*.*"):
        assert (tmp_path / "resumed" / path.relative_to(tmp_path / "whole")).read_bytes() == path.read_bytes()


SHARE = """
import json, logging, sys
from pathlib import Path
from fse import config, crop
logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
align_crop._SHARD = 3
save = align_crop.Image.Image.save
def slow(*arguments, **options):
    __import__("time").sleep(0.03)
    save(*arguments, **options)
align_crop.Image.Image.save = slow
print("ready", flush=True)
sys.stdin.readline()
align_crop.share(config.from_tables(json.loads(sys.argv[1])), Path(sys.argv[2]), Path(sys.argv[3]))
"""


def test_processes_share_the_shards_and_one_that_dies_leaves_its_own_to_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    faces(tmp_path / "data", 40)
    experiment = settings(size=32, processes=1)
    align_crop.align_crop(experiment, tmp_path / "data", tmp_path / "alone")
    output = tmp_path / "shared"
    (output / "claims").mkdir(parents=True)
    command = [
        sys.executable,
        "-c",
        SHARE,
        json.dumps(config.as_tables(experiment)),
        str(tmp_path / "data"),
        str(output),
    ]
    environment = dict(os.environ, PYTHONPATH=os.pathsep.join(sys.path))
    children = [
        subprocess.Popen(
            command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, universal_newlines=True
        )
        for _ in range(3)
    ]
    for child in children:
        assert child.stdout.readline() == "ready\n"
    for child in children:
        child.stdin.write("\n")
        child.stdin.flush()
    killed, *others = children
    while killed.poll() is None and not any((output / "claims").iterdir()):
        time.sleep(0.01)
    killed.kill()
    killed.communicate()
    made = [int(child.communicate()[0].split()[1]) for child in others]
    finished = len(list((output / "finished").glob("*.json")))
    assert 0 < sum(made) <= finished <= 14
    assert all(made)
    monkeypatch.setattr(align_crop, "_SHARD", 3)
    align_crop.align_crop(experiment, tmp_path / "data", output)
    shutil.rmtree(str(output / "claims"))
    names = sorted(str(path.relative_to(output)) for path in output.rglob("*"))
    assert names == sorted(str(path.relative_to(tmp_path / "alone")) for path in (tmp_path / "alone").rglob("*"))
    for name in names:
        if (output / name).is_file():
            assert (output / name).read_bytes() == (tmp_path / "alone" / name).read_bytes()


def test_real_faces_align(tmp_path: Path) -> None:
    """Turned and scaled to the mean shape, faces lie closer together than merely cut out."""
    tables = {"dataset": {"name": "faces", "archive": str(FACES)}, "crop": {"size": 60}, "network": {"view": 50}}
    whole = config.from_tables(tables)
    download.download(whole, tmp_path / "data")
    rows = (tmp_path / "data" / "landmarks.csv").read_text().splitlines()[:121]
    (tmp_path / "data" / "landmarks.csv").write_text("\n".join(rows))
    spread = {}
    for mode in ("center", "landmarks"):
        settings_ = dataclasses.replace(whole, crop=dataclasses.replace(whole.crop, mode=mode, max_skipped=1.0))
        align_crop.align_crop(settings_, tmp_path / "data", tmp_path / mode)
        found = [points_of(row, ["left_eye", "right_eye", "nose"]) for row in table(tmp_path / mode)]
        assert len(found) == 120
        spread[mode] = np.std(found, axis=0).mean()
    assert spread["landmarks"] < 0.6 * spread["center"]


# Processes -------------------------------------------------------------------------------------------------------------


def _square(number: Any) -> Any:
    return number * number


def _die(number: Any) -> Any:
    if number == 40:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def _fail(number: Any) -> None:
    raise OSError(28, "No space left on device", "a.png")


def test_results_come_in_order() -> None:
    assert list(processes.ordered_map(_square, range(200), 2, "squares")) == [number * number for number in range(200)]
    assert list(processes.ordered_map(_square, range(5), 0, "squares")) == [0, 1, 4, 9, 16]


def test_items_are_taken_as_they_are_needed() -> Iterator[Any]:
    taken = []

    def items() -> Iterator[Any]:
        for number in range(100):
            taken.append(number)
            yield number

    results = processes.ordered_map(_square, items(), 2, "squares", chunk=4)
    assert next(results) == 0
    assert len(taken) < 40
    results.close()
    assert len(taken) < 40


def _slow(number: Any) -> None:
    time.sleep(60.0 if number else 0.0)


def test_nobody_waits_for_what_is_wanted_no_more() -> None:
    results = processes.ordered_map(_slow, range(4), 2, "test", chunk=1)
    next(results)
    began = time.monotonic()
    results.close()
    assert time.monotonic() - began < 30.0


def test_a_killed_process_is_told() -> None:
    with pytest.raises(StageError, match="test: one of 2 processes was killed"):
        list(processes.ordered_map(_die, range(100), 2, "test"))


def test_errors_cross_processes() -> None:
    with pytest.raises(OSError, match="No space left on device"):
        list(processes.ordered_map(_fail, range(100), 2, "test"))


def _tell_and_sleep(path: Any) -> None:
    processes.die_with_parent()
    Path(path).write_text(str(os.getpid()))
    time.sleep(60)


def _parent(path: Any) -> None:
    child = multiprocessing.get_context("spawn").Process(target=_tell_and_sleep, args=(path,))
    child.start()
    time.sleep(60)


def _wait_for(condition: Any) -> Any:
    for _ in range(600):
        if condition():
            return True
        time.sleep(0.05)
    return False


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="only Linux tells a process that its parent died")
def test_children_die_with_their_parent(tmp_path: Path) -> None:
    path = tmp_path / "pid"
    parent = multiprocessing.get_context("spawn").Process(target=_parent, args=(str(path),))
    parent.start()
    assert _wait_for(lambda: path.exists() and path.read_text())
    stat = Path("/proc") / path.read_text() / "stat"
    assert stat.exists()
    parent.kill()
    parent.join(10)
    assert _wait_for(lambda: not stat.exists() or stat.read_text().rsplit(")", 1)[1].split()[0] == "Z")
    parent.close()
