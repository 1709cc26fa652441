import pytest

from fse import config
from fse.errors import ConfigError

MAFL = "evaluate.dataset=mafl"


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ("network.view=200", "cannot exceed crop.size"),
        ("network.view=79", "must be even"),
        ('experiment.name="../elsewhere"', "experiment.name"),
        ("experiment.name=artifacts", "experiment.name 'artifacts' is the folder of the stages' outputs"),
        ('dataset.images="../elsewhere"', "inside the archive"),
        ('dataset.sha256="12"', "64 hexadecimal"),
        ("dataset.name=mine,dataset.archive='https://me:secret@host/a.zip'", r"~/.netrc and write https://host/a\.zip"),
        ("download.mirrors=['ftp://host/']", "download.mirrors must be http"),
        ("dataset.archive='http://[x'", "dataset.archive is not a valid URL"),
        ("crop.margins=[1,2]", "crop.margins must be 4 numbers"),
        ("crop.shift=[0.5]", "crop.shift must be 2 numbers"),
        ("crop.margins=[1,1,1,1],crop.mode=box", "crop.margins are for"),
        ('evaluate.eyes=["nose"]', "two landmark names"),
        ("evaluate.crop.size=40", "cannot exceed evaluate.crop.size"),
        ("evaluate.crop.shift=[1.0]", "evaluate.crop.shift must be 2 numbers"),
        (MAFL + ",evaluate.dataset.sha256=ab", "evaluate.dataset.sha256 must be 64"),
        (MAFL + ",evaluate.dataset.archive='https://me:secret@host/a.zip'", "evaluate.dataset.archive must not hold"),
        ('train.hosts=["a"]', "train.hosts must be name:port with a port of at most 65000, got 'a'"),
        ('train.hosts=["a:1","a:1"]', "train.hosts lists a host twice: a:1, a:1"),
        ("train.rank_table=ranks.json", "train.rank_table is for train.device 'npu', not 'cpu'"),
        ("train.loss_scale=0.5", "train.loss_scale must be at least 1, or 0"),
    ],
)
def test_contradictions_and_malformed_values_are_refused(overrides: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        config.load("synthetic", overrides)


def test_all_problems_are_listed_at_once() -> None:
    with pytest.raises(ConfigError, match="must be 64 hexadecimal digits, got 'ab'; .*crop.shift must be 2 numbers"):
        config.load("synthetic", "dataset.sha256=ab,crop.shift=[0.5]")


@pytest.mark.parametrize("mode", ["box", "landmarks"])
def test_crops_of_test_images_by_annotations_need_permission(mode: str) -> None:
    by_annotations = "crop.mode=" + mode
    for overrides in (by_annotations, "evaluate." + by_annotations, by_annotations + "," + MAFL):
        with pytest.raises(ConfigError, match="reads_test_annotations = true, which the report repeats"):
            config.load("synthetic", overrides)
        section = "evaluate.crop" if overrides.startswith("evaluate") else "crop"
        config.load("synthetic", f"{overrides},{section}.reads_test_annotations=true")
    # Here annotations place the crops of training images only.
    config.load("synthetic", f"{by_annotations},evaluate.crop.mode=center,{MAFL}")
