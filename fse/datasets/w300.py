"""300-W: photographs of faces with 68 points each.

Source: Sagonas et al., "300 faces in-the-wild challenge", ICCV workshops 2013; the images are those of AFW, LFPW, HELEN
and IBUG, annotated again.
Terms: non-commercial research, on request from https://ibug.doc.ic.ac.uk/resources/300-W/, so it is fetched by hand.
Images: photographs of many sizes; 3,148 train (AFW 337, LFPW 811, HELEN 2,000), 689 test (LFPW 224, HELEN 330, IBUG 135):
the split of Ren et al., 2014.
Landmarks: 68, `point_01` to `point_68`, pixels counted from 1. Errors are divided by the distance of the outer eye corners,
`point_37` and `point_46` (36 and 45 counted from 0). Boxes are the points' own, of test images too.
"""

from pathlib import Path
from typing import List

import numpy as np

from fse.datasets.annotations import Annotations
from fse.datasets.spec import DataSet, File, Given, lines, numbers, tight_boxes
from fse.errors import DataError

POINTS = 68
LANDMARKS = tuple(f"point_{number:02d}" for number in range(1, POINTS + 1))
_TRAIN = ("afw/", "helen/trainset/", "lfpw/trainset/")


def read(given: Given, part: str) -> Annotations:
    """Annotations of 300-W."""
    files = [name for name in given.images if name.rpartition(".")[0] + ".pts" in given.notes]
    if not files:
        raise DataError("300w: no image with a .pts file beside it")
    points = np.stack([points_of(given.notes[name.rpartition(".")[0] + ".pts"]) for name in files])
    splits = ["train" if name.startswith(_TRAIN) else "test" for name in files]
    return Annotations(files, splits, list(LANDMARKS), points, None, tight_boxes(points))


def points_of(path: Path) -> np.ndarray:
    """float64 [68, 2] of a `.pts` file: `version: 1`, `n_points: 68`, `{`, a point a line, `}`; pixels counted from 1."""
    rows: List[np.ndarray] = []
    for line, words in lines(path):
        if words[0] not in ("{", "}") and not words[0].endswith(":"):
            rows.append(numbers(words, 2, path, line))
    if len(rows) != POINTS:
        raise DataError(f"{path}: {len(rows)} points, wanted {POINTS}")
    return np.stack(rows) - 0.5


DATASET = DataSet(
    page="https://ibug.doc.ic.ac.uk/resources/facial-point-annotations/",
    terms="non-commercial research, on request",
    files=tuple(File(name + ".zip", folder=name) for name in ("afw", "helen", "lfpw", "ibug")),
    # The archive of IBUG holds images of others too, which have no number after `image`.
    members=r"((?:afw|ibug(?=/image)|(?:helen|lfpw)/(?:trainset|testset))/[^/]+\.(?:jpg|png|pts))",
    read=read,
    parts={"": {"train": 3_148, "test": 689}},
    landmarks=LANDMARKS,
    eyes=("point_37", "point_46"),
    boxes_from_annotations=True,
)
