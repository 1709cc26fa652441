"""MAFL: the part of CelebA, aligned, that landmark detectors are measured on.

Source: Zhang, Luo, Loy and Tang, "Learning deep representation for face alignment with auxiliary attributes", 2014; the
images and landmarks are CelebA's (`fse/datasets/celeba.py`).
Terms: CelebA's.
Images: 178 x 218 pixels; 19,000 to fit the regressor on, 1,000 to test. 15,461 and 808 of them are in CelebA's training
partition.
Landmarks: CelebA's five. Errors are divided by the distance of the eyes.
"""

from fse.datasets.annotations import Annotations
from fse.datasets.celeba import IMAGES, LANDMARKS, MAFL_TEST, MAFL_TRAIN, PAGE, TERMS, chosen, names_of, points_of
from fse.datasets.spec import FIVE_POINTS, DataSet, Given


def read(given: Given, part: str) -> Annotations:
    """Annotations of MAFL."""
    train, test = (names_of(given.lists[file.name]) for file in (MAFL_TRAIN, MAFL_TEST))
    return chosen(points_of(given.lists[LANDMARKS.name]), train, test)


DATASET = DataSet(
    page=PAGE,
    terms=TERMS,
    files=(LANDMARKS, MAFL_TRAIN, MAFL_TEST, IMAGES),
    members=r"img_align_celeba/(\d+\.jpg)",
    read=read,
    parts={"": {"train": 19_000, "test": 1_000}},
    landmarks=FIVE_POINTS,
)
