import dataclasses
from pathlib import Path

import pytest

from fse import config
from fse.errors import ConfigError


def test_queries_are_hidden_from_others() -> None:
    text = "a=1,dataset.archive='https://h/x.zip?token=1&b=2#c',download.mirrors=[\"http://h/?k=1\", 'HTTP://i/d'],b=2"
    wanted = "a=1,dataset.archive='https://h/x.zip?…',download.mirrors=[\"http://h/?…\", 'HTTP://i/d'],b=2"
    assert config.redact_text(text) == wanted
    for overrides in (text + ",broken", text + ",dataset.sha256='x'", text + ",c.d=[1"):
        with pytest.raises(ConfigError) as caught:
            config.load("synthetic", overrides)
        assert "token" not in str(caught.value)


def test_the_defaults_are_the_replaced_codes_hyper_parameters() -> None:
    settings = config.Config()
    train, loss, network = settings.train, settings.loss, settings.network
    assert (network.landmarks, loss.diversity_window, train.batch_size) == (8, 4, 32)
    assert (loss.diversity_weight, loss.align_weight, loss.weight_decay) == (500.0, 1.0, 5e-4)
    assert (train.learning_rate, train.beta1, train.seed, train.epochs) == (1e-4, 0.5, 1234, 200)
    assert (settings.crop.size, network.view, train.summary_freq, train.save_freq) == (146, 146, 20, 500)


@pytest.mark.parametrize("name", sorted(config.shipped()))
def test_shipped_configurations_can_be_loaded(name: str) -> None:
    assert config.load(name).experiment.name == name


def test_overrides_take_toml_values_lists_and_bare_words() -> None:
    tables = config.parse_overrides("train.steps=10, crop.mode=box,evaluate.eyes=[\"a,b\", 'c'],augment.flip=false")
    assert tables == {
        "train": {"steps": 10},
        "crop": {"mode": "box"},
        "evaluate": {"eyes": ["a,b", "c"]},
        "augment": {"flip": False},
    }
    settings = config.load("synthetic", "train.learning_rate=3e-4,train.steps=7")
    assert (settings.train.learning_rate, settings.train.steps) == (3e-4, 7)


def test_quotes_within_quotes_end_nothing() -> None:
    text = 'npu.profiling_options="{\\"output\\": \\"a,b\\"}",dataset.archive=\'c\\\',train.steps=2'
    assert config.parse_overrides(text) == {
        "npu": {"profiling_options": '{"output": "a,b"}'},
        "dataset": {"archive": "c\\"},
        "train": {"steps": 2},
    }


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ("train.learning_rat=1", "did you mean train.learning_rate"),
        ("train.diversity_weight=1.0", "did you mean loss.diversity_weight"),
        ("trian.steps=1", r"unknown section \[trian\]; did you mean train"),
        ("train.steps=1.5", "train.steps wants a whole number"),
        ("train.steps=true", "train.steps wants a whole number"),
        ('train.learning_rate="fast"', "train.learning_rate wants a number"),
        ("train.learning_rate=nan", "not a number"),
        ("train.batch_size=0", "between 1 and"),
        ("crop.mode=center", "did you mean center"),
        ("network.view=200", "cannot exceed crop.size"),
        ("network.view=79", "must be even"),
        ('experiment.name="../elsewhere"', "experiment.name"),
        ('dataset.images="../elsewhere"', "inside the archive"),
        ('dataset.sha256="12"', "64 hexadecimal"),
        ("dataset.name=mine,dataset.archive='https://me:secret@host/a.zip'", r"~/.netrc and write https://host/a\.zip"),
        ("download.mirrors=['ftp://host/']", "http"),
        ("dataset.archive='http://[x'", "dataset.archive is no valid address"),
        ("crop.margins=[1,2]", "crop.margins wants 4 numbers"),
        ("crop.shift=[0.5]", "crop.shift wants 2 numbers"),
        ("crop.shift=['left', 0]", "a list of numbers"),
        ("crop.shift=[nan, 0]", "not a number"),
        ("crop.margins=[1,1,1,1],crop.mode=box", "crop.margins are for"),
        ("evaluate.eyes=[1, 2]", "list of strings"),
        ('evaluate.eyes=["nose"]', "two landmark names"),
        ("steps=1", "wanted section.key=value"),
        ("train.steps=[1", "not a TOML value"),
    ],
)
def test_what_cannot_be_meant_is_refused_with_a_hint(overrides: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        config.load("synthetic", overrides)


def test_a_missing_or_broken_file_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="nowhere.toml: no such file.*synthetic"):
        config.load("nowhere.toml")
    broken = tmp_path / "broken.toml"
    broken.write_text("[train\n")
    with pytest.raises(ConfigError, match="broken.toml: not valid TOML"):
        config.load(broken)


def test_a_relative_archive_is_relative_to_its_file_or_to_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "sub" / "mine.toml"
    file.parent.mkdir()
    file.write_text('[dataset]\nname = "mine"\narchive = "../a.zip"\n')
    assert config.load(file).dataset.archive == str(tmp_path.resolve() / "a.zip")
    monkeypatch.chdir(tmp_path)
    assert config.load(file, 'dataset.archive="b.zip"').dataset.archive == str(tmp_path.resolve() / "b.zip")
    address = "https://example.org/a.zip"
    assert config.load(file, f'dataset.archive="{address}"').dataset.archive == address


def test_a_configuration_survives_json(tmp_path: Path) -> None:
    settings = config.load("synthetic", "train.steps=7")
    assert config.from_tables(config.as_tables(settings)) == settings


def test_every_setting_says_what_it_is() -> None:
    for section in config.SECTIONS.values():
        for setting in dataclasses.fields(section):
            assert setting.metadata["help"], setting.name


MAFL = "evaluate.dataset=mafl"


def test_what_is_evaluated_on_is_what_is_trained_on_unless_it_is_said() -> None:
    for overrides in ("", "evaluate.dataset.name=synthetic", "evaluate.crop.size=80", MAFL + ",evaluate.dataset=''"):
        settings = config.load("synthetic", overrides)
        assert config.for_evaluation(settings) == settings
        assert not [name for name in config.as_tables(settings) if name.startswith("evaluate.")]


def test_evaluation_may_have_data_and_crops_of_its_own(tmp_path: Path) -> None:
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


def test_the_name_alone_says_what_is_evaluated_on() -> None:
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
        ("evaluate.crop.size=40", "cannot exceed evaluate.crop.size"),
        ("evaluate.crop.shift=[1.0]", "evaluate.crop.shift wants 2 numbers"),
        (MAFL + ",evaluate.dataset.sha256=ab", "evaluate.dataset.sha256 must be 64"),
        (MAFL + ",evaluate.dataset.archive='https://me:secret@host/a.zip'", "evaluate.dataset.archive must not hold"),
        ("train.crop.size=3", r"unknown section \[train.crop\]"),
    ],
)
def test_mistakes_in_what_is_evaluated_on(overrides: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        config.load("synthetic", overrides)


@pytest.mark.parametrize("mode", ["box", "landmarks"])
def test_crops_that_read_test_annotations_are_refused_unless_it_is_said(mode: str) -> None:
    by_annotations = "crop.mode=" + mode
    for overrides in (by_annotations, "evaluate." + by_annotations, by_annotations + "," + MAFL):
        with pytest.raises(ConfigError, match="reads_test_annotations = true, which the report repeats"):
            config.load("synthetic", overrides)
        section = "evaluate.crop" if overrides.startswith("evaluate") else "crop"
        config.load("synthetic", f"{overrides},{section}.reads_test_annotations=true")
    # Nobody's test images are cropped by annotations here.
    config.load("synthetic", f"{by_annotations},evaluate.crop.mode=center,{MAFL}")


def test_addresses_of_both_data_sets_are_shown_without_what_they_may_hide() -> None:
    query = "'https://host/a.zip?token=secret'"
    overrides = f"dataset.name=mine,dataset.archive={query},evaluate.dataset=other,evaluate.dataset.archive={query}"
    assert "secret" not in str(config.redact_config(config.load("synthetic", overrides)))
