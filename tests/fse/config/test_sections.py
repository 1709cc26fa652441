import pytest

from fse import config
from fse.errors import ConfigError


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ("train.steps=1.5", r"train.steps must be an integer \(number of training steps.*\), got 1.5"),
        ("train.steps=true", "train.steps must be an integer"),
        ('train.learning_rate="fast"', "train.learning_rate must be a number"),
        ("train.learning_rate=nan", "not a number"),
        ("train.batch_size=0", "train.batch_size must be between 1 and 65536 .*, got 0"),
        (
            "crop.mode=centers",
            "crop.mode must be one of center, squash, box, landmarks, got 'centers'; did you mean center",
        ),
        ("crop.shift=['left', 0]", "a list of numbers"),
        ("crop.shift=[nan, 0]", "not a number"),
        ("crop.shift=[2, 0]", r"crop.shift must be between -1.0 and 1.0 .*, got \[2.0, 0.0\]"),
        ("evaluate.eyes=[1, 2]", "a list of strings"),
        ("evaluate.shots=3", "a list of integers"),
    ],
)
def test_values_of_a_wrong_type_or_range_are_refused(overrides: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        config.load("synthetic", overrides)


def test_integers_are_accepted_as_numbers() -> None:
    settings = config.load("synthetic", "train.learning_rate=1,crop.shift=[1, 0]")
    assert (settings.train.learning_rate, settings.crop.shift) == (1.0, (1.0, 0.0))
    assert [type(value) for value in (settings.train.learning_rate, *settings.crop.shift)] == [float] * 3
