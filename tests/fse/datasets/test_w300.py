from pathlib import Path

import numpy as np
import pytest

from fse.datasets import w300
from fse.datasets.spec import LocalFiles
from fse.errors import DataError
from tests.fse.datasets import layouts
from tests.fse.datasets.conftest import KnownDatasets


def test_names_splits_points_and_boxes(known: KnownDatasets) -> None:
    points = layouts.w300(known.data)
    rows, summary = known.bring("300w", "", {"train": 4, "test": 2})
    train = ["afw/1_1.jpg", "afw/2_1.jpg", "helen/trainset/3_1.jpg", "helen/trainset/4_1.jpg"]
    for number, name in enumerate([*train, "lfpw/testset/image_1.png", "ibug/image_2.jpg"]):
        row = rows[name]
        assert row["split"] == ("train" if number < 4 else "test")
        # The files count pixels from 1; the center of the first pixel is 0.5.
        assert np.allclose(layouts.points_of(row), (points[number] - 0.5).ravel(), atol=6e-4)
        low, high = points[number].min(0) - 0.5, points[number].max(0) - 0.5
        assert np.allclose(layouts.box_of(row), [*low, *(high - low)], atol=6e-4)
    assert len(rows) == 6
    assert summary["boxes_from_annotations"] is True


def test_number_of_images_in_the_full_folders(monkeypatch: pytest.MonkeyPatch) -> None:
    counts = {
        "afw": 337,
        "lfpw/trainset": 811,
        "helen/trainset": 2000,
        "lfpw/testset": 224,
        "helen/testset": 330,
        "ibug": 135,
    }
    names = [f"{folder}/{number}.jpg" for folder, count in counts.items() for number in range(count)]
    monkeypatch.setattr(w300, "read_points", lambda _: np.zeros((68, 2)))
    table = w300.read(LocalFiles({name[:-4] + ".pts": Path(name) for name in names}, names, {}), "")
    assert {split: table.splits.count(split) for split in ("train", "test")} == w300.DATASET.parts[""]


def test_incomplete_data_set_is_refused(known: KnownDatasets) -> None:
    layouts.w300(known.data)
    with pytest.raises(DataError, match=r"300w: .*'train': 4, 'test': 2.*expected .*'train': 3148"):
        known.bring("300w", "", {"train": 3148, "test": 689})


@pytest.mark.parametrize("text", ["", "version: 1\nn_points: 68\n{\n1 2\n}", "version: 1\n{\n1 x\n}"])
def test_broken_points(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.pts").write_text(text)
    with pytest.raises(DataError, match=r"a\.pts"):
        w300.read_points(tmp_path / "a.pts")
