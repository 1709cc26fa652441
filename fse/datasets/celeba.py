"""CelebA, aligned: faces of celebrities, 178 x 218 pixels, turned and scaled so that the eyes are about level.

Source: Liu, Luo, Wang and Tang, "Deep learning face attributes in the wild", ICCV 2015.
Terms: non-commercial research and education; not to be redistributed. The files are on Google Drive, behind quotas that
often answer with a page instead of a file; then they have to be fetched by hand.
Images: 178 x 218 pixels; 202,599. Partition: 162,770 train, 19,867 validation, 19,962 test.
Parts: `train`, the training partition without MAFL's test images, 161,962 (IMM, lmdis-rep); `train_without_mafl`,
also without MAFL's training images, 146,501 (DVE); `all`, everything but MAFL's test images, 201,599; `everything`,
202,599 (alldbi): a detector trained on it has seen the test images.
Landmarks: five, whole pixels counted from 0; their centers are half a pixel further. Errors are divided by the distance
of the eyes. It has no test images of its own; MAFL is the part that detectors are measured on
(`fse/datasets/mafl.py`).
"""

import re
from pathlib import Path
from typing import Dict, List, Set

import numpy as np

from fse.datasets.annotations import Annotations
from fse.datasets.spec import FIVE_POINTS, DataSet, File, Given, lines, numbers
from fse.errors import DataError

PAGE = "https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html"
TERMS = "non-commercial research and education only; not to be redistributed"

IMAGES = File(
    "img_align_celeba.zip",
    1_443_490_838,
    "46fb89443c578308acf364d7d379fe1b9efb793042c0af734b6112e4fd3a8c74",
    ("drive:0B7EVK8r0v71pZjFTYXZWM3FlRnM",),
    "img_align_celeba",
)
LANDMARKS = File(
    "list_landmarks_align_celeba.txt",
    12_156_055,
    "6c02a87569907f6db2ba99019085697596730e8129f67a3d61659f198c48d43b",
    ("drive:0B7EVK8r0v71pd0FJY3Blby1HUTQ",),
)
PARTITION = File(
    "list_eval_partition.txt",
    2_836_386,
    "fc955bcb3ef8fbdf7d5640d9a8693a8431b5f2ee291a5c1449a1549e7e073fe7",
    ("drive:0B7EVK8r0v71pY0NSMzRuSXJEVkk",),
)
_MAFL = "https://raw.githubusercontent.com/zhzhanp/TCDCN-face-alignment/master/MAFL/"
MAFL_TRAIN = File(
    "training.txt",
    208_999,
    "435e0488efcb97dee718118b74b4110d42d9524289238f51692b1d60883ccba6",
    (_MAFL + "training.txt",),
)
MAFL_TEST = File(
    "testing.txt",
    10_999,
    "0a93fa3202133333045ce4cef5043a2cb1f4b8858b8e96f3ae7f54becfa07f9e",
    (_MAFL + "testing.txt",),
)
PARTS = {
    "train": {"train": 161_962, "test": 0},
    "train_without_mafl": {"train": 146_501, "test": 0},
    "all": {"train": 201_599, "test": 0},
    "everything": {"train": 202_599, "test": 0},
}


def read(given: Given, part: str) -> Annotations:
    """Annotations of a part of CelebA, aligned."""
    return chosen(points_of(given.lists[LANDMARKS.name]), unlabeled(given, part), [])


def unlabeled(given: Given, part: str) -> List[str]:
    """Names of the training images of a part, in CelebA's order."""
    partition = {}
    for line, words in lines(given.lists[PARTITION.name]):
        if len(words) != 2 or words[1] not in ("0", "1", "2"):
            raise DataError(
                "{}, line {}: wanted a name and 0, 1 or 2, got {!r}".format(
                    given.lists[PARTITION.name], line, " ".join(words)[:80]
                )
            )
        partition[words[0]] = words[1]
    left_out: Set[str] = set()
    if part != "everything":
        left_out.update(names_of(given.lists[MAFL_TEST.name]))
    if part == "train_without_mafl":
        left_out.update(names_of(given.lists[MAFL_TRAIN.name]))
    wanted = ("0",) if part.startswith("train") else ("0", "1", "2")
    return [name for name, number in partition.items() if number in wanted and name not in left_out]


def names_of(path: Path) -> List[str]:
    """The names in a list of one name a line.

    Raises:
      DataError: a line is not one name, or a name is there twice.
    """
    names = []
    for line, words in lines(path):
        if len(words) != 1:
            raise DataError("{}, line {}: wanted one name, got {!r}".format(path, line, " ".join(words)[:80]))
        names.append(words[0])
    if len(set(names)) < len(names):
        raise DataError(f"{path}: a name is there twice")
    return names


def points_of(path: Path) -> Dict[str, np.ndarray]:
    """Landmarks [5, 2] by image: a count, a line of column names, then a name and ten numbers a line."""
    return {name: values.reshape(5, 2) + 0.5 for name, values in table_of(path, 10).items()}


def table_of(path: Path, count: int) -> Dict[str, np.ndarray]:
    """The rows of one of CelebA's tables: float64 [count] by image.

    Raises:
      DataError: the file is not such a table, or has not the number of rows that it says.
    """
    rows: Dict[str, np.ndarray] = {}
    said = -1
    for place, (line, words) in enumerate(lines(path)):
        if place == 0:
            said = int(words[0]) if len(words) == 1 and re.match(r"[0-9]{1,9}\Z", words[0]) else -1
        elif place > 1:
            rows[words[0]] = numbers(words[1:], count, path, line)
    if said != len(rows):
        raise DataError(
            "{}: {} rows, but its first line says {}".format(path, len(rows), said if said >= 0 else "none")
        )
    return rows


def chosen(points: Dict[str, np.ndarray], train: List[str], test: List[str]) -> Annotations:
    """Annotations of the named images.

    Raises:
      DataError: one has no landmarks.
    """
    files = train + test
    missing = [name for name in files if name not in points]
    if missing:
        raise DataError(f"{LANDMARKS.name}: no landmarks of {len(missing)} images: {missing[0]} …")
    placed = np.stack([points[name] for name in files]) if files else np.zeros((0, 5, 2))
    return Annotations(files, ["train"] * len(train) + ["test"] * len(test), list(FIVE_POINTS), placed, None, None)


DATASET = DataSet(
    page=PAGE,
    terms=TERMS,
    files=(LANDMARKS, PARTITION, MAFL_TRAIN, MAFL_TEST, IMAGES),
    members=r"img_align_celeba/(\d+\.jpg)",
    read=read,
    parts=PARTS,
    landmarks=FIVE_POINTS,
)
