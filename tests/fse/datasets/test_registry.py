"""The registry of known data sets: published numbers, cards, and checks of a configuration."""

import sys
from pathlib import Path

import pytest

from fse import config
from fse.datasets import celeba, registry, w300
from fse.datasets.spec import random_splits
from fse.errors import ConfigError

# Sizes and hashes of the real files: published by torchvision, datasets-mila, TensorFlow Datasets and DVE, or measured.
PUBLISHED = {
    "img_align_celeba.zip": (1_443_490_838, "46fb89443c578308acf364d7d379fe1b9efb793042c0af734b6112e4fd3a8c74"),
    "list_landmarks_align_celeba.txt": (12_156_055, "6c02a87569907f6db2ba99019085697596730e8129f67a3d61659f198c48d43b"),
    "list_landmarks_celeba.txt": (12_352_635, "063ee6ddb681f96bc9ca28c6febb9d1a"),
    "list_bbox_celeba.txt": (6_082_035, "00566efa6fedff7a56946cd1c10f1c16"),
    "img_celeba.7z.001": (13 * 734_003_200 + 649_030_866, ""),  # 14 volumes
    "list_eval_partition.txt": (2_836_386, "fc955bcb3ef8fbdf7d5640d9a8693a8431b5f2ee291a5c1449a1549e7e073fe7"),
    "training.txt": (208_999, "435e0488efcb97dee718118b74b4110d42d9524289238f51692b1d60883ccba6"),
    "testing.txt": (10_999, "0a93fa3202133333045ce4cef5043a2cb1f4b8858b8e96f3ae7f54becfa07f9e"),
    "aflw-mtfl.tar.gz": (0, "1ff31c07cef4f2777b416d896a65f6c17d8ae2ee"),
}


def test_published_numbers_of_images() -> None:
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
    splits = random_splits([str(number) for number in range(50_025)], 0.05, 1234)
    assert splits.count("test") == counts["shoes"][""]["test"]
    assert (celeba.IMAGES.size, celeba.MAFL_TEST.size) == (1_443_490_838, 10_999)
    assert w300.DATASET.eyes == ("point_37", "point_46")  # 36 and 45 if counted from 0


def test_published_sizes_and_hashes() -> None:
    files = {file.name: (file.size, file.hash) for known in registry.KNOWN.values() for file in known.files}
    assert {name: files[name] for name in PUBLISHED} == PUBLISHED
    assert not {name for name, (size, digest) in files.items() if (size or digest) and name not in PUBLISHED}


@pytest.mark.parametrize("name", sorted(registry.KNOWN))
def test_every_data_set_has_a_card(name: str) -> None:
    known = registry.KNOWN[name]
    card = sys.modules[known.read.__module__].__doc__ or ""
    for heading in ("Source:", "Terms:", "Images:", "Landmarks:"):
        assert "\n" + heading in card, heading
    assert "pixels" in card or "of many sizes" in card
    assert "Errors are divided by" in card or not known.landmarks
    assert known.terms
    assert known.homepage.startswith("http")
    assert len(known.eyes) == (2 if known.landmarks else 0)
    assert set(known.eyes) <= set(known.landmarks)
    for part, counts in known.parts.items():
        assert not counts or set(counts) == {"train", "test"}, part
    documentation = Path(__file__).resolve().parents[3] / "docs" / "datasets.md"
    assert f"`{name}`" in documentation.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ("dataset.name=celebA", "dataset.archive must say where .*did you mean celeba"),
        ("dataset.name=celeba,dataset.archive=a.zip", "'celeba' is a known data set"),
        ("dataset.name=celeba,dataset.part=tset", "not a part of celeba; there are: train, train_without_mafl"),
        ("dataset.name=mine,dataset.archive=a.zip,dataset.part=x", "only known data sets have parts"),
        ('dataset.name="300w"', "errors are divided by the distance between point_37 and point_46"),
    ],
)
def test_invalid_configurations_are_refused(overrides: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        registry.check(config.load("synthetic", overrides))
