"""UT Zappos50K: shoes of a catalog on white ground, 136 x 136 pixels; no landmarks.

Source: Yu and Grauman, "Fine-grained visual comparisons with local learning", CVPR 2014.
Terms: academic, non-commercial use.
Images: 136 x 136 pixels; 50,025, of which a twentieth is for testing, drawn once by name.
Landmarks: none. So there are no errors: the report shows what was learned, and measures how it moves with warps.
"""

import numpy as np

from fse.datasets.annotations import Annotations
from fse.datasets.spec import DataSet, File, Given, shares

_TEST_SHARE, _SEED = 0.05, 1234


def read(given: Given, part: str) -> Annotations:
    """The shoes, without landmarks."""
    splits = shares(given.images, _TEST_SHARE, _SEED)
    return Annotations(given.images, splits, [], np.zeros((len(splits), 0, 2)), None, None)


DATASET = DataSet(
    page="https://vision.cs.utexas.edu/projects/finegrained/utzap50k/",
    terms="academic, non-commercial use",
    files=(
        File(
            "ut-zap50k-images-square.zip",
            0,
            "",
            ("https://vision.cs.utexas.edu/projects/finegrained/utzap50k/ut-zap50k-images-square.zip",),
            "ut-zap50k-images-square",
        ),
    ),
    members=r"ut-zap50k-images-square/((?:[^/]+/)*[^/]+\.jpg)",
    read=read,
    parts={"": {"train": 47_524, "test": 2_501}},
    eyes=(),
)
