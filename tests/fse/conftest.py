"""Records that the tests of training share."""

from pathlib import Path

import pytest
from conftest import write_crops

from fse import config


@pytest.fixture(scope="session")
def shards(tiny: config.Config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The records of 18 + 4 pictures of the tiny experiment. Not to be changed."""
    from fse import records  # many tests need no TensorFlow

    folder = tmp_path_factory.mktemp("records")
    records.convert(tiny, write_crops(tmp_path_factory.mktemp("data") / "crops", 18, 4), folder)
    return folder
