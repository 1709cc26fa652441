import csv
import dataclasses
from pathlib import Path
from typing import Dict, List

import numpy as np
import pytest
from PIL import Image

from fse import config
from fse.datasets import synthetic
from fse.datasets.synthetic_faces import canvas, model

SEED = 7


@pytest.fixture(scope="module")
def poses() -> np.ndarray:
    """[300, 5, 2] landmarks, in pixels of images of 128."""
    return np.stack([synthetic.landmarks(SEED, index, 128) for index in range(300)])


def rows_of(folder: Path) -> List[Dict[str, str]]:
    with open(folder / "landmarks.csv", newline="") as stream:
        return [dict(row) for row in csv.DictReader(stream)]


def points_of(row: Dict[str, str]) -> np.ndarray:
    return np.array([[float(row[name + axis]) for axis in ("_x", "_y")] for name in model.LANDMARKS])


def gray(image: np.ndarray) -> np.ndarray:
    return np.asarray(image.astype(np.float64).mean(-1))


def test_rendering_twice_gives_the_same_bytes() -> None:
    first, second = (synthetic.render_face(SEED, 3, 48) for _ in range(2))
    assert first[0].tobytes() == second[0].tobytes()
    assert first[1].tobytes() == second[1].tobytes()


@pytest.mark.parametrize("size", [32, 75, 200])
def test_an_image_has_its_size_and_its_landmarks(size: int) -> None:
    image, points = synthetic.render_face(SEED, 3, size)
    assert image.shape == (size, size, 3)
    assert image.dtype == np.uint8
    assert image.std() > 10.0
    np.testing.assert_array_equal(points, synthetic.landmarks(SEED, 3, size))


def test_every_seed_and_index_gives_another_face() -> None:
    faces = [
        synthetic.landmarks(seed, index, 128) for seed in (0, 1, 2) for index in (0, 1, synthetic.FIRST_TEST_INDEX)
    ]
    assert len({face.tobytes() for face in faces}) == 9


def test_landmarks_do_not_depend_on_the_versions_of_the_libraries() -> None:
    expected = [[44.319, 46.713], [79.002, 57.738], [54.624, 69.972], [35.745, 81.205], [67.172, 91.195]]
    np.testing.assert_array_equal(synthetic.landmarks(1234, 0, 128), expected)


def test_landmarks_scale_with_the_image() -> None:
    small, large = synthetic.landmarks(SEED, 5, 64), synthetic.landmarks(SEED, 5, 512)
    np.testing.assert_allclose(large, 8.0 * small, atol=0.005)


def test_landmarks_are_inside_the_image_and_in_order(poses: np.ndarray) -> None:
    assert poses.min() > 10.0
    assert poses.max() < 118.0
    x_axis = poses[:, 1] - poses[:, 0]  # from eye to eye
    x_axis /= np.linalg.norm(x_axis, axis=-1, keepdims=True)
    y_axis = x_axis[:, ::-1] * [-1.0, 1.0]
    middle = poses[:, :2].mean(1, keepdims=True)
    x, y = ((poses - middle) * x_axis[:, None]).sum(-1), ((poses - middle) * y_axis[:, None]).sum(-1)
    assert (x_axis[:, 0] > 0.7).all()
    assert (x[:, 3] + 5.0 < x[:, 4]).all()
    assert (y[:, 2] > 3.0).all()
    assert (y[:, 3:] > y[:, 2:3]).all()


def test_a_constant_prediction_has_a_large_error(poses: np.ndarray) -> None:
    distances = np.linalg.norm(poses - poses.mean(0), axis=-1).mean(1)
    nme = (distances / np.linalg.norm(poses[:, 0] - poses[:, 1], axis=-1)).mean()
    assert 0.22 < nme < 0.40


def test_faces_vary_in_pose_and_scale(poses: np.ndarray) -> None:
    between_eyes = poses[:, 1] - poses[:, 0]
    rotation = np.degrees(np.arctan2(between_eyes[:, 1], between_eyes[:, 0]))
    assert 8.0 < rotation.std() < 16.0
    distance = np.linalg.norm(between_eyes, axis=-1)
    assert np.percentile(distance, 95) > 1.4 * np.percentile(distance, 5)
    assert np.min(poses.mean(1).std(0)) > 4.0


def test_pupils_are_at_the_eyes() -> None:
    """Dark at the landmark, brighter around it; averaged over gazes, centered on it to half a pixel."""
    offsets = np.arange(-7.0, 8.0)
    patches = []
    for index in range(40):
        image, points = synthetic.render_face(SEED, index, 128)
        between_eyes = points[1] - points[0]
        step = between_eyes / np.linalg.norm(between_eyes)
        for eye in points[:2]:
            pixels = eye + offsets[None, :, None] * step + offsets[:, None, None] * step[::-1] * [-1.0, 1.0]
            column, row = np.floor(pixels).astype(int).transpose(2, 0, 1)
            patches.append(gray(image)[row, column])
    patch = np.mean(patches, axis=0)
    center, beside = patch[6:9, 6:9].mean(), patch[7, [3, 11]].mean()
    assert center < beside - 15.0
    darkness = np.clip(beside - patch[7, 4:11], 0.0, None)
    assert abs((darkness * offsets[4:11]).sum() / darkness.sum()) < 0.5


def test_polygons_are_drawn_at_their_points() -> None:
    """(0, 0) is the outer corner of the top-left pixel: a disc's mask has its centroid at the disc's center."""
    drawing = canvas.Canvas(Image.new("RGB", (192, 192)))
    drawing.fill_figure(canvas.disc(np.array([0.5, 0.4]), 0.2, 64), np.ones(3))
    mask = np.asarray(drawing.figure, np.float64)
    centers = np.arange(192) + 0.5
    assert (mask.sum(0) * centers).sum() / mask.sum() == pytest.approx(96.0, abs=0.15)
    assert (mask.sum(1) * centers).sum() / mask.sum() == pytest.approx(76.8, abs=0.15)


def test_the_background_does_not_depend_on_the_face(monkeypatch: pytest.MonkeyPatch) -> None:
    """Away from the figure, the image has the same bytes wherever the face is."""
    face = dataclasses.replace(model.sample_face(SEED, 0), radius=0.12)
    images = []
    for center in ([0.4, 0.5], [0.6, 0.6]):
        moved = dataclasses.replace(face, center=np.array(center))
        monkeypatch.setattr(model, "sample_face", lambda seed, index, moved=moved: moved)
        images.append(synthetic.render_face(SEED, 0, 64)[0])
    assert (images[0][:10] == images[1][:10]).all()
    assert (images[0] != images[1]).any()


def test_corners_do_not_reveal_the_position() -> None:
    """Correlations of 100 independent pairs have a standard deviation of 0.1."""
    corners, positions = [], []
    for index in range(100):
        image, points = synthetic.render_face(SEED, index, 32)
        corners.append(np.concatenate([image[:3, :3].mean((0, 1)), image[:3, -3:].mean((0, 1))]))
        positions.append(points.mean(0))
    correlations = np.corrcoef(np.array(corners).T, np.array(positions).T)[:6, 6:]
    assert np.abs(correlations).max() < 0.3


def test_render_writes_images_and_their_landmarks(tmp_path: Path) -> None:
    synthetic.render(config.Dataset(train=5, test=3, size=40, seed=SEED), tmp_path, processes=1)
    rows = rows_of(tmp_path)
    assert [row["file"] for row in rows] == [f"{number:06d}.png" for number in range(8)]
    assert [row["split"] for row in rows] == ["train"] * 5 + ["test"] * 3
    assert {(row["width"], row["height"]) for row in rows} == {("40", "40")}
    assert list(rows[0])[4:8] == ["left_eye_x", "left_eye_y", "right_eye_x", "right_eye_y"]
    indices = list(range(5)) + [synthetic.FIRST_TEST_INDEX + number for number in range(3)]
    for row, index in zip(rows, indices):
        image, points = synthetic.render_face(SEED, index, 40)
        with Image.open(tmp_path / "images" / row["file"]) as stored:
            assert stored.mode == "RGB"
            np.testing.assert_array_equal(np.asarray(stored), image)
        np.testing.assert_array_equal(points_of(row), points)


def test_more_training_images_do_not_change_the_test_images(tmp_path: Path) -> None:
    for train in (1, 2):
        (tmp_path / str(train)).mkdir()
        synthetic.render(config.Dataset(train=train, test=1, size=32, seed=SEED), tmp_path / str(train), processes=1)
    first, second = (tmp_path / "1" / "images" / "000001.png", tmp_path / "2" / "images" / "000002.png")
    assert first.read_bytes() == second.read_bytes()


def test_the_number_of_processes_does_not_change_the_output(tmp_path: Path) -> None:
    folders = {processes: tmp_path / str(processes) for processes in (1, 2)}
    for processes, folder in folders.items():
        folder.mkdir()
        synthetic.render(config.Dataset(train=60, test=10, size=32, seed=SEED), folder, processes)
    files = [path.relative_to(folders[1]) for path in sorted(folders[1].rglob("*.*"))]
    assert len(files) == 71
    for file in files:
        assert (folders[1] / file).read_bytes() == (folders[2] / file).read_bytes()
