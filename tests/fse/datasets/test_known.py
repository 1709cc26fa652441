"""The known data sets: their lists, splits and coordinates, on small copies of their real layout."""

import csv
import json
import shutil
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fse import config
from fse.datasets import aflw, cats, celeba, celeba_wild, download, registry, w300
from fse.datasets.spec import Given, shares
from fse.errors import ConfigError, DataError, DownloadError, FseError
from tests.fse.datasets import layouts

EYES = {name: list(known.eyes or ("left_eye", "right_eye")) for name, known in registry.KNOWN.items()}


def settings(name: Any, folder: Any, part: Any = "", **download: Any) -> Any:
    tables = {
        "dataset": {"name": name, "part": part},
        "download": dict({"data_path": str(folder)}, **download),
        "evaluate": {"eyes": EYES[name]},
    }
    return config.from_tables(tables)


@pytest.fixture
def bring(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Brings a data set of which small copies lie in `tmp_path / "data"`; returns rows by file, and the summary."""
    (tmp_path / "data").mkdir()

    def bringer(name: Any, part: Any = "", counts: Any = None, **download: Any) -> Any:
        known = registry.KNOWN[name]
        parts = dict.fromkeys(known.parts, counts or {})
        monkeypatch.setitem(registry.KNOWN, name, layouts.fitted(known, tmp_path / "data", parts))
        download.download(settings(name, tmp_path / "data", part, **download), tmp_path / "out", tmp_path / "cache")
        with open(str(tmp_path / "out" / "landmarks.csv"), newline="") as stream:
            rows = {row["file"]: row for row in csv.DictReader(stream)}
        images = {
            path.relative_to(tmp_path / "out" / "images").as_posix() for path in tmp_path.glob("out/images/**/*.*")
        }
        assert {name for name in images if not (tmp_path / "out" / "images" / name).is_dir()} == set(rows)
        assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["dataset.json", "images", "landmarks.csv"]
        return rows, json.loads((tmp_path / "out" / "dataset.json").read_text())

    return bringer


def points_of(row: Any) -> Any:
    return np.array([float(value) for name, value in row.items() if name.endswith(("_x", "_y")) and name[:4] != "box_"])


@pytest.mark.parametrize(
    ("part", "wanted"),
    [
        ("", [1, 3, 4, 5, 6, 7, 8]),
        ("train", [1, 3, 4, 5, 6, 7, 8]),
        ("train_without_mafl", [1, 4, 5, 6, 7, 8]),
        ("all", [1, 3, 4, 5, 6, 7, 8, 10, 11, 12]),
        ("everything", list(range(1, 13))),
    ],
)
def test_parts_of_celeba(bring: Any, tmp_path: Path, part: str, wanted: Any) -> None:
    points = layouts.celeba(tmp_path / "data")
    rows, summary = bring("celeba", part, {"train": len(wanted), "test": 0})
    assert list(rows) == [f"{number:06d}.jpg" for number in wanted]
    for row, number in zip(rows.values(), wanted):
        assert row["split"] == "train"
        assert points_of(row).tolist() == (points[number - 1] + 0.5).ravel().tolist()  # a pixel's center
    assert summary["part"] == (part or "train")
    assert summary["splits"] == {"train": len(wanted), "test": 0}
    assert "non-commercial" in summary["terms"]


def test_mafl(bring: Any, tmp_path: Path) -> None:
    layouts.celeba(tmp_path / "data")
    rows, _ = bring("mafl", "", {"train": 3, "test": 2})
    assert {name: row["split"] for name, row in rows.items()} == {
        "000010.jpg": "train",
        "000003.jpg": "train",
        "000012.jpg": "train",
        "000009.jpg": "test",
        "000002.jpg": "test",
    }


def test_celeba_in_the_wild_is_read_from_its_unpacked_folder(bring: Any, tmp_path: Path) -> None:
    layouts.celeba(tmp_path / "data")
    rows, summary = bring("celeba_wild", "train", {"train": 7, "test": 0})
    assert [float(rows["000003.jpg"]["box_" + name]) for name in ("x", "y", "width", "height")] == [2, 71, 226, 313]
    assert summary["boxes_from_annotations"] is True


@layouts.needs_libarchive
def test_celeba_in_the_wild_is_read_from_its_archive_in_parts(bring: Any, tmp_path: Path) -> None:
    layouts.celeba(tmp_path / "data")
    layouts.parts_of_img_celeba(tmp_path / "data")
    rows, _ = bring("celeba_wild", "train", {"train": 7, "test": 0})
    assert float(rows["000003.jpg"]["box_width"]) == 226


def test_parts_that_are_not_all_there(tmp_path: Path) -> None:
    assert celeba_wild.IMAGES.size == 10_191_072_466
    for number in (1, 2, 4):
        (tmp_path / f"img_celeba.7z.00{number}").write_bytes(b"1234567")
    with pytest.raises(DataError, match=r"img_celeba\.7z\.001: 14 bytes in 2 parts, wanted 10,191,072,466; fetch "):
        download.source.obtain(celeba_wild.IMAGES, config.Download(str(tmp_path)), tmp_path, "page", 0)
    (tmp_path / "img_celeba.7z.001").unlink()
    told = r"\Aimg_celeba\.7z\.001 and the parts after it \(or the folder 'img_celeba', unpacked\): fetch by hand from https"
    with pytest.raises(DataError, match=told):
        download.download(settings("celeba_wild", tmp_path), tmp_path / "out")


def test_mafl_in_the_wild(bring: Any, tmp_path: Path) -> None:
    layouts.celeba(tmp_path / "data")
    assert len(bring("mafl_wild", "", {"train": 3, "test": 2})[0]) == 5


def test_an_unpacked_folder_does_for_an_archive_at_any_depth(bring: Any, tmp_path: Path) -> None:
    data = tmp_path / "data"
    layouts.celeba(data)
    with zipfile.ZipFile(str(data / "img_align_celeba.zip")) as package:
        package.extractall(str(data / "celeba" / "Img"))
    (data / "img_align_celeba.zip").unlink()
    assert len(bring("celeba", "train", {"train": 7, "test": 0})[0]) == 7


def test_aflw(bring: Any, tmp_path: Path) -> None:
    points = layouts.aflw(tmp_path / "data")
    rows, _ = bring("aflw", "", {"train": 3, "test": 2})
    files = [f"aflw_cropped/crops/{number}.png" for number in range(3)]
    files += [f"MTFL/AFLW/000{number + 1}-photo9{number}.jpg" for number in range(2)]
    assert list(rows) == files
    assert [row["split"] for row in rows.values()] == ["train"] * 3 + ["test"] * 2
    for row, place in zip(rows.values(), points):
        assert np.allclose(points_of(row), (place - 0.5).ravel(), atol=6e-4)  # counted from 1


def test_300w(bring: Any, tmp_path: Path) -> None:
    points = layouts.w300(tmp_path / "data")
    rows, summary = bring("300w", "", {"train": 4, "test": 2})
    wanted = ["afw/1_1.jpg", "afw/2_1.jpg", "helen/trainset/3_1.jpg", "helen/trainset/4_1.jpg"]
    for number, name in enumerate([*wanted, "lfpw/testset/image_1.png", "ibug/image_2.jpg"]):
        row = rows[name]
        assert row["split"] == ("train" if number < 4 else "test")
        assert np.allclose(points_of(row), (points[number] - 0.5).ravel(), atol=6e-4)
        box = [float(row["box_" + key]) for key in ("x", "y", "width", "height")]
        low, high = points[number].min(0) - 0.5, points[number].max(0) - 0.5
        assert np.allclose(box, [*low, *(high - low)], atol=6e-4)
    assert len(rows) == 6
    assert summary["boxes_from_annotations"] is True


def test_cats_take_seven_of_nine_points(bring: Any, tmp_path: Path) -> None:
    points = layouts.cats(tmp_path / "data")
    rows, summary = bring("cats")
    assert len(rows) == 8
    assert summary["splits"] == {"train": 7, "test": 1}
    assert np.allclose(points_of(rows["CAT_00/00000002_000.jpg"]), points[2][[0, 1, 2, 3, 5, 6, 8]].ravel() + 0.5)


def test_shoes_have_no_landmarks(bring: Any, tmp_path: Path) -> None:
    layouts.shoes(tmp_path / "data")
    rows, summary = bring("shoes", "", {"train": 19, "test": 1})
    assert len(rows) == 20
    assert summary["landmarks"] == []


def test_the_published_numbers() -> None:
    counts = {name: dict(known.parts) for name, known in registry.KNOWN.items()}
    assert {part: count["train"] for part, count in counts["celeba"].items()} == {
        "train": 162_770 - 808,
        "train_without_mafl": 162_770 - 808 - 15_461,
        "all": 202_599 - 1_000,
        "everything": 202_599,
    }
    assert counts["mafl"][""] == {"train": 19_000, "test": 1_000}
    assert counts["aflw"][""] == {"train": 10_122, "test": 2_995}
    assert counts["300w"][""] == {"train": 3_148, "test": 689}
    assert sum(counts["shoes"][""].values()) == 50_025
    assert shares([str(number) for number in range(50_025)], 0.05, 1234).count("test") == counts["shoes"][""]["test"]
    assert (celeba.IMAGES.size, celeba.MAFL_TEST.size) == (1_443_490_838, 10_999)
    assert w300.DATASET.eyes == ("point_37", "point_46")  # 36 and 45 counted from 0


# Sizes and hashes of the real files, as torchvision, datasets-mila, TensorFlow Datasets and DVE publish them, or as they
# were counted in the files themselves.
PUBLISHED = {
    "img_align_celeba.zip": (1_443_490_838, "46fb89443c578308acf364d7d379fe1b9efb793042c0af734b6112e4fd3a8c74"),
    "list_landmarks_align_celeba.txt": (12_156_055, "6c02a87569907f6db2ba99019085697596730e8129f67a3d61659f198c48d43b"),
    "list_landmarks_celeba.txt": (12_352_635, "063ee6ddb681f96bc9ca28c6febb9d1a"),
    "list_bbox_celeba.txt": (6_082_035, "00566efa6fedff7a56946cd1c10f1c16"),
    "img_celeba.7z.001": (13 * 734_003_200 + 649_030_866, ""),  # of 14 parts
    "list_eval_partition.txt": (2_836_386, "fc955bcb3ef8fbdf7d5640d9a8693a8431b5f2ee291a5c1449a1549e7e073fe7"),
    "training.txt": (208_999, "435e0488efcb97dee718118b74b4110d42d9524289238f51692b1d60883ccba6"),
    "testing.txt": (10_999, "0a93fa3202133333045ce4cef5043a2cb1f4b8858b8e96f3ae7f54becfa07f9e"),
    "aflw-mtfl.tar.gz": (0, "1ff31c07cef4f2777b416d896a65f6c17d8ae2ee"),
}
# CelebA's partition, and how many of MAFL's images are in its training, validation and test part.
PARTITION, MAFL_TRAIN, MAFL_TEST = (162_770, 19_867, 19_962), (15_461, 1_810, 1_729), (808, 96, 96)


def test_sizes_and_hashes_are_those_of_the_real_files() -> None:
    files = {file.name: (file.size, file.hash) for known in registry.KNOWN.values() for file in known.files}
    assert {name: files[name] for name in PUBLISHED} == PUBLISHED
    assert not {name for name, (size, digest) in files.items() if (size or digest) and name not in PUBLISHED}


@pytest.fixture(scope="module")
def full_lists(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """CelebA's and MAFL's lists at full length, with the real ones' overlaps; each has the size of the real one."""
    folder = tmp_path_factory.mktemp("lists")
    names = [f"{number:06d}.jpg" for number in range(1, 202_600)]
    lines = [f"{name} {part}\r\n" for name, part in zip(names, np.repeat([0, 1, 2], PARTITION))]
    (folder / "list_eval_partition.txt").write_bytes("".join(lines).encode())
    train, test, first = [], [], 0
    for count, fitted, tested in zip(PARTITION, MAFL_TRAIN, MAFL_TEST):
        train += names[first : first + fitted]
        test += names[first + fitted : first + fitted + tested]
        first += count
    random = np.random.RandomState(0)
    for name, chosen in (("training.txt", train), ("testing.txt", test)):
        random.shuffle(chosen)
        (folder / name).write_text("\n".join(chosen))
    lists = {path.name: path for path in folder.iterdir()}
    assert {name: path.stat().st_size for name, path in lists.items()} == {name: PUBLISHED[name][0] for name in lists}
    return Given({}, [], lists)


@pytest.mark.parametrize("part", sorted(celeba.PARTS))
def test_parts_and_exclusions_at_full_length_have_the_published_numbers(full_lists: Any, part: Any) -> None:
    names = set(celeba.unlabeled(full_lists, part))
    assert {"train": len(names), "test": 0} == celeba.PARTS[part]
    train, test = (set(celeba.names_of(full_lists.lists[name])) for name in ("training.txt", "testing.txt"))
    assert {"train": len(train), "test": len(test)} == registry.KNOWN["mafl"].parts[""]
    assert not train & test
    wanted = {"train": (15_461, 0), "train_without_mafl": (0, 0), "all": (19_000, 0), "everything": (19_000, 1_000)}
    assert (len(names & train), len(names & test)) == wanted[part]


def test_300_w_at_full_length(monkeypatch: pytest.MonkeyPatch) -> None:
    counts = {
        "afw": 337,
        "lfpw/trainset": 811,
        "helen/trainset": 2000,
        "lfpw/testset": 224,
        "helen/testset": 330,
        "ibug": 135,
    }
    names = [f"{folder}/{number}.jpg" for folder, count in counts.items() for number in range(count)]
    monkeypatch.setattr(w300, "points_of", lambda _: np.zeros((68, 2)))
    found = w300.read(Given({name[:-4] + ".pts": None for name in names}, names, {}), "")
    assert {split: found.splits.count(split) for split in ("train", "test")} == w300.DATASET.parts[""]


def test_aflw_at_full_length(tmp_path: Path) -> None:
    header = "image_file,crop_file,set,face_id,ex1,ey1,ex2,ey2,nx,ny,mx1,my1,mx2,my2"
    rows = [
        "photo{0}.jpg,{0}.jpg,{1},{0}{2}".format(number, 1 + number // 10_122, ",9" * 10) for number in range(13_117)
    ]
    (tmp_path / "crops.csv").write_text("\n".join([header, *rows]))
    lines = ["AFLW\\{:04d}-photo{}.jpg{} 1 1 2 3".format(number, number, " 9" * 10) for number in range(10_122, 13_117)]
    (tmp_path / "testing.txt").write_text("\n".join(["lfw_5590\\a.jpg" + " 9" * 10, *lines]))
    notes = {"aflw_cropped/facedata_cropped.csv": tmp_path / "crops.csv", "MTFL/testing.txt": tmp_path / "testing.txt"}
    found = aflw.read(Given(notes, [], {}), "")
    assert {split: found.splits.count(split) for split in ("train", "test")} == aflw.DATASET.parts[""]


@pytest.mark.parametrize("name", sorted(registry.KNOWN))
def test_every_data_set_has_a_card(name: Any) -> None:
    known = registry.KNOWN[name]
    card = sys.modules[known.read.__module__].__doc__
    for heading in ("Source:", "Terms:", "Images:", "Landmarks:"):
        assert "\n" + heading in card, heading
    assert "pixels" in card or "of many sizes" in card
    assert "Errors are divided by" in card or not known.landmarks
    assert known.terms
    assert known.page.startswith("http")
    assert len(known.eyes) == (2 if known.landmarks else 0)
    assert set(known.eyes) <= set(known.landmarks)
    for part, counts in known.parts.items():
        assert not counts or set(counts) == {"train", "test"}, part
    with open(str(Path(__file__).resolve().parents[3] / "docs" / "datasets.md"), encoding="utf-8") as stream:
        assert f"`{name}`" in stream.read()


def test_a_set_that_is_not_whole_is_refused(bring: Any, tmp_path: Path) -> None:
    layouts.w300(tmp_path / "data")
    with pytest.raises(DataError, match=r"300w: .*'train': 4, 'test': 2.*wanted .*'train': 3148"):
        bring("300w", "", {"train": 3148, "test": 689})


def test_images_that_a_list_names_and_no_archive_has(bring: Any, tmp_path: Path) -> None:
    layouts.celeba(tmp_path / "data")
    layouts.zipped(tmp_path / "data" / "img_align_celeba.zip", {"img_align_celeba/000001.jpg": layouts.image(1)})
    with pytest.raises(DataError, match=r"6 of its images are missing: 000003\.jpg"):
        bring("celeba")


def test_photographs_of_aflw_in_both_splits_are_refused(bring: Any, tmp_path: Path) -> None:
    layouts.aflw(tmp_path / "data", train=91)
    with pytest.raises(DataError, match="1 photographs are in both splits: photo90.jpg"):
        bring("aflw")


def test_what_lies_there_is_checked_and_what_is_missing_is_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"afw\.zip .*, helen\.zip .*: fetch by hand from https://ibug.*put into .*\Z"):
        download.download(settings("300w", tmp_path), tmp_path / "out")
    name = celeba.LANDMARKS.name
    (tmp_path / "Anno").mkdir()
    (tmp_path / "Anno" / name).write_text("<!DOCTYPE html><title>Google Drive - Quota exceeded</title>")
    with pytest.raises(DataError, match=r"wanted 12,156,055; it is a web page, perhaps of a quota; fetch .* again"):
        download.download(settings("celeba", tmp_path), tmp_path / "out2")


def test_all_that_cannot_be_downloaded_is_told_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def refused(wanted: Any, cache: Any) -> None:
        asked.append(wanted.url)
        raise DownloadError(f"{wanted.url}: a quota")

    monkeypatch.setattr(download.source, "_download", refused)
    with pytest.raises(DownloadError) as caught:
        download.download(settings("celeba", tmp_path), tmp_path / "out")
    for file in celeba.DATASET.files:
        assert f"{file.name}, {file.addresses[0]}: a quota" in str(caught.value)
    told = (
        "Run again, or list_landmarks_align_celeba.txt, list_eval_partition.txt, training.txt ({}), testing.txt ({}), "
    )
    told += "img_align_celeba.zip (or the folder 'img_align_celeba', unpacked): fetch by hand from https://mmlab"
    assert told.format(celeba.MAFL_TRAIN.addresses[0], celeba.MAFL_TEST.addresses[0]) in str(caught.value)
    assert [url.split(":")[0] for url in asked] == ["drive", "drive", "https", "https", "drive"]


def test_a_file_of_the_right_size_with_another_content(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    layouts.celeba(tmp_path / "data")
    file = celeba.MAFL_TEST._replace(size=21, hash="0" * 64)
    with pytest.raises(DataError, match="its sha256 is .*, wanted 0000"):
        download.source.obtain(file, settings("mafl", tmp_path / "data").download, tmp_path, "page", 0)


BROKEN = [
    ("celeba", "list_landmarks_align_celeba.txt", b"202599\nheader\n000001.jpg 1 2 3\n"),
    ("celeba", "list_landmarks_align_celeba.txt", b"5\nheader\n000001.jpg 1 2 3 4 5 6 7 8 9 10\n"),
    ("celeba", "list_landmarks_align_celeba.txt", b"\xff\xfe\x00"),
    ("celeba", "list_eval_partition.txt", b"000001.jpg 7\n"),
    ("celeba", "testing.txt", b"000001.jpg 5\n"),
    ("mafl", "training.txt", b"000001.jpg\n000001.jpg"),
    ("mafl", "training.txt", b"000099.jpg"),
    ("celeba", "img_align_celeba.zip", b"<html>"),
]


@pytest.mark.parametrize(("name", "file", "data"), BROKEN)
def test_broken_files_are_told(bring: Any, tmp_path: Path, name: Any, file: Any, data: Any) -> None:
    layouts.celeba(tmp_path / "data")
    (tmp_path / "data" / file).write_bytes(data)
    with pytest.raises(FseError, match=r"|".join((file.split(".")[0], "landmarks of 1 images"))):
        bring(name)


@pytest.mark.parametrize("text", ["", "9", "8 1 2", "9 " + "1 " * 17 + "x", "9 " + "1 " * 19, "nan " * 19])
def test_broken_points_of_cats(tmp_path: Path, text: Any) -> None:
    (tmp_path / "a.cat").write_text(text)
    with pytest.raises(DataError, match=r"a\.cat"):
        cats.points_of(tmp_path / "a.cat")


@pytest.mark.parametrize("text", ["", "version: 1\nn_points: 68\n{\n1 2\n}", "version: 1\n{\n1 x\n}"])
def test_broken_points_of_300w(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.pts").write_text(text)
    with pytest.raises(DataError, match=r"a\.pts"):
        w300.points_of(tmp_path / "a.pts")


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ("dataset.name=celebA", "dataset.archive must say where .*did you mean celeba"),
        ("dataset.name=celeba,dataset.archive=a.zip", "'celeba' is a known data set"),
        ("dataset.name=celeba,dataset.part=tset", "no part of celeba; there are: train, train_without_mafl"),
        ("dataset.name=mine,dataset.archive=a.zip,dataset.part=x", "only known data sets have parts"),
        ('dataset.name="300w"', "errors on it are relative to point_37 and point_46"),
    ],
)
def test_what_cannot_be_meant_is_refused_before_anything_runs(overrides: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        registry.check(config.load("synthetic", overrides))


def test_nothing_is_left_of_a_copy_that_was_unpacked_before(bring: Any, tmp_path: Path) -> None:
    layouts.celeba(tmp_path / "data")
    first, _ = bring("celeba")
    shutil.rmtree(str(tmp_path / "out"))
    assert bring("celeba")[0] == first
