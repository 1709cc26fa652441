"""Images with a white dot at each landmark, data sets of them, and measurements of where the dots are in a crop."""

import csv
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence, Tuple, Union

import numpy as np
from PIL import Image

from fse import config

FACE = np.array([[-0.5, 0.0], [0.5, 0.0], [0.0, 1.2]])  # left eye, right eye, mouth; eyes 1 apart
NAMES = ["left_eye", "right_eye", "mouth"]
COLUMNS = "file,split,left_eye_x,left_eye_y,right_eye_x,right_eye_y,mouth_x,mouth_y"

# A row of a data set: name of the image; pixels, the file's bytes or no file; further cells or no row of the table.
DatasetRow = Tuple[str, Union[np.ndarray, bytes, None], Optional[Sequence[Any]]]


def settings(**values: Any) -> config.Config:
    """An experiment with these settings of `crop`."""
    crop_size = values.setdefault("size", 50)
    values.setdefault("reads_test_annotations", True)
    return config.from_tables({"crop": values, "network": {"view": min(16, crop_size)}})


def rotation(angle: float) -> np.ndarray:
    """[2, 2]: the rotation by an angle in radians, clockwise as y points down."""
    return np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])


def turned_frame(angle: float, side: float, center: Sequence[float]) -> np.ndarray:
    """[2, 3]: the crop frame with this rotation, side and center in pixels."""
    return np.concatenate([side / 2.0 * rotation(angle), np.reshape(center, (2, 1))], axis=1)


def dotted(size: Tuple[int, int], points: Any, radius: float = 2.0) -> np.ndarray:
    """A gray image with a soft white dot at each point, uint8 [height, width, 3]."""
    width, height = size
    x, y = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
    light = np.full((height, width), 40.0)
    for point in np.reshape(points, (-1, 2)):
        light += 200.0 * np.exp(-((x - point[0]) ** 2 + (y - point[1]) ** 2) / (2.0 * radius**2))
    return np.repeat(np.clip(np.round(light), 0, 255).astype(np.uint8)[:, :, None], 3, axis=2)


def dot_near(image: np.ndarray, position: Any, reach: float) -> np.ndarray:
    """[2]: the centroid of the light within `reach` of a position, in pixels."""
    light = image[:, :, 0].astype(float) - 40.0
    y, x = np.mgrid[: len(light), : light.shape[1]] + 0.5
    light[np.hypot(x - position[0], y - position[1]) > reach] = 0.0
    return np.array([(light * x).sum() / light.sum(), (light * y).sum() / light.sum()])


def exact_dot_near(image: np.ndarray, position: Any, reach: float) -> np.ndarray:
    """[2]: the center of a smooth round dot near a position, in pixels, by moments under a round window that follows it.

    Exact, but for the 8 bits of a pixel, for dots that a linear map made of a Gaussian. It knows nothing of crop frames.
    """
    light = image[:, :, 0].astype(float) - 40.0
    y, x = np.mgrid[: len(light), : light.shape[1]] + 0.5
    center: np.ndarray = np.round(position)
    for _ in range(12):
        weights = light * np.exp(-((x - center[0]) ** 2 + (y - center[1]) ** 2) / (2.0 * reach**2))
        center = np.array([(weights * x).sum(), (weights * y).sum()]) / weights.sum()
    return center


def write_dataset(folder: Path, rows: Sequence[DatasetRow], columns: str = COLUMNS) -> Path:
    """Write a data set as Download does. Without `columns` it has no annotation file."""
    (folder / "images").mkdir(parents=True, exist_ok=True)
    lines = [columns]
    for name, image, cells in rows:
        path = folder / "images" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(image, bytes):
            path.write_bytes(image)
        elif image is not None:
            Image.fromarray(image).save(path)
        if cells is not None:
            lines.append(",".join([name] + [str(cell) for cell in cells]))
    if columns:
        (folder / "landmarks.csv").write_text("\n".join(lines) + "\n")
    return folder


def write_faces(folder: Path, count: int = 6, size: Tuple[int, int] = (120, 100)) -> Tuple[Path, np.ndarray]:
    """Write a data set of dotted faces, turned and scaled. Returns the folder and the points [count, 3, 2]."""
    random = np.random.RandomState(1)
    rows: List[DatasetRow] = []
    points = []
    for number in range(count):
        angle, zoom = random.uniform(-0.5, 0.5), random.uniform(20.0, 30.0)
        face = np.round(FACE @ (zoom * rotation(angle)).T + np.array(size) / 2.0 - [0.0, 12.0], 3)
        split = "test" if number % 3 == 2 else "train"
        rows.append((f"{number}.png", dotted(size, face), [split, *face.ravel().tolist()]))
        points.append(face)
    return write_dataset(folder, rows), np.array(points)


def read_table(folder: Path, name: str = "landmarks.csv") -> List[Dict[str, str]]:
    with open(folder / name, newline="") as stream:
        return [dict(row) for row in csv.DictReader(stream)]


def points_of(row: Dict[str, str], names: Sequence[str] = NAMES) -> np.ndarray:
    return np.array([[float(row[name + "_x"]), float(row[name + "_y"])] for name in names])


def image_of(folder: Path, row: Dict[str, str]) -> np.ndarray:
    return np.asarray(Image.open(folder / "images" / row["file"]))
