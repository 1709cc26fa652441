"""UT Zappos50K: shoes from a catalog on white ground, 136 x 136 pixels; no landmarks.

Source: Yu and Grauman, "Fine-grained visual comparisons with local learning", CVPR 2014.
Terms: academic, non-commercial use.
Images: 136 x 136 pixels; 50,025. A twentieth is for testing, selected at random with a fixed seed.
Landmarks: none, so there are no errors. The report shows the discovered landmarks and measures how they move when an
image is warped.
"""

import numpy as np

from fse.datasets.annotations import Annotations
from fse.datasets.spec import KnownDataset, LocalFiles, SourceFile, random_splits

_TEST_SHARE, _SEED = 0.05, 1234

_HOMEPAGE = "https://vision.cs.utexas.edu/projects/finegrained/utzap50k/"
_IMAGES = "ut-zap50k-images-square"


def read(local: LocalFiles, part: str) -> Annotations:
    """Return names and splits of the shoes, without landmarks."""
    splits = random_splits(local.images, _TEST_SHARE, _SEED)
    return Annotations(local.images, splits, [], np.zeros((len(splits), 0, 2)))


DATASET = KnownDataset(
    homepage=_HOMEPAGE,
    terms="academic, non-commercial use",
    files=(SourceFile(f"{_IMAGES}.zip", urls=(f"{_HOMEPAGE}{_IMAGES}.zip",), folder=_IMAGES),),
    members=r"ut-zap50k-images-square/((?:[^/]+/)*[^/]+\.jpg)",
    read=read,
    parts={"": {"train": 47_524, "test": 2_501}},
    eyes=(),
)
