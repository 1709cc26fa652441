import pytest

from fse import config
from fse.errors import ConfigError


def test_values_are_toml_lists_or_bare_words() -> None:
    tables = config.parse_overrides("train.steps=10, crop.mode=box,evaluate.eyes=[\"a,b\", 'c'],augment.flip=false")
    assert tables == {
        "train": {"steps": 10},
        "crop": {"mode": "box"},
        "evaluate": {"eyes": ["a,b", "c"]},
        "augment": {"flip": False},
    }
    settings = config.load("synthetic", "train.learning_rate=3e-4,train.steps=7")
    assert (settings.train.learning_rate, settings.train.steps) == (3e-4, 7)


def test_quotes_inside_quotes_do_not_end_a_string() -> None:
    text = 'npu.profiling_options="{\\"output\\": \\"a,b\\"}",dataset.archive=\'c\\\',train.steps=2'
    assert config.parse_overrides(text) == {
        "npu": {"profiling_options": '{"output": "a,b"}'},
        "dataset": {"archive": "c\\"},
        "train": {"steps": 2},
    }


@pytest.mark.parametrize(
    ("overrides", "message"),
    [("steps=1", "wanted section.key=value"), ("train.steps=[1", "not a TOML value")],
)
def test_malformed_overrides_are_refused(overrides: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        config.load("synthetic", overrides)


@pytest.mark.parametrize("mistake", ["broken", "dataset.sha256='x'", "c.d=[1"])
def test_errors_do_not_repeat_the_query_of_a_url(mistake: str) -> None:
    urls = "dataset.archive='https://h/x.zip?token=1&b=2#c',download.mirrors=[\"http://h/?k=1\", 'HTTP://i/d']"
    for overrides in (f"a=1,{urls},b=2,{mistake}", f"{urls},{mistake}"):
        with pytest.raises(ConfigError) as caught:
            config.load("synthetic", overrides)
        assert "token" not in str(caught.value)
