"""Images of the user's own: in nested folders, broken, rotated, partly annotated."""

import csv
import json
import shutil
import zipfile
from pathlib import Path
from typing import Any, Callable, Dict, List, Tuple

import numpy as np
import pytest
from PIL import Image

from fse import config
from fse.datasets import download, folder, registry
from fse.errors import ConfigError, DataError
from fse.preprocessing import align_crop

LANDMARKS = "left_eye_x,left_eye_y,right_eye_x,right_eye_y"


def settings(archive: object, **values: Any) -> config.Config:
    dataset = dict({"name": "folder", "archive": str(archive)}, **values)
    return config.from_tables({"dataset": dataset, "crop": {"size": 20, "max_skipped": 1.0}, "network": {"view": 16}})


def rows_of(path: Path) -> List[Dict[str, str]]:
    with open(path, newline="") as stream:
        return list(csv.DictReader(stream))


Bring = Callable[..., Tuple[Dict[str, str], Dict[str, Any]]]


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    """Write twenty images of 40 x 30 pixels in nested folders."""
    for number in range(20):
        path = tmp_path / "mine" / f"year {number % 3}" / ("a" if number % 2 else "") / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (40, 30), (10 * number, 80, 90)).save(str(path))
    return tmp_path / "mine"


@pytest.fixture
def bring(tmp_path: Path) -> Bring:
    """Return a function that runs the Download stage and returns the splits by file, and `dataset.json`."""

    def bringer(archive: Path, **values: Any) -> Tuple[Dict[str, str], Dict[str, Any]]:
        shutil.rmtree(tmp_path / "out", ignore_errors=True)
        download.download(settings(archive, **values), tmp_path / "out", tmp_path / "cache")
        assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["dataset.json", "images", "landmarks.csv"]
        splits = {row["file"]: row["split"] for row in rows_of(tmp_path / "out" / "landmarks.csv")}
        return splits, json.loads((tmp_path / "out" / "dataset.json").read_text())

    return bringer


def annotate(mine: Path, lines: List[str], header: str = "file," + LANDMARKS) -> None:
    (mine / "landmarks.csv").write_text("\n".join([header, *lines]) + "\n")


def test_nested_folders_without_annotations(bring: Bring, mine: Path) -> None:
    splits, summary = bring(mine, test_share=0.3)
    assert sorted(splits) == sorted(path.relative_to(mine).as_posix() for path in mine.rglob("*.png"))
    assert summary["splits"] == {split: list(splits.values()).count(split) for split in ("train", "test")}
    assert 2 <= summary["splits"]["test"] <= 10
    assert (summary["images"], summary["landmarks"]) == (20, [])


def test_added_and_removed_images_do_not_change_other_splits(bring: Bring, mine: Path) -> None:
    before, _ = bring(mine, test_share=0.3)
    Image.new("RGB", (40, 30)).save(str(mine / "new.png"))
    (mine / "year 0" / "0.png").unlink()
    after, _ = bring(mine, test_share=0.3)
    assert {name: split for name, split in after.items() if name in before} == {
        name: split for name, split in before.items() if name in after
    }
    assert bring(mine, test_share=0.3, seed=1)[0] != after


def test_share_of_test_images() -> None:
    splits = [folder.split_of(f"{number}.jpg", 0.1, 1234) for number in range(20_000)]
    assert splits.count("test") == pytest.approx(2000, abs=4 * np.sqrt(1800))
    assert folder.split_of("a", 0.0, 0) == "train"
    assert folder.split_of("a", 1.0, 0) == "test"


def test_archive_of_one_folder_with_an_annotation_file(bring: Bring, mine: Path, tmp_path: Path) -> None:
    annotate(mine, ["year 0/0.png,10,10,30,10", "./year 1/1.png,10,10,30,10"], "file," + LANDMARKS)
    with zipfile.ZipFile(tmp_path / "mine.zip", "w") as package:
        for path in sorted(mine.rglob("*")):
            package.write(path, "holidays/" + path.relative_to(mine).as_posix())
        package.writestr("holidays/._year.png", b"resource fork")
    with pytest.raises(DataError, match=r"dataset.test_share = 0\.1 of 2 images leaves none to test"):
        bring(tmp_path / "mine.zip", seed=5)
    splits, summary = bring(tmp_path / "mine.zip", test_share=0.0)
    assert splits == {"year 0/0.png": "train", "./year 1/1.png": "train"}
    assert (summary["images"], summary["landmarks"]) == (20, ["left_eye", "right_eye"])


def test_column_split_replaces_the_random_split(bring: Bring, mine: Path) -> None:
    annotate(mine, ["year 0/0.png,test", "year 1/4.png,train"], "file,split")
    assert bring(mine, test_share=0.5)[1]["splits"] == {"train": 1, "test": 1}


def test_unusable_images_are_left_out_and_listed(bring: Bring, mine: Path, tmp_path: Path) -> None:
    (mine / "broken.jpg").write_bytes(b"no image")
    (mine / "unnamed.png").write_bytes((mine / "year 0" / "0.png").read_bytes())
    turned = Image.new("RGB", (40, 30), "white")
    exif = turned.getexif()
    exif[0x0112] = 6  # rotated clockwise by 90 degrees, the image has 30 x 40 pixels
    turned.save(str(mine / "turned.jpg"), exif=exif)
    annotate(
        mine,
        [
            "year 0/0.png,10,10,30,10,train",
            "turned.jpg,5,35,25,35,test",  # outside the image if it is not rotated
            "year 1/4.png,10,10,30,,train",
            "year 2/2.png,10,10,30,nan,train",
            "year 0/6.png,10,10,300,10,train",
            "broken.jpg,10,10,30,10,train",
            "nowhere.png,10,10,30,10,train",
        ],
        "file," + LANDMARKS + ",split",
    )
    bring(mine)
    align_crop.align_crop(settings(mine), tmp_path / "out", tmp_path / "crops")
    kept = {row["source"]: row for row in rows_of(tmp_path / "crops" / "landmarks.csv")}
    assert sorted(kept) == ["turned.jpg", "year 0/0.png"]
    # The crop is the central 30 x 30 of 30 x 40 pixels. x = 5 is a sixth of its width, y = 35 is its lower edge.
    assert float(kept["turned.jpg"]["left_eye_x"]) == pytest.approx(-2.0 / 3.0)
    assert float(kept["turned.jpg"]["left_eye_y"]) == pytest.approx(1.0)
    skipped = {row["source"]: row["reason"] for row in rows_of(tmp_path / "crops" / "skipped.csv")}
    assert skipped["broken.jpg"] == "not a JPEG, PNG, BMP, WebP or TIFF image"
    assert skipped["nowhere.png"] == "no such file"
    assert skipped["unnamed.png"] == "no annotation"
    assert skipped["year 0/6.png"] == "a landmark outside the image"
    assert skipped["year 1/4.png"] == skipped["year 2/2.png"] == "a landmark without coordinates"


@pytest.mark.parametrize(
    ("header", "lines", "message"),
    [
        (
            "file," + LANDMARKS,
            ["year 0/0.png,1,1,2,2", "year 0//0.png,1,1,2,2"],
            "'year 0//0.png' has more than one row",
        ),
        ("image," + LANDMARKS, ["year 0/0.png,1,1,2,2"], "no column `file`"),
        ("file,left_eye_x", ["year 0/0.png,1"], "has no column 'left_eye_y' beside it"),
        ("file," + LANDMARKS, ["year 0/0.png,1,1,2"], "row 2: 4 cells, but the header has 5"),
        ("file,split", ["year 0/0.png,val"], "has split 'val'; write `train` or `test`"),
        ("file,split", ["x.png,train", "y.png,test"], "none of the files it names is below"),
        ("file", ["../x.png"], "does not name an image below"),
        ("file", [], "no rows below the header"),
    ],
)
def test_invalid_annotation_files(bring: Bring, mine: Path, header: str, lines: List[str], message: str) -> None:
    annotate(mine, lines, header)
    with pytest.raises(DataError, match=message):
        bring(mine)


def test_empty_folder_and_missing_annotation_file(bring: Bring, mine: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"no images \(\.jpg .*\) in it"):
        bring(tmp_path / "empty")
    with pytest.raises(DataError, match="no annotation file 'points.csv'"):
        bring(mine, annotations="points.csv")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"archive": ""}, "must say where the data set 'folder' is; for example dataset.archive=my/images"),
        ({"images": "year 0"}, "'folder' uses all images in all folders"),
        ({"part": "train"}, "only known data sets have parts"),
    ],
)
def test_invalid_configurations_are_refused(values: Dict[str, str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        registry.check(settings(**dict({"archive": "mine"}, **values)))
