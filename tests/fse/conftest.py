"""TFRecords that several test files share."""

from pathlib import Path

import pytest

from fse import config
from fse.preprocessing import tfrecord
from tests.fse.crops import write_crops


@pytest.fixture(scope="session")
def shards(tiny: config.Config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Records of 18 training and 4 test images. Read-only: all tests share them."""
    folder = tmp_path_factory.mktemp("records")
    tfrecord.convert(tiny, write_crops(tmp_path_factory.mktemp("data") / "crops", 18, 4), folder)
    return folder


@pytest.fixture
def few_shards(tiny: config.Config, tmp_path: Path) -> Path:
    """Records of 9 training and 4 test images, which the test may change."""
    folder = tmp_path / "records"
    folder.mkdir()
    tfrecord.convert(tiny, write_crops(tmp_path / "crops", 9, 4), folder)
    return folder
