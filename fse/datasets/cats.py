"""CAT: photographs of cats with nine points on the head, of which seven are used.

Source: Zhang, Sun and Tang, "Cat head detection: how to effectively exploit shape and texture features", ECCV 2008.
Terms: none are stated; the images are of Flickr. Research use.
Images: about 10,000 photographs of many sizes in seven folders. The lists of earlier work are not published with it;
here an eighth of the images is for testing, drawn once by name. So errors compare with other runs of this code only.
Landmarks: eyes, mouth, and two points of each ear (1-4, 6, 7 and 9 of the nine, the ears' tips left out), pixels
counted from 0. Errors are divided by the distance of the eyes. Boxes are the points' own, of test images too.
"""

from pathlib import Path

import numpy as np

from fse.datasets.annotations import Annotations
from fse.datasets.spec import DataSet, File, Given, lines, numbers, shares, tight_boxes
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
_USED = [0, 1, 2, 3, 5, 6, 8]
_TEST_SHARE, _SEED = 0.125, 1234


def read(given: Given, part: str) -> Annotations:
    """Annotations of the cats' heads."""
    files = [name for name in given.images if name + ".cat" in given.notes]
    if not files:
        raise DataError("cats: no image with a .cat file beside it")
    points = np.stack([points_of(given.notes[name + ".cat"]) for name in files])
    return Annotations(files, shares(files, _TEST_SHARE, _SEED), list(LANDMARKS), points, None, tight_boxes(points))


def points_of(path: Path) -> np.ndarray:
    """float64 [7, 2] of a `.cat` file: `9`, then x and y of nine points, all on one line."""
    words = [word for _, line in lines(path) for word in line]
    if not words or words[0] != "9":
        raise DataError("{}: {} points, wanted 9".format(path, words[0] if words else "no"))
    return numbers(words[1:], 18, path, 1).reshape(9, 2)[_USED] + 0.5


DATASET = DataSet(
    page="https://archive.org/details/CAT_DATASET",
    terms="none stated; research use",
    files=tuple(
        File(name + ".zip", 0, "", ("https://archive.org/download/CAT_DATASET/" + name + ".zip",), name)
        for name in ("CAT_DATASET_01", "CAT_DATASET_02")
    ),
    members=r"(CAT_0\d/[^/]+\.jpg(?:\.cat)?)",
    read=read,
    parts={"": {}},
    landmarks=LANDMARKS,
    boxes_from_annotations=True,
)
