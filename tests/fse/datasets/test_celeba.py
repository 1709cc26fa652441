"""CelebA and MAFL, aligned and in the wild."""

from typing import List

import numpy as np
import pytest

from fse.datasets import celeba, registry
from fse.datasets.spec import LocalFiles
from fse.errors import FseError
from tests.fse.datasets import layouts
from tests.fse.datasets.conftest import KnownDatasets

# Number of images in CelebA's training, validation and test partition, and the number of MAFL images in each.
PARTITION, MAFL_TRAIN, MAFL_TEST = (162_770, 19_867, 19_962), (15_461, 1_810, 1_729), (808, 96, 96)


@pytest.mark.parametrize(
    ("part", "expected"),
    [
        ("", [1, 3, 4, 5, 6, 7, 8]),
        ("train", [1, 3, 4, 5, 6, 7, 8]),
        ("train_without_mafl", [1, 4, 5, 6, 7, 8]),
        ("all", [1, 3, 4, 5, 6, 7, 8, 10, 11, 12]),
        ("everything", list(range(1, 13))),
    ],
)
def test_parts_of_celeba(known: KnownDatasets, part: str, expected: List[int]) -> None:
    points = layouts.celeba(known.data)
    rows, summary = known.bring("celeba", part, {"train": len(expected), "test": 0})
    assert list(rows) == [f"{number:06d}.jpg" for number in expected]
    for row, number in zip(rows.values(), expected):
        assert row["split"] == "train"
        # The file counts pixels from 0; the center of the first pixel is 0.5.
        assert layouts.points_of(row).tolist() == (points[number - 1] + 0.5).ravel().tolist()
    assert summary["part"] == (part or "train")
    assert summary["splits"] == {"train": len(expected), "test": 0}
    assert "non-commercial" in summary["terms"]


def test_splits_of_mafl(known: KnownDatasets) -> None:
    layouts.celeba(known.data)
    rows, _ = known.bring("mafl", "", {"train": 3, "test": 2})
    assert {name: row["split"] for name, row in rows.items()} == {
        "000010.jpg": "train",
        "000003.jpg": "train",
        "000012.jpg": "train",
        "000009.jpg": "test",
        "000002.jpg": "test",
    }


def test_celeba_in_the_wild_from_the_unpacked_folder(known: KnownDatasets) -> None:
    layouts.celeba(known.data)
    rows, summary = known.bring("celeba_wild", "train", {"train": 7, "test": 0})
    assert layouts.box_of(rows["000003.jpg"]) == [2, 71, 226, 313]
    assert summary["boxes_from_annotations"] is True


def test_celeba_in_the_wild_ignores_the_7z_archive_beside_the_folder(known: KnownDatasets) -> None:
    layouts.celeba(known.data)
    for number in (1, 2):
        (known.data / f"img_celeba.7z.00{number}").write_bytes(b"7z\xbc\xaf\x27\x1c and more")
    assert len(known.bring("celeba_wild", "train", {"train": 7, "test": 0})[0]) == 7


def test_mafl_in_the_wild(known: KnownDatasets) -> None:
    layouts.celeba(known.data)
    assert len(known.bring("mafl_wild", "", {"train": 3, "test": 2})[0]) == 5


@pytest.fixture(scope="module")
def full_lists(tmp_path_factory: pytest.TempPathFactory) -> LocalFiles:
    """Write CelebA's and MAFL's lists with the length and the overlaps of the real lists."""
    folder = tmp_path_factory.mktemp("lists")
    names = [f"{number:06d}.jpg" for number in range(1, 202_600)]
    lines = [f"{name} {part}\r\n" for name, part in zip(names, np.repeat([0, 1, 2], PARTITION))]
    (folder / "list_eval_partition.txt").write_bytes("".join(lines).encode())
    train: List[str] = []
    test: List[str] = []
    first = 0
    for count, train_count, test_count in zip(PARTITION, MAFL_TRAIN, MAFL_TEST):
        train += names[first : first + train_count]
        test += names[first + train_count : first + train_count + test_count]
        first += count
    random = np.random.RandomState(0)
    for name, chosen in (("training.txt", train), ("testing.txt", test)):
        random.shuffle(chosen)
        (folder / name).write_text("\n".join(chosen))
    lists = {path.name: path for path in folder.iterdir()}
    for file in (celeba.PARTITION, celeba.MAFL_TRAIN, celeba.MAFL_TEST):
        assert lists[file.name].stat().st_size == file.size
    return LocalFiles({}, [], lists)


@pytest.mark.parametrize("part", sorted(celeba.PARTS))
def test_parts_of_the_full_lists_have_the_published_numbers(full_lists: LocalFiles, part: str) -> None:
    names = set(celeba.training_names(full_lists, part))
    assert {"train": len(names), "test": 0} == celeba.PARTS[part]
    train, test = (set(celeba.read_names(full_lists.lists[name])) for name in ("training.txt", "testing.txt"))
    assert {"train": len(train), "test": len(test)} == registry.KNOWN["mafl"].parts[""]
    assert not train & test
    expected = {"train": (15_461, 0), "train_without_mafl": (0, 0), "all": (19_000, 0), "everything": (19_000, 1_000)}
    assert (len(names & train), len(names & test)) == expected[part]


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
def test_errors_name_the_broken_file(known: KnownDatasets, name: str, file: str, data: bytes) -> None:
    layouts.celeba(known.data)
    (known.data / file).write_bytes(data)
    with pytest.raises(FseError, match=r"|".join((file.split(".")[0], "landmarks of 1 images"))):
        known.bring(name)
