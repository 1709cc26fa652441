import dataclasses
from pathlib import Path

import pytest

from fse import config
from fse.errors import ConfigError


@pytest.mark.parametrize("name", sorted(config.shipped_configs()))
def test_shipped_configurations_can_be_loaded(name: str) -> None:
    assert config.load(name).experiment.name == name


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ("train.learning_rat=1", "unknown key train.learning_rat; did you mean train.learning_rate"),
        ("train.diversity_weight=1.0", "did you mean loss.diversity_weight"),
        ("trian.steps=1", r"unknown section \[trian\]; did you mean train"),
        ("train.crop.size=3", r"unknown section \[train.crop\]"),
    ],
)
def test_unknown_names_are_refused_with_a_suggestion(overrides: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        config.load("synthetic", overrides)


def test_a_missing_or_broken_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="nowhere.toml: no such file.*synthetic"):
        config.load("nowhere.toml")
    broken = tmp_path / "broken.toml"
    broken.write_text("[train\n")
    with pytest.raises(ConfigError, match="broken.toml: not valid TOML"):
        config.load(broken)


def test_relative_paths_belong_to_the_file_or_to_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "sub" / "mine.toml"
    file.parent.mkdir()
    file.write_text('[dataset]\nname = "mine"\narchive = "../a.zip"\n')
    assert config.load(file).dataset.archive == str(tmp_path.resolve() / "a.zip")
    monkeypatch.chdir(tmp_path)
    assert config.load(file, 'dataset.archive="b.zip"').dataset.archive == str(tmp_path.resolve() / "b.zip")
    url = "https://example.org/a.zip"
    assert config.load(file, f'dataset.archive="{url}"').dataset.archive == url


MAFL = "evaluate.dataset=mafl"


def test_evaluation_uses_the_data_of_training_by_default() -> None:
    for overrides in ("", "evaluate.dataset.name=synthetic", "evaluate.crop.size=80", MAFL + ",evaluate.dataset=''"):
        settings = config.load("synthetic", overrides)
        assert config.for_evaluation(settings) == settings
        assert not [name for name in config.as_tables(settings) if name.startswith("evaluate.")]


def test_evaluation_may_have_its_own_data_and_crops(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text(
        """
        [dataset]
        name = "celeba"
        part = "all"
        [crop]
        mode = "squash"
        size = 100
        [network]
        view = 80
        [evaluate]
        samples = 3
        [evaluate.dataset]
        name = "mine"
        archive = "mine.zip"
        [evaluate.crop]
        mode = "center"
        """
    )
    settings = config.load(tmp_path / "a.toml")
    evaluated = config.for_evaluation(settings)
    assert (settings.dataset.name, settings.crop.mode, settings.evaluate.samples) == ("celeba", "squash", 3)
    assert evaluated.dataset == config.Dataset(name="mine", archive=str(tmp_path / "mine.zip"))
    assert (evaluated.crop.mode, evaluated.crop.size) == ("center", 100)
    assert config.for_evaluation(evaluated) == evaluated
    assert config.from_tables(config.as_tables(settings)) == settings
    again = config.load(tmp_path / "a.toml", "evaluate.dataset.seed=3,evaluate.crop.size=90")
    assert again.evaluate_dataset == dataclasses.replace(evaluated.dataset, seed=3)
    assert again.evaluate_crop == dataclasses.replace(evaluated.crop, size=90)


def test_a_string_is_the_name_of_the_evaluation_data_set() -> None:
    for overrides in (MAFL, "evaluate.dataset.name=mafl"):
        assert config.load("synthetic", overrides).evaluate_dataset == config.Dataset(name="mafl")
    settings = config.load("synthetic", MAFL + ",evaluate.dataset.part=x")
    assert settings.evaluate_dataset == config.Dataset(name="mafl", part="x")


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ("evaluate.dataset.part=x", "evaluate.dataset.name is missing"),
        ("evaluate.dataset=5", "evaluate.dataset must be a section"),
        ("evaluate.crop=squash", "evaluate.crop must be a section"),
        ("evaluate.crop.sise=100", "unknown key evaluate.crop.sise; did you mean evaluate.crop.size"),
    ],
)
def test_invalid_sections_of_evaluation_are_refused(overrides: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        config.load("synthetic", overrides)
