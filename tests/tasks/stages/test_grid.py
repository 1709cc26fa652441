"""The grid of a sweep: parsing, validation and combinations."""

import pytest

from fse.config import load
from fse.errors import ConfigError
from tasks.stages.grid import combinations, parse_grid


def test_a_grid_keeps_the_order_and_the_types_of_its_values() -> None:
    axes = parse_grid('loss.diversity_weight=[50, 20.5],network.name=["paper","compact"], evaluate.eyes=[["a,b","c"]]')
    assert list(axes) == ["loss.diversity_weight", "network.name", "evaluate.eyes"]
    assert list(axes.values()) == [[50, 20.5], ["paper", "compact"], [["a,b", "c"]]]
    assert parse_grid("") == {}
    axes = parse_grid('evaluate.dataset=["mafl"],evaluate.crop.scale=[0.8,1.0],evaluate.crop.size=[100]')
    assert list(axes) == ["evaluate.dataset", "evaluate.crop.scale", "evaluate.crop.size"]


@pytest.mark.parametrize(
    ("grid", "message"),
    [
        ("network.landmarks=[10", "not of the form section.key=.*every setting once and strings in quotes"),
        ("network.landmarks=[10],network.landmarks=[20]", "every setting once"),
        ("network.name=[paper]", "strings in quotes"),
        ("network.landmarks", "not of the form section.key="),
        ("landmarks=[10,30]", "landmarks is not a setting; write section.key="),
        ("network.landmarks=10", r"network.landmarks must be a list of values to try, \[value,…\], got 10"),
        ("network.landmarks=[]", r"network.landmarks must be a list .* got \[\]"),
        ("network.landmarks.more=[1]", "network.landmarks must be a list"),
        ("network.landmarks=[10,20,10]", "network.landmarks has a value twice"),
        ("train.seed=[1,2]", "train.seed cannot be in the grid; use --seeds"),
    ],
)
def test_an_invalid_grid_is_refused(grid: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        combinations("synthetic", "", grid, 1)


@pytest.mark.parametrize(
    ("grid", "message"),
    [
        ("loss.diversity_weigth=[1]", "unknown key loss.diversity_weigth; did you mean loss.diversity_weight"),
        ("train.diversity_weight=[1]", "did you mean loss.diversity_weight"),
        ("los.diversity_weight=[1]", r"unknown section \[los\]; did you mean loss"),
        ("network.landmarks=[10,0]", "network.landmarks must be between 1 and 512"),
        ('network.landmarks=["ten"]', "network.landmarks must be an integer"),
        ("network.landmarks=[2020-01-01]", "network.landmarks must be an integer"),
        ("train.learning_rate=[nan]", "train.learning_rate"),
        ("network.view=[64,90]", "network.view .90. cannot exceed crop.size"),
    ],
)
def test_every_combination_is_checked_as_a_configuration(grid: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        combinations("synthetic", "", grid, 1)


def test_at_least_one_seed_is_needed() -> None:
    with pytest.raises(ConfigError, match="--seeds must be at least 1, got 0"):
        combinations("synthetic", "", "", 0)


def test_all_combinations_with_all_seeds() -> None:
    points = combinations("synthetic", "train.seed=7,", "loss.diversity_weight=[20,50],network.landmarks=[10,30]", 3)
    assert [tuple(point.values.values()) for point in points] == [(20, 10), (20, 30), (50, 10), (50, 30)]
    configs = [[load("synthetic", override) for override in point.overrides] for point in points]
    for point, runs in zip(points, configs):
        assert [run.train.seed for run in runs] == [7, 8, 9]
        for run in runs:
            assert run.loss.diversity_weight == point.values["loss.diversity_weight"]
            assert run.network.landmarks == point.values["network.landmarks"]


def test_a_grid_overrides_the_settings_of_set() -> None:
    (point,) = combinations("synthetic", "network.landmarks=5,train.steps=3", "network.landmarks=[6]", 1)
    run = load("synthetic", point.overrides[0])
    assert (run.network.landmarks, run.train.steps) == (6, 3)


def test_strings_of_a_grid_are_passed_on_unchanged() -> None:
    grid = 'evaluate.eyes=[["a, \\"b\\"", "Ö=[1],x"]],network.name=["compact"]'
    (point,) = combinations("synthetic", "", grid, 1)
    assert load("synthetic", point.overrides[0]).evaluate.eyes == ('a, "b"', "Ö=[1],x")
