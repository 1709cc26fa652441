import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fse import config
from fse.datasets import synthetic

SEED = 7


@pytest.fixture(scope="module")
def poses() -> Any:
    """[300, 5, 2] landmarks, in pixels of images of 128."""
    return np.stack([synthetic.landmarks(SEED, index, 128) for index in range(300)])


def rows_of(folder: Any) -> Any:
    with open(str(folder / "landmarks.csv"), newline="") as stream:
        return list(csv.DictReader(stream))


def points_of(row: Any) -> Any:
    return np.array([[float(row[name + axis]) for axis in ("_x", "_y")] for name in synthetic.LANDMARKS])


def gray(image: Any) -> Any:
    return image.astype(np.float64).mean(-1)


def test_the_same_face_again_is_the_same_to_the_byte() -> None:
    first, second = (synthetic.render_face(SEED, 3, 48) for _ in range(2))
    assert first[0].tobytes() == second[0].tobytes()
    assert first[1].tobytes() == second[1].tobytes()


@pytest.mark.parametrize("size", [32, 75, 200])
def test_a_image_has_its_size_and_its_landmarks(size: int) -> None:
    image, points = synthetic.render_face(SEED, 3, size)
    assert image.shape == (size, size, 3)
    assert image.dtype == np.uint8
    assert image.std() > 10.0
    np.testing.assert_array_equal(points, synthetic.landmarks(SEED, 3, size))


def test_seeds_and_indices_give_other_faces() -> None:
    faces = [
        synthetic.landmarks(seed, index, 128) for seed in (0, 1, 2) for index in (0, 1, synthetic.FIRST_TEST_INDEX)
    ]
    assert len({face.tobytes() for face in faces}) == 9


def test_landmarks_do_not_depend_on_the_versions_of_the_libraries() -> None:
    wanted = [[44.319, 46.713], [79.002, 57.738], [54.624, 69.972], [35.745, 81.205], [67.172, 91.195]]
    np.testing.assert_array_equal(synthetic.landmarks(1234, 0, 128), wanted)


def test_landmarks_scale_with_the_image() -> None:
    small, large = synthetic.landmarks(SEED, 5, 64), synthetic.landmarks(SEED, 5, 512)
    np.testing.assert_allclose(large, 8.0 * small, atol=0.005)


def test_landmarks_lie_inside_and_in_order(poses: Any) -> None:
    assert poses.min() > 10.0
    assert poses.max() < 118.0
    across = poses[:, 1] - poses[:, 0]
    across /= np.linalg.norm(across, axis=-1, keepdims=True)
    down = across[:, ::-1] * [-1.0, 1.0]
    middle = poses[:, :2].mean(1, keepdims=True)
    x, y = ((poses - middle) * across[:, None]).sum(-1), ((poses - middle) * down[:, None]).sum(-1)
    assert (across[:, 0] > 0.7).all()
    assert (x[:, 3] + 5.0 < x[:, 4]).all()
    assert (y[:, 2] > 3.0).all()
    assert (y[:, 3:] > y[:, 2:3]).all()


def test_a_constant_prediction_fails(poses: Any) -> None:
    distances = np.linalg.norm(poses - poses.mean(0), axis=-1).mean(1)
    nme = (distances / np.linalg.norm(poses[:, 0] - poses[:, 1], axis=-1)).mean()
    assert 0.22 < nme < 0.40


def test_faces_vary_in_pose_and_scale(poses: Any) -> None:
    across = poses[:, 1] - poses[:, 0]
    rotation = np.degrees(np.arctan2(across[:, 1], across[:, 0]))
    assert 8.0 < rotation.std() < 16.0
    distance = np.linalg.norm(across, axis=-1)
    assert np.percentile(distance, 95) > 1.4 * np.percentile(distance, 5)
    assert poses.mean(1).std(0).min() > 4.0


def test_pupils_are_at_the_eyes() -> None:
    """Dark at the landmark, brighter around it, and on average over gazes centerd on it to half a pixel."""
    offsets = np.arange(-7.0, 8.0)
    patches = []
    for index in range(40):
        image, points = synthetic.render_face(SEED, index, 128)
        across = points[1] - points[0]
        step = across / np.linalg.norm(across)
        for eye in points[:2]:
            where = eye + offsets[None, :, None] * step + offsets[:, None, None] * step[::-1] * [-1.0, 1.0]
            column, row = np.floor(where).astype(int).transpose(2, 0, 1)
            patches.append(gray(image)[row, column])
    patch = np.mean(patches, axis=0)
    center, beside = patch[6:9, 6:9].mean(), patch[7, [3, 11]].mean()
    assert center < beside - 15.0
    darkness = np.clip(beside - patch[7, 4:11], 0.0, None)
    assert abs((darkness * offsets[4:11]).sum() / darkness.sum()) < 0.5


def test_polygons_lie_where_their_points_say() -> None:
    """(0, 0) is the outer corner of the top-left pixel: a disc's mask has its centroid at the disc's center."""
    canvas = synthetic._Canvas(Image.new("RGB", (192, 192)))
    canvas.fill_figure(synthetic._disc(np.array([0.5, 0.4]), 0.2, 64), np.ones(3))
    mask = np.asarray(canvas.figure, np.float64)
    centers = np.arange(192) + 0.5
    assert (mask.sum(0) * centers).sum() / mask.sum() == pytest.approx(96.0, abs=0.15)
    assert (mask.sum(1) * centers).sum() / mask.sum() == pytest.approx(76.8, abs=0.15)


def test_background_does_not_know_the_face(monkeypatch: pytest.MonkeyPatch) -> None:
    """Away from the figure the image is the same to the byte, wherever the face is."""
    face = synthetic._face(SEED, 0)._replace(radius=0.12)
    images = []
    for center in ([0.4, 0.5], [0.6, 0.6]):
        moved = face._replace(center=np.array(center))
        monkeypatch.setattr(synthetic, "_face", lambda seed, index, moved=moved: moved)
        images.append(synthetic.render_face(SEED, 0, 64)[0])
    assert (images[0][:10] == images[1][:10]).all()
    assert (images[0] != images[1]).any()


def test_corners_do_not_tell_the_position() -> None:
    """Correlations of 100 independent pairs have a standard deviation of 0.1."""
    corners, places = [], []
    for index in range(100):
        image, points = synthetic.render_face(SEED, index, 32)
        corners.append(np.concatenate([image[:3, :3].mean((0, 1)), image[:3, -3:].mean((0, 1))]))
        places.append(points.mean(0))
    correlations = np.corrcoef(np.array(corners).T, np.array(places).T)[:6, 6:]
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
        with Image.open(str(tmp_path / "images" / row["file"])) as stored:
            assert stored.mode == "RGB"
            np.testing.assert_array_equal(np.asarray(stored), image)
        np.testing.assert_array_equal(points_of(row), points)


def test_more_training_images_leave_the_test_images_alone(tmp_path: Path) -> None:
    for train in (1, 2):
        (tmp_path / str(train)).mkdir()
        synthetic.render(config.Dataset(train=train, test=1, size=32, seed=SEED), tmp_path / str(train), processes=1)
    first, second = (tmp_path / "1" / "images" / "000001.png", tmp_path / "2" / "images" / "000002.png")
    assert first.read_bytes() == second.read_bytes()


def test_the_number_of_processes_changes_nothing(tmp_path: Path) -> None:
    folders = {processes: tmp_path / str(processes) for processes in (1, 2)}
    for processes, folder in folders.items():
        folder.mkdir()
        synthetic.render(config.Dataset(train=60, test=10, size=32, seed=SEED), folder, processes)
    files = [path.relative_to(folders[1]) for path in sorted(folders[1].rglob("*.*"))]
    assert len(files) == 71
    for file in files:
        assert (folders[1] / file).read_bytes() == (folders[2] / file).read_bytes()
