"""AFLW in the five-point crops of MTFL: faces of photographs, 150 x 150 pixels.

Source: Köstinger et al., "Annotated facial landmarks in the wild", 2011; test crops: Zhang et al., "Facial landmark
detection by deep multi-task learning", ECCV 2014 (MTFL); training crops and their list: Thewlis, Bilen and Vedaldi,
2017, in the archive of their later DVE.
Terms: non-commercial research after registration with TU Graz, so it is fetched by hand.
Images: 150 x 150 pixels; 10,122 train (`facedata_cropped.csv`, set 1), 2,995 test (`AFLW` in MTFL's `testing.txt`);
no photograph in both.
Landmarks: five, in pixels counted from 1. Errors are divided by the distance of the eyes.
"""

import csv
from pathlib import Path, PurePosixPath
from typing import List, Tuple

import numpy as np

from fse.datasets.annotations import Annotations
from fse.datasets.spec import FIVE_POINTS, DataSet, File, Given, lines, numbers
from fse.errors import DataError

_TRAIN, _TEST = "aflw_cropped/facedata_cropped.csv", "MTFL/testing.txt"


def read(given: Given, part: str) -> Annotations:
    """Annotations of AFLW's five-point crops."""
    for name in (_TRAIN, _TEST):
        if name not in given.notes:
            raise DataError(f"aflw: {name} is not in the archive")
    train, photographs, points = _train(given.notes[_TRAIN])
    test, tested = _test(given.notes[_TEST])
    both = {PurePosixPath(name).name.split("-")[-1] for name in test} & set(photographs)
    if both:
        raise DataError(f"aflw: {len(both)} photographs are in both splits: {min(both)} …")
    splits = ["train"] * len(train) + ["test"] * len(test)
    placed = (
        np.concatenate([points, tested]).reshape(-1, 5, 2) - 0.5
    )  # the first pixel is 1, and its center ours at 0.5
    return Annotations(train + test, splits, list(FIVE_POINTS), placed, None, None)


def _train(path: Path) -> Tuple[List[str], List[str], np.ndarray]:
    """Names of crops and of their photographs, and [n, 10] x and y of each landmark in turn: set 1 of the table."""
    try:
        with open(str(path), newline="", encoding="utf-8-sig") as stream:
            rows = list(csv.reader(stream))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: not a CSV file ({error})") from None
    header = [name.strip() for name in rows[0]] if rows else []
    if not {"image_file", "crop_file", "set"} <= set(header) or len(header) < 14:
        raise DataError(f"{path}: wanted columns image_file, crop_file, set and ten coordinates from the fifth on")
    crop, photograph, part = (header.index(name) for name in ("crop_file", "image_file", "set"))
    crops, photographs, points = [], [], []
    for line, row in enumerate(rows[1:], 2):
        if row and len(row) != len(header):
            raise DataError(f"{path}, line {line}: {len(row)} cells, but the header has {len(header)}")
        if row and row[part].strip() == "1":
            crops.append("aflw_cropped/" + row[crop].strip().replace("\\", "/"))
            photographs.append(row[photograph].strip())
            points.append(numbers(row[4:14], 10, path, line))
    return crops, photographs, np.array(points).reshape(-1, 10)


def _test(path: Path) -> Tuple[List[str], np.ndarray]:
    """Names of MTFL's AFLW images, and [n, 10] x and y in turn; the file has all x before all y, and backslashes."""
    names, points = [], []
    for line, words in lines(path):
        if not words[0].startswith("AFLW"):
            continue
        names.append("MTFL/" + words[0].replace("\\", "/"))
        points.append(numbers(words[1:11], 10, path, line).reshape(2, 5).T.ravel())
    return names, np.array(points).reshape(-1, 10)


DATASET = DataSet(
    page="http://www.robots.ox.ac.uk/~vgg/research/DVE/data/datasets/aflw-mtfl.tar.gz",
    terms="non-commercial research, after registration at https://www.tugraz.at/institute/icg/research/team-bischof/lrs/"
    "downloads/aflw/",
    files=(File("aflw-mtfl.tar.gz", 0, "1ff31c07cef4f2777b416d896a65f6c17d8ae2ee", (), "aflw-mtfl"),),
    members=r"(MTFL/AFLW/[^/]+\.jpg|MTFL/testing\.txt|aflw_cropped/(?:[^/]+/)*[^/]+\.(?:jpg|png|csv))",
    read=read,
    parts={"": {"train": 10_122, "test": 2_995}},
    landmarks=FIVE_POINTS,
)
