"""CelebA in the wild: the photographs as they were found, with the faces' boxes; and MAFL's images among them.

Source: CelebA's (`fse/datasets/celeba.py`). The images are a 7z archive of 10 GB in 14 parts, to be fetched by hand,
which libarchive reads; or unpack it (`7z x img_celeba.7z.001`) and let `download.data_path` hold the folder
`img_celeba`.
Terms: CelebA's.
Images: photographs of many sizes; parts as of `celeba` and `mafl`.
Landmarks: five, as in CelebA, in pixels of the photograph. Errors are divided by the distance of the eyes. Boxes:
CelebA's own, placed by hand, test images included.
"""

import numpy as np

from fse.datasets.annotations import Annotations
from fse.datasets.celeba import (
    MAFL_TEST,
    MAFL_TRAIN,
    PAGE,
    PARTITION,
    PARTS,
    TERMS,
    chosen,
    names_of,
    points_of,
    table_of,
    unlabeled,
)
from fse.datasets.spec import FIVE_POINTS, DataSet, File, Given
from fse.errors import DataError

IMAGES = File("img_celeba.7z.001", 13 * 734_003_200 + 649_030_866, folder="img_celeba")
LANDMARKS = File(
    "list_landmarks_celeba.txt",
    12_352_635,
    "063ee6ddb681f96bc9ca28c6febb9d1a",
    ("drive:0B7EVK8r0v71pTzJIdlJWdHczRlU",),
)
BOXES = File(
    "list_bbox_celeba.txt",
    6_082_035,
    "00566efa6fedff7a56946cd1c10f1c16",
    ("drive:0B7EVK8r0v71pbThiMVRxWXZ4dU0",),
)


def read(given: Given, part: str) -> Annotations:
    """Annotations of a part of CelebA in the wild."""
    return _boxed(given, chosen(points_of(given.lists[LANDMARKS.name]), unlabeled(given, part), []))


def read_mafl(given: Given, part: str) -> Annotations:
    """Annotations of MAFL in the wild."""
    train, test = (names_of(given.lists[file.name]) for file in (MAFL_TRAIN, MAFL_TEST))
    return _boxed(given, chosen(points_of(given.lists[LANDMARKS.name]), train, test))


def _boxed(given: Given, table: Annotations) -> Annotations:
    boxes = table_of(given.lists[BOXES.name], 4)
    missing = [name for name in table.files if name not in boxes]
    if missing:
        raise DataError(f"{BOXES.name}: no box of {len(missing)} images: {missing[0]} …")
    return table._replace(boxes=np.stack([boxes[name] for name in table.files]) if table.files else None)


DATASET = DataSet(
    page=PAGE,
    terms=TERMS,
    files=(LANDMARKS, BOXES, PARTITION, MAFL_TRAIN, MAFL_TEST, IMAGES),
    members=r"img_celeba/(\d+\.jpg)",
    read=read,
    parts=PARTS,
    landmarks=FIVE_POINTS,
    boxes_from_annotations=True,
)
MAFL = DATASET._replace(
    files=(LANDMARKS, BOXES, MAFL_TRAIN, MAFL_TEST, IMAGES),
    read=read_mafl,
    parts={"": {"train": 19_000, "test": 1_000}},
)
