"""AFLW in the five-point crops of MTFL: faces cut out of photographs, 150 x 150 pixels.

Source: Köstinger et al., "Annotated facial landmarks in the wild", 2011. Test crops: Zhang et al., "Facial landmark
detection by deep multi-task learning", ECCV 2014 (MTFL). Training crops and their list: Thewlis, Bilen and Vedaldi,
2017, from the archive of their later work DVE.
Terms: non-commercial research after registration with TU Graz, so the archive has to be downloaded by hand.
Images: 150 x 150 pixels; 10,122 train (set 1 of `facedata_cropped.csv`), 2,995 test (`AFLW` in MTFL's `testing.txt`).
No photograph is in both splits.
Landmarks: five, in pixels; the first pixel is 1. Errors are divided by the distance between the eyes.
"""

import csv
from pathlib import Path, PurePosixPath
from typing import List, Tuple

import numpy as np

from fse.datasets.annotations import Annotations
from fse.datasets.spec import FIVE_POINTS, KnownDataset, LocalFiles, SourceFile, parse_numbers, read_lines
from fse.errors import DataError

_TRAIN, _TEST = "aflw_cropped/facedata_cropped.csv", "MTFL/testing.txt"

_TRAINING_SET = "1"  # in column `set`
_FIRST_COORDINATE = 4  # columns of the training table from which ten coordinates follow


def read(local: LocalFiles, part: str) -> Annotations:
    """Return the annotations of AFLW's five-point crops."""
    for name in (_TRAIN, _TEST):
        if name not in local.annotations:
            raise DataError(f"aflw: {name} is not in the archive; get the archive again")
    train, photographs, train_points = _read_training_table(local.annotations[_TRAIN])
    test, test_points = _read_test_list(local.annotations[_TEST])
    # The name of a test crop ends with the name of its photograph: MTFL/AFLW/0001-image00002.jpg
    both = {PurePosixPath(name).name.split("-")[-1] for name in test} & set(photographs)
    if both:
        raise DataError(f"aflw: photographs in both splits: {len(both)} ({min(both)} …); get the archive again")
    splits = ["train"] * len(train) + ["test"] * len(test)
    # The files count pixels from 1. Here the center of the first pixel is 0.5.
    points = np.concatenate([train_points, test_points]).reshape(-1, 5, 2) - 0.5
    return Annotations(train + test, splits, list(FIVE_POINTS), points)


def _read_training_table(path: Path) -> Tuple[List[str], List[str], np.ndarray]:
    """Return the names of the training crops and of their photographs, and float64 [n, 10], x and y of each landmark."""
    try:
        with open(path, newline="", encoding="utf-8-sig") as stream:
            rows = list(csv.reader(stream))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: not a CSV file ({error}); get the archive again") from None
    header = [name.strip() for name in rows[0]] if rows else []
    if not {"image_file", "crop_file", "set"} <= set(header) or len(header) < _FIRST_COORDINATE + 10:
        raise DataError(
            f"{path}: expected columns image_file, crop_file, set and ten coordinates from the fifth column on; get the "
            "archive again"
        )
    crop, photograph, subset = (header.index(name) for name in ("crop_file", "image_file", "set"))
    crops, photographs, points = [], [], []
    for line, row in enumerate(rows[1:], 2):
        if row and len(row) != len(header):
            raise DataError(
                f"{path}, line {line}: {len(row)} cells, but the header has {len(header)}; get the archive again"
            )
        if row and row[subset].strip() == _TRAINING_SET:
            crops.append("aflw_cropped/" + row[crop].strip().replace("\\", "/"))
            photographs.append(row[photograph].strip())
            points.append(parse_numbers(row[_FIRST_COORDINATE : _FIRST_COORDINATE + 10], 10, path, line))
    return crops, photographs, np.array(points).reshape(-1, 10)


def _read_test_list(path: Path) -> Tuple[List[str], np.ndarray]:
    """Return the names of MTFL's AFLW crops, and float64 [n, 10], x and y of each landmark.

    The file has backslashes in names, and the five x before the five y.
    """
    names, points = [], []
    for line, words in read_lines(path):
        if not words[0].startswith("AFLW"):
            continue
        names.append("MTFL/" + words[0].replace("\\", "/"))
        points.append(parse_numbers(words[1:11], 10, path, line).reshape(2, 5).T.ravel())
    return names, np.array(points).reshape(-1, 10)


DATASET = KnownDataset(
    homepage="http://www.robots.ox.ac.uk/~vgg/research/DVE/data/datasets/aflw-mtfl.tar.gz",
    terms="non-commercial research, after registration at https://www.tugraz.at/institute/icg/research/team-bischof/lrs/"
    "downloads/aflw/",
    files=(SourceFile("aflw-mtfl.tar.gz", hash="1ff31c07cef4f2777b416d896a65f6c17d8ae2ee", folder="aflw-mtfl"),),
    members=r"(MTFL/AFLW/[^/]+\.jpg|MTFL/testing\.txt|aflw_cropped/(?:[^/]+/)*[^/]+\.(?:jpg|png|csv))",
    read=read,
    parts={"": {"train": 10_122, "test": 2_995}},
    landmarks=FIVE_POINTS,
)
