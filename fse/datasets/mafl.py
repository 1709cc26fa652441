"""MAFL: the subset of CelebA, aligned, on which landmark detectors are measured.

Source: Zhang, Luo, Loy and Tang, "Learning deep representation for face alignment with auxiliary attributes", 2014. The
images and landmarks are CelebA's (`fse/datasets/celeba.py`).
Terms: the same as CelebA's.
Images: 178 x 218 pixels; 19,000 to fit the regressor on, 1,000 to test. 15,461 of the former and 808 of the latter are in
CelebA's training partition.
Landmarks: CelebA's five. Errors are divided by the distance between the eyes.
"""

from fse.datasets.annotations import Annotations
from fse.datasets.celeba import (
    HOMEPAGE,
    IMAGES,
    LANDMARKS,
    MAFL_TEST,
    MAFL_TRAIN,
    TERMS,
    read_names,
    read_points,
    select,
)
from fse.datasets.spec import FIVE_POINTS, KnownDataset, LocalFiles


def read(local: LocalFiles, part: str) -> Annotations:
    """Return the annotations of MAFL."""
    train, test = (read_names(local.lists[file.name]) for file in (MAFL_TRAIN, MAFL_TEST))
    return select(read_points(local.lists[LANDMARKS.name]), train, test)


DATASET = KnownDataset(
    homepage=HOMEPAGE,
    terms=TERMS,
    files=(LANDMARKS, MAFL_TRAIN, MAFL_TEST, IMAGES),
    members=r"img_align_celeba/(\d+\.jpg)",
    read=read,
    parts={"": {"train": 19_000, "test": 1_000}},
    landmarks=FIVE_POINTS,
)
