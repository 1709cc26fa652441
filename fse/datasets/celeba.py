"""CelebA, aligned: faces of celebrities, 178 x 218 pixels, rotated and scaled so that the eyes are about level.

Source: Liu, Luo, Wang and Tang, "Deep learning face attributes in the wild", ICCV 2015.
Terms: non-commercial research and education; no redistribution. The files are on Google Drive, whose quotas often return
a web page instead of a file; then the files have to be downloaded by hand.
Images: 178 x 218 pixels; 202,599. Partition: 162,770 train, 19,867 validation, 19,962 test.
Parts: `train`, the training partition without MAFL's test images, 161,962 (IMM, lmdis-rep). `train_without_mafl`, the
same also without MAFL's training images, 146,501 (DVE). `all`, all images but MAFL's test images, 201,599.
`everything`, 202,599 (alldbi): a detector trained on it has seen the test images.
Landmarks: five, in whole pixels; the first pixel is 0. Errors are divided by the distance between the eyes. CelebA has no
test images here: errors are measured on MAFL, a subset of CelebA (`fse/datasets/mafl.py`).
"""

import re
from pathlib import Path
from typing import Dict, List, Set

import numpy as np

from fse.datasets.annotations import Annotations
from fse.datasets.spec import FIVE_POINTS, KnownDataset, LocalFiles, SourceFile, parse_numbers, read_lines
from fse.errors import DataError

HOMEPAGE = "https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html"
TERMS = "non-commercial research and education only; no redistribution"

IMAGES = SourceFile(
    name="img_align_celeba.zip",
    size=1_443_490_838,
    hash="46fb89443c578308acf364d7d379fe1b9efb793042c0af734b6112e4fd3a8c74",
    urls=("drive:0B7EVK8r0v71pZjFTYXZWM3FlRnM",),
    folder="img_align_celeba",
)
LANDMARKS = SourceFile(
    name="list_landmarks_align_celeba.txt",
    size=12_156_055,
    hash="6c02a87569907f6db2ba99019085697596730e8129f67a3d61659f198c48d43b",
    urls=("drive:0B7EVK8r0v71pd0FJY3Blby1HUTQ",),
)
PARTITION = SourceFile(
    name="list_eval_partition.txt",
    size=2_836_386,
    hash="fc955bcb3ef8fbdf7d5640d9a8693a8431b5f2ee291a5c1449a1549e7e073fe7",
    urls=("drive:0B7EVK8r0v71pY0NSMzRuSXJEVkk",),
)
_MAFL_URL = "https://raw.githubusercontent.com/zhzhanp/TCDCN-face-alignment/master/MAFL"
MAFL_TRAIN = SourceFile(
    name="training.txt",
    size=208_999,
    hash="435e0488efcb97dee718118b74b4110d42d9524289238f51692b1d60883ccba6",
    urls=(f"{_MAFL_URL}/training.txt",),
)
MAFL_TEST = SourceFile(
    name="testing.txt",
    size=10_999,
    hash="0a93fa3202133333045ce4cef5043a2cb1f4b8858b8e96f3ae7f54becfa07f9e",
    urls=(f"{_MAFL_URL}/testing.txt",),
)
PARTS = {
    "train": {"train": 161_962, "test": 0},
    "train_without_mafl": {"train": 146_501, "test": 0},
    "all": {"train": 201_599, "test": 0},
    "everything": {"train": 202_599, "test": 0},
}

_TRAIN, _VALIDATION, _TEST = "0", "1", "2"  # in the partition file


def read(local: LocalFiles, part: str) -> Annotations:
    """Return the annotations of a part of CelebA, aligned."""
    return select(read_points(local.lists[LANDMARKS.name]), training_names(local, part), [])


def training_names(local: LocalFiles, part: str) -> List[str]:
    """Return the names of the training images of a part, in CelebA's order."""
    partition = _read_partition(local.lists[PARTITION.name])
    excluded: Set[str] = set()
    if part != "everything":
        excluded.update(read_names(local.lists[MAFL_TEST.name]))
    if part == "train_without_mafl":
        excluded.update(read_names(local.lists[MAFL_TRAIN.name]))
    subsets = (_TRAIN,) if part.startswith("train") else (_TRAIN, _VALIDATION, _TEST)
    return [name for name, subset in partition.items() if subset in subsets and name not in excluded]


def read_names(path: Path) -> List[str]:
    """Return the names in a file with one name per line.

    Raises:
      DataError: a line is not one name, or a name is repeated.
    """
    names = []
    for line, words in read_lines(path):
        if len(words) != 1:
            raise DataError(f"{path}, line {line}: expected one name, got {' '.join(words)[:80]!r}; get the file again")
        names.append(words[0])
    if len(set(names)) < len(names):
        raise DataError(f"{path}: a name is repeated; get the file again")
    return names


def read_points(path: Path) -> Dict[str, np.ndarray]:
    """Return the landmarks, float64 [5, 2], by image name. The center of the first pixel is 0.5."""
    return {name: values.reshape(5, 2) + 0.5 for name, values in read_table(path, 10).items()}


def read_table(path: Path, count: int) -> Dict[str, np.ndarray]:
    """Return the rows of one of CelebA's tables: float64 [count] by image name.

    The first line of a table is the number of rows, the second the names of the columns; then each line has an image
    name and `count` numbers.

    Raises:
      DataError: the file is not such a table, or does not have the stated number of rows.
    """
    rows: Dict[str, np.ndarray] = {}
    stated = -1
    for index, (line, words) in enumerate(read_lines(path)):
        if index == 0:
            stated = int(words[0]) if len(words) == 1 and re.match(r"[0-9]{1,9}\Z", words[0]) else -1
        elif index > 1:
            rows[words[0]] = parse_numbers(words[1:], count, path, line)
    if stated != len(rows):
        raise DataError(
            f"{path}: {len(rows)} rows, but its first line states {stated if stated >= 0 else 'none'}; get the file again"
        )
    return rows


def select(points: Dict[str, np.ndarray], train: List[str], test: List[str]) -> Annotations:
    """Return the annotations of the named images.

    Raises:
      DataError: an image has no landmarks.
    """
    files = train + test
    missing = [name for name in files if name not in points]
    if missing:
        raise DataError(f"{LANDMARKS.name}: no landmarks of {len(missing)} images: {missing[0]} …; get the file again")
    selected = np.stack([points[name] for name in files]) if files else np.zeros((0, 5, 2))
    return Annotations(files, ["train"] * len(train) + ["test"] * len(test), list(FIVE_POINTS), selected)


def _read_partition(path: Path) -> Dict[str, str]:
    """Return the number of the subset (0 train, 1 validation, 2 test) of each image, in the order of the file."""
    partition = {}
    for line, words in read_lines(path):
        if len(words) != 2 or words[1] not in (_TRAIN, _VALIDATION, _TEST):
            text = " ".join(words)[:80]
            raise DataError(f"{path}, line {line}: expected a name and 0, 1 or 2, got {text!r}; get the file again")
        partition[words[0]] = words[1]
    return partition


DATASET = KnownDataset(
    homepage=HOMEPAGE,
    terms=TERMS,
    files=(LANDMARKS, PARTITION, MAFL_TRAIN, MAFL_TEST, IMAGES),
    members=r"img_align_celeba/(\d+\.jpg)",
    read=read,
    parts=PARTS,
    landmarks=FIVE_POINTS,
)
