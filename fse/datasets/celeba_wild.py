"""CelebA in the wild: the original photographs with boxes around the faces, and MAFL's images among them.

Source: the same as CelebA's (`fse/datasets/celeba.py`). The images are a 7z archive of 10 GB in 14 volumes, which has to
be downloaded by hand and unpacked with `7z x img_celeba.7z.001`; `download.data_path` must hold the folder `img_celeba`.
Terms: the same as CelebA's.
Images: photographs of many sizes; the same parts as `celeba` and `mafl`.
Landmarks: five, as in CelebA, in pixels of the photograph. Errors are divided by the distance between the eyes. Boxes
are CelebA's own, placed by hand, in test images too.
"""

import dataclasses

import numpy as np

from fse.datasets import mafl
from fse.datasets.annotations import Annotations
from fse.datasets.celeba import (
    HOMEPAGE,
    MAFL_TEST,
    MAFL_TRAIN,
    PARTITION,
    PARTS,
    TERMS,
    read_names,
    read_points,
    read_table,
    select,
    training_names,
)
from fse.datasets.spec import FIVE_POINTS, KnownDataset, LocalFiles, SourceFile
from fse.errors import DataError

IMAGES = SourceFile("img_celeba.7z.001", 13 * 734_003_200 + 649_030_866, folder="img_celeba")
LANDMARKS = SourceFile(
    name="list_landmarks_celeba.txt",
    size=12_352_635,
    hash="063ee6ddb681f96bc9ca28c6febb9d1a",
    urls=("drive:0B7EVK8r0v71pTzJIdlJWdHczRlU",),
)
BOXES = SourceFile(
    name="list_bbox_celeba.txt",
    size=6_082_035,
    hash="00566efa6fedff7a56946cd1c10f1c16",
    urls=("drive:0B7EVK8r0v71pbThiMVRxWXZ4dU0",),
)


def read(local: LocalFiles, part: str) -> Annotations:
    """Return the annotations of a part of CelebA in the wild."""
    return _with_boxes(local, select(read_points(local.lists[LANDMARKS.name]), training_names(local, part), []))


def read_mafl(local: LocalFiles, part: str) -> Annotations:
    """Return the annotations of MAFL in the wild."""
    train, test = (read_names(local.lists[file.name]) for file in (MAFL_TRAIN, MAFL_TEST))
    return _with_boxes(local, select(read_points(local.lists[LANDMARKS.name]), train, test))


def _with_boxes(local: LocalFiles, table: Annotations) -> Annotations:
    boxes = read_table(local.lists[BOXES.name], 4)
    missing = [name for name in table.files if name not in boxes]
    if missing:
        raise DataError(f"{BOXES.name}: no box of {len(missing)} images: {missing[0]} …; get the file again")
    return dataclasses.replace(table, boxes=np.stack([boxes[name] for name in table.files]) if table.files else None)


DATASET = KnownDataset(
    homepage=HOMEPAGE,
    terms=TERMS,
    files=(LANDMARKS, BOXES, PARTITION, MAFL_TRAIN, MAFL_TEST, IMAGES),
    members=r"img_celeba/(\d+\.jpg)",
    read=read,
    parts=PARTS,
    landmarks=FIVE_POINTS,
    boxes_from_annotations=True,
)
MAFL = dataclasses.replace(
    DATASET,
    files=(LANDMARKS, BOXES, MAFL_TRAIN, MAFL_TEST, IMAGES),
    read=read_mafl,
    parts=mafl.DATASET.parts,
)
