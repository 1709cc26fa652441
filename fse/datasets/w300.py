"""300-W: photographs of faces with 68 points each.

Source: Sagonas et al., "300 faces in-the-wild challenge", ICCV workshops 2013. The images are those of AFW, LFPW, HELEN
and IBUG, annotated again.
Terms: non-commercial research, on request from https://ibug.doc.ic.ac.uk/resources/300-W/, so the archives have to be
downloaded by hand.
Images: photographs of many sizes; 3,148 train (AFW 337, LFPW 811, HELEN 2,000), 689 test (LFPW 224, HELEN 330, IBUG 135):
the split of Ren et al., 2014.
Landmarks: 68, `point_01` to `point_68`, in pixels; the first pixel is 1. Errors are divided by the distance between the
outer eye corners, `point_37` and `point_46` (36 and 45 if counted from 0). Boxes enclose the annotated points, in test
images too.
"""

from pathlib import Path
from typing import List

import numpy as np

from fse.datasets.annotations import Annotations
from fse.datasets.spec import KnownDataset, LocalFiles, SourceFile, bounding_boxes, parse_numbers, read_lines
from fse.errors import DataError

POINTS = 68
LANDMARKS = tuple(f"point_{number:02d}" for number in range(1, POINTS + 1))
_TRAIN = ("afw/", "helen/trainset/", "lfpw/trainset/")


def read(local: LocalFiles, part: str) -> Annotations:
    """Return the annotations of 300-W."""
    files = [name for name in local.images if _points_file(name) in local.annotations]
    if not files:
        raise DataError("300w: no image with a .pts file beside it; get the archives again")
    points = np.stack([read_points(local.annotations[_points_file(name)]) for name in files])
    splits = ["train" if name.startswith(_TRAIN) else "test" for name in files]
    return Annotations(files, splits, list(LANDMARKS), points, boxes=bounding_boxes(points))


def read_points(path: Path) -> np.ndarray:
    """Return float64 [68, 2] from a `.pts` file: `version: 1`, `n_points: 68`, `{`, one point per line, `}`."""
    rows: List[np.ndarray] = []
    for line, words in read_lines(path):
        if words[0] not in ("{", "}") and not words[0].endswith(":"):
            rows.append(parse_numbers(words, 2, path, line))
    if len(rows) != POINTS:
        raise DataError(f"{path}: {len(rows)} points, expected {POINTS}; get the archive again")
    # The files count pixels from 1. Here the center of the first pixel is 0.5.
    return np.stack(rows) - 0.5


def _points_file(image: str) -> str:
    return image.rpartition(".")[0] + ".pts"


DATASET = KnownDataset(
    homepage="https://ibug.doc.ic.ac.uk/resources/facial-point-annotations/",
    terms="non-commercial research, on request",
    files=tuple(SourceFile(f"{name}.zip", folder=name) for name in ("afw", "helen", "lfpw", "ibug")),
    # IBUG's archive also holds images of other data sets, whose names do not begin with `image`.
    members=r"((?:afw|ibug(?=/image)|(?:helen|lfpw)/(?:trainset|testset))/[^/]+\.(?:jpg|png|pts))",
    read=read,
    parts={"": {"train": 3_148, "test": 689}},
    landmarks=LANDMARKS,
    eyes=("point_37", "point_46"),
    boxes_from_annotations=True,
)
