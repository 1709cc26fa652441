"""Records that several files of tests have in common."""

from pathlib import Path

import pytest
from conftest import write_crops

from fse import config
from fse.preprocessing import tfrecord


@pytest.fixture(scope="session")
def shards(tiny: config.Config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The records of 18 + 4 images of the tiny experiment. Not to be changed."""
    folder = tmp_path_factory.mktemp("records")
    tfrecord.convert(tiny, write_crops(tmp_path_factory.mktemp("data") / "crops", 18, 4), folder)
    return folder


@pytest.fixture
def few_shards(tiny: config.Config, tmp_path: Path) -> Path:
    """The records of 9 + 4 images of the tiny experiment, the test's own."""
    folder = tmp_path / "records"
    folder.mkdir()
    tfrecord.convert(tiny, write_crops(tmp_path / "crops", 9, 4), folder)
    return folder
