"""The data set `synthetic`: stylized faces with exact landmarks, rendered by this program.

`fse.datasets.synthetic_faces` has the renderer. Background, face and camera use separate random streams, so nothing but
the figure itself tells where the face is.
"""

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import Iterator, Tuple

import numpy as np
from PIL import Image

from fse.config import Dataset
from fse.datasets.synthetic_faces import background, figure, model, photograph
from fse.datasets.synthetic_faces.canvas import OVERSAMPLING, Canvas
from fse.datasets.synthetic_faces.model import LANDMARKS
from fse.runtime.processes import ordered_map
from fse.runtime.progress import progress_bar

# Test images are numbered from here, beyond any training image, so more training images do not change the test set.
FIRST_TEST_INDEX = 10_000_000


@dataclass(frozen=True)
class _Job:
    """An image to render."""

    file: Path  # the file to write
    split: str  # "train" or "test"
    seed: int  # seed of the data set
    index: int  # index of the face
    size: int  # width and height in pixels


def render(settings: Dataset, folder: Path, processes: int = 0) -> None:
    """Render the data set into a folder.

    Writes `images/000000.png` … (RGB, `settings.size` square; `settings.train` training images, then `settings.test`
    test images) and at the end `landmarks.csv`: file, width, height, split, and the landmarks' x and y in pixels, where
    (0, 0) is the outer corner of the top-left pixel.

    Args:
      settings: `size`, `train`, `test` and `seed` are read.
      folder: an existing, empty folder.
      processes: number of parallel processes; 0 is one per CPU. The output does not depend on it.

    Raises:
      StageError: a rendering process was killed.
      OSError: a file cannot be written.
    """
    images = folder / "images"
    images.mkdir()
    jobs = list(_jobs(settings, images))
    rendered = ordered_map(_write, jobs, processes, "rendering")
    points = list(progress_bar(rendered, total=len(jobs), unit="images", desc="rendering"))
    with open(folder / "landmarks.csv", "w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(
            ["file", "width", "height", "split"] + [name + axis for name in LANDMARKS for axis in ("_x", "_y")]
        )
        for job, image_points in zip(jobs, points):
            values = [f"{value:.3f}" for value in image_points.ravel()]
            writer.writerow([job.file.name, job.size, job.size, job.split, *values])


def render_face(seed: int, index: int, size: int) -> Tuple[np.ndarray, np.ndarray]:
    """Render one face, a pure function of its arguments.

    Args:
      seed: seed of the data set, in [0, 2**32).
      index: index of the face, in [0, 2**32).
      size: width and height in pixels. Another size shows the same face, except for sensor noise.

    Returns:
      The image, uint8 [size, size, 3] RGB, and `landmarks(seed, index, size)`.
    """
    face = model.sample_face(seed, index)
    canvas = Canvas(background.draw_background(model.random_stream(seed, index, model.BACKGROUND), size))
    random = model.random_stream(seed, index, model.LOOK)
    light = photograph.sample_light(random)
    figure.draw_figure(canvas, face, light, random)
    colors = np.asarray(canvas.colors.reduce(OVERSAMPLING), np.float32)
    mask = np.asarray(canvas.figure.reduce(OVERSAMPLING), np.float32)[..., None] / 255.0
    # The light falls on the figure alone; the mask blends it at the antialiased edge.
    lit = colors * (1.0 + mask * (photograph.shading(face, light, size)[..., None] - 1.0))
    image = photograph.photograph(lit, model.random_stream(seed, index, model.CAMERA))
    return image, model.landmarks_of(face, size)


def landmarks(seed: int, index: int, size: int) -> np.ndarray:
    """Return the landmarks of `render_face(seed, index, size)` without rendering it.

    Returns:
      float64 [5, 2]: (x, y) of `LANDMARKS` in pixels (left and right are the image's), rounded to a thousandth.
    """
    return model.landmarks_of(model.sample_face(seed, index), size)


def _jobs(settings: Dataset, images: Path) -> Iterator[_Job]:
    faces = [("train", number) for number in range(settings.train)]
    faces += [("test", FIRST_TEST_INDEX + number) for number in range(settings.test)]
    for position, (split, index) in enumerate(faces):
        yield _Job(images / f"{position:06d}.png", split, settings.seed, index, settings.size)


def _write(job: _Job) -> np.ndarray:
    """Render an image to its file; return its landmarks, float64 [5, 2] in pixels."""
    image, points = render_face(job.seed, job.index, job.size)
    Image.fromarray(image).save(job.file, compress_level=1)
    return points
