"""CAT: photographs of cats with nine annotated points on the head, of which seven are used.

Source: Zhang, Sun and Tang, "Cat head detection: how to effectively exploit shape and texture features", ECCV 2008.
Terms: none are stated; the images are from Flickr. Research use.
Images: about 10,000 photographs of many sizes in seven folders. Earlier work did not publish its split. Here an eighth
of the images is for testing, selected at random with a fixed seed, so errors compare only with other runs of this code.
Landmarks: eyes, mouth, and two points of each ear (1-4, 6, 7 and 9 of the nine; the tips of the ears are left out), in
pixels; the first pixel is 0. Errors are divided by the distance between the eyes. Boxes enclose the annotated points, in
test images too.
"""

from pathlib import Path

import numpy as np

from fse.datasets.annotations import Annotations
from fse.datasets.spec import (
    KnownDataset,
    LocalFiles,
    SourceFile,
    bounding_boxes,
    parse_numbers,
    random_splits,
    read_lines,
)
from fse.errors import DataError

LANDMARKS = (
    "left_eye",
    "right_eye",
    "mouth",
    "left_ear_outside",
    "left_ear_inside",
    "right_ear_inside",
    "right_ear_outside",
)
_USED_POINTS = [0, 1, 2, 3, 5, 6, 8]  # indices among the nine annotated points
_TEST_SHARE, _SEED = 0.125, 1234


def read(local: LocalFiles, part: str) -> Annotations:
    """Return the annotations of the cats' heads."""
    files = [name for name in local.images if name + ".cat" in local.annotations]
    if not files:
        raise DataError("cats: no image with a .cat file beside it; get the archives again")
    points = np.stack([read_points(local.annotations[name + ".cat"]) for name in files])
    splits = random_splits(files, _TEST_SHARE, _SEED)
    return Annotations(files, splits, list(LANDMARKS), points, boxes=bounding_boxes(points))


def read_points(path: Path) -> np.ndarray:
    """Return float64 [7, 2] from a `.cat` file: `9`, then x and y of nine points, all on one line."""
    words = [word for _, line in read_lines(path) for word in line]
    if not words or words[0] != "9":
        raise DataError(f"{path}: {words[0] if words else 'no'} points, expected 9; get the archives again")
    # The files count pixels from 0. Here the center of the first pixel is 0.5.
    return parse_numbers(words[1:], 18, path, 1).reshape(9, 2)[_USED_POINTS] + 0.5


DATASET = KnownDataset(
    homepage="https://archive.org/details/CAT_DATASET",
    terms="none stated; research use",
    files=tuple(
        SourceFile(f"{name}.zip", urls=(f"https://archive.org/download/CAT_DATASET/{name}.zip",), folder=name)
        for name in ("CAT_DATASET_01", "CAT_DATASET_02")
    ),
    members=r"(CAT_0\d/[^/]+\.jpg(?:\.cat)?)",
    read=read,
    parts={"": {}},
    landmarks=LANDMARKS,
    boxes_from_annotations=True,
)
