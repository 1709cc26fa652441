from pathlib import Path

import numpy as np
import pytest

from fse.datasets import aflw
from fse.datasets.spec import LocalFiles
from fse.errors import DataError
from tests.fse.datasets import layouts
from tests.fse.datasets.conftest import KnownDatasets


def test_names_splits_and_points(known: KnownDatasets) -> None:
    points = layouts.aflw(known.data)
    rows, _ = known.bring("aflw", "", {"train": 3, "test": 2})
    files = [f"aflw_cropped/crops/{number}.png" for number in range(3)]
    files += [f"MTFL/AFLW/000{number + 1}-photo9{number}.jpg" for number in range(2)]
    assert list(rows) == files
    assert [row["split"] for row in rows.values()] == ["train"] * 3 + ["test"] * 2
    for row, place in zip(rows.values(), points):
        assert np.allclose(layouts.points_of(row), (place - 0.5).ravel(), atol=6e-4)  # the file counts pixels from 1


def test_number_of_images_in_full_tables(tmp_path: Path) -> None:
    header = "image_file,crop_file,set,face_id,ex1,ey1,ex2,ey2,nx,ny,mx1,my1,mx2,my2"
    coordinates = ",9" * 10
    rows = [f"photo{n}.jpg,{n}.jpg,{1 + n // 10_122},{n}{coordinates}" for n in range(13_117)]
    (tmp_path / "crops.csv").write_text("\n".join([header, *rows]))
    words = " 9" * 10
    lines = [f"AFLW\\{n:04d}-photo{n}.jpg{words} 1 1 2 3" for n in range(10_122, 13_117)]
    (tmp_path / "testing.txt").write_text("\n".join(["lfw_5590\\a.jpg" + words, *lines]))
    files = {"aflw_cropped/facedata_cropped.csv": tmp_path / "crops.csv", "MTFL/testing.txt": tmp_path / "testing.txt"}
    table = aflw.read(LocalFiles(files, [], {}), "")
    assert {split: table.splits.count(split) for split in ("train", "test")} == aflw.DATASET.parts[""]


def test_photographs_in_both_splits_are_refused(known: KnownDatasets) -> None:
    layouts.aflw(known.data, train=91)
    with pytest.raises(DataError, match=r"photographs in both splits: 1 \(photo90.jpg"):
        known.bring("aflw")
