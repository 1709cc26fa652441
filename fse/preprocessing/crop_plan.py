"""The work plan of align-crop: which images are cropped, in which order, under which names. Every process makes the same."""

import functools
import hashlib
import posixpath
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, List, Optional, Set, Tuple

import numpy as np

from fse.config import Config
from fse.datasets import annotations, images
from fse.errors import DataError
from fse.preprocessing import crop_frame, crop_image
from fse.preprocessing.crop_image import CropJob, CropResult


@dataclass(frozen=True)
class CropPlan:
    """The work plan of align-crop, identical in every worker process."""

    unannotated: Set[str]  # names of the images without a row in the annotation table; they are skipped
    table: annotations.Annotations  # annotations of all other images
    order: List[int]  # rows of the table, in the order of the images' names
    crop_names: List[str]  # file names of the crops, in that order
    crop: Callable[[CropJob], CropResult]  # crops one image, in any process
    originals: Path  # folder of the images
    crops: Path  # folder of the crops

    def job(self, index: int) -> CropJob:
        """Return the job of the image at an index of `order`."""
        row = self.order[index]
        return CropJob(
            image=self.originals / self.table.files[row],
            crop=self.crops / self.crop_names[index],
            points=self.table.points[row],
            size=None if self.table.sizes is None else self.table.sizes[row],
            box=None if self.table.boxes is None else self.table.boxes[row],
        )


def make_plan(config: Config, dataset: Path, output: Path) -> CropPlan:
    """Read the annotations of a data set and plan its crops.

    Args:
      config: `crop` is read, and `evaluate.eyes` in mode `landmarks`.
      dataset: output of Download.
      output: folder of the stage's output.

    Raises:
      DataError: the annotations are invalid, or lack what the mode needs.
    """
    table, unannotated = _read_annotations(config, dataset)
    order = sorted(range(len(table.files)), key=table.files.__getitem__)
    return CropPlan(
        unannotated=unannotated,
        table=table,
        order=order,
        crop_names=crop_names([table.files[row] for row in order], config.crop.format),
        crop=functools.partial(crop_image.crop_image, config.crop, _mean_shape(config, table)),
        originals=dataset / "images",
        crops=output / "images",
    )


def crop_names(sources: List[str], format: str) -> List[str]:
    """Return flat, safe file names for crops, which differ in more than case and depend on the set of sources alone.

    Args:
      sources: distinct relative paths.
      format: "png" or "jpeg", which becomes the extension.

    Returns:
      `a_b.png` for `a/b.jpg`, cut to the last 100 characters. Where two of these names are equal, the first 12 digits of
      the path's SHA-1 are added to both.
    """
    stems = [re.sub(r"[^A-Za-z0-9.-]", "_", posixpath.splitext(source)[0])[-100:] for source in sources]
    count = Counter(stem.lower() for stem in stems)
    return [
        f"{stem}.{format}"
        if count[stem.lower()] == 1
        else f"{stem}-{hashlib.sha1(source.encode()).hexdigest()[:12]}.{format}"
        for stem, source in zip(stems, sources)
    ]


def _read_annotations(config: Config, dataset: Path) -> Tuple[annotations.Annotations, Set[str]]:
    """Return the data set's annotations, and the names of the images that have none.

    Without an annotation file, every image is a training image without landmarks.
    """
    names = images.list_images(dataset / "images")
    path = dataset / "landmarks.csv"
    if path.is_file():
        table = annotations.read(path)
    else:
        table = annotations.Annotations(names, ["train"] * len(names), [], np.zeros((len(names), 0, 2)), None, None)
    if config.crop.mode == "box" and table.boxes is None:
        raise DataError(f"crop.mode box: {path} has no columns box_x, box_y, box_width, box_height")
    missing = [name for name in config.evaluate.eyes if name not in table.landmarks]
    if config.crop.mode == "landmarks" and missing:
        raise DataError(
            f"crop.mode landmarks: evaluate.eyes names {', '.join(missing)}, "
            f"but {path} has {', '.join(table.landmarks) or 'no landmarks'}"
        )
    return table, set(names).difference(table.files)


def _mean_shape(config: Config, table: annotations.Annotations) -> Optional[np.ndarray]:
    """Return the mean shape of the training images; None in the modes that do not use it.

    Test images are left out: a test set must not change how it is measured.
    """
    if config.crop.mode != "landmarks":
        return None
    first, second = (table.landmarks.index(name) for name in config.evaluate.eyes)
    training = table.points[np.array(table.splits) == "train"]
    return crop_frame.mean_shape(training, (first, second), config.crop.eye_distance)
