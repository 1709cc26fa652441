"""The grid of a sweep, its tasks, and the comparison that it writes; `tests/pipeline/test_sweep.py` runs one."""

import csv
import html
import re
import warnings
from pathlib import Path

import pytest
from PIL import Image

from fse.config import load
from fse.errors import ConfigError
from fse.report import sweep

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # Luigi's, on being imported without a luigi.cfg
    from tasks.stages.pipeline import Download, Evaluate
    from tasks.stages.sweep import Sweep, combinations, parse_grid


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
        ("network.landmarks=[10", "wanted section.key=.*every setting once and strings in quotes"),
        ("network.landmarks=[10],network.landmarks=[20]", "every setting once"),
        ("network.name=[paper]", "strings in quotes"),
        ("network.landmarks", "wanted section.key="),
        ("landmarks=[10,30]", "landmarks is not a setting; wanted section.key="),
        ("network.landmarks=10", r"network.landmarks wants a list of values to try, \[value,…\], got 10"),
        ("network.landmarks=[]", r"network.landmarks wants a list .* got \[\]"),
        ("network.landmarks.more=[1]", "network.landmarks wants a list"),
        ("network.landmarks=[10,20,10]", "network.landmarks has a value twice"),
        ("train.seed=[1,2]", "train.seed is varied by --seeds"),
    ],
)
def test_a_grid_that_cannot_be_meant_is_refused(grid: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        combinations("synthetic", "", grid, 1)


@pytest.mark.parametrize(
    ("grid", "message"),
    [
        ("loss.diversity_weigth=[1]", "unknown key loss.diversity_weigth; did you mean loss.diversity_weight"),
        ("train.diversity_weight=[1]", "did you mean loss.diversity_weight"),
        ("los.diversity_weight=[1]", r"unknown section \[los\]; did you mean loss"),
        ("network.landmarks=[10,0]", "network.landmarks must be between 1 and 512"),
        ('network.landmarks=["ten"]', "network.landmarks wants a whole number"),
        ("network.landmarks=[2020-01-01]", "network.landmarks wants a whole number"),
        ("train.learning_rate=[nan]", "train.learning_rate"),
        ("network.view=[64,90]", "network.view .90. cannot exceed crop.size"),
    ],
)
def test_every_combination_is_checked_as_a_configuration(grid: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        combinations("synthetic", "", grid, 1)


def test_there_is_at_least_one_seed() -> None:
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


def test_a_grid_overrides_the_settings_given_beside_it() -> None:
    (point,) = combinations("synthetic", "network.landmarks=5,train.steps=3", "network.landmarks=[6]", 1)
    run = load("synthetic", point.overrides[0])
    assert (run.network.landmarks, run.train.steps) == (6, 3)


def test_strings_of_a_grid_arrive_as_they_are() -> None:
    grid = 'evaluate.eyes=[["a, \\"b\\"", "Ö=[1],x"]],network.name=["compact"]'
    (point,) = combinations("synthetic", "", grid, 1)
    assert load("synthetic", point.overrides[0]).evaluate.eyes == ('a, "b"', "Ö=[1],x")


def test_a_sweep_asks_for_one_evaluation_per_run_and_shares_what_is_equal(tmp_path: Path) -> None:
    task = Sweep(config="synthetic", grid="network.landmarks=[10,30]", seeds=2, workspace=str(tmp_path))
    required = task.requires()
    assert all(isinstance(one, Evaluate) for one in required)
    assert [one.experiment.network.landmarks for one in required] == [10, 10, 30, 30]
    assert {one.workspace for one in required} == {str(tmp_path)}
    assert len({one.clone(Download).output().folder for one in required}) == 1
    assert not task.complete()


def test_a_sweep_over_nothing_repeats_the_experiment_with_other_seeds() -> None:
    assert [one.experiment.train.seed for one in Sweep(config="synthetic", seeds=2).requires()] == [1234, 1235]


def test_a_mistake_is_an_error_of_the_configuration_at_once() -> None:
    with pytest.raises(ConfigError, match="did you mean network.landmarks"):
        Sweep(config="synthetic", grid="network.landmark=[10]")


def point(values: dict, *errors: float) -> sweep.Point:
    """A combination with one run per error; warped images have twice the error, a constant 20 and 40."""
    constant = {"mean_shape_nme": 20.0, "mean_shape_nme_warped": 40.0, "mean_shape_equivariance_error": 7.0}
    runs = [dict(constant, nme=error, nme_warped=2.0 * error, equivariance_error=3.0) for error in errors]
    return sweep.Point(values, runs)


def written(folder: Path, points: list) -> list:
    """The rows of the table."""
    sweep.sweep("faces", points, folder)
    assert sorted(path.name for path in folder.iterdir()) == ["sweep.csv", "sweep.html", "sweep.png"]
    with open(str(folder / "sweep.csv"), newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def test_the_table_has_mean_and_deviation_over_the_seeds_beside_the_mean_shape(tmp_path: Path) -> None:
    rows = written(tmp_path, [point({"network.landmarks": 10}, 9.0, 11.0), point({"network.landmarks": 30}, 8.0, 8.0)])
    first, second = rows
    assert (first["network.landmarks"], first["seeds"]) == ("10", "2")
    assert (first["nme"], first["nme_sd"], first["mean_shape_nme"]) == ("10.000000", "1.414214", "20.000000")
    assert (first["nme_warped"], first["nme_warped_sd"]) == ("20.000000", "2.828427")
    assert (second["nme"], second["nme_sd"], second["equivariance_error_sd"]) == ("8.000000", "0.000000", "0.000000")


def test_the_page_shows_the_table_and_the_image_and_marks_the_best(tmp_path: Path) -> None:
    written(tmp_path, [point({"network.landmarks": 10}, 9.0, 11.0), point({"network.landmarks": 30}, 8.0, 8.0)])
    page = (tmp_path / "sweep.html").read_text(encoding="utf-8")
    text = re.sub(r"\s+", " ", html.unescape(re.sub(r"<style>.*?</style>|<[^>]+>", " ", page, flags=re.DOTALL)))
    assert "2 combinations of settings, 2 seeds each." in text
    assert "10 10.00 ± 1.41 20.00 20.00 ± 2.83 40.00 3.00 ± 0.00 7.00" in text
    assert 'best">8.00' in page
    assert 'best">10.00' not in page
    assert 'src="data:image/png;base64,' in page
    assert "://" not in page
    with Image.open(str(tmp_path / "sweep.png")) as image:
        assert image.size[0] > image.size[1]


def test_one_seed_has_no_deviation(tmp_path: Path) -> None:
    (row,) = written(tmp_path, [point({}, 9.0)])
    assert (row["seeds"], row["nme"], row["nme_sd"]) == ("1", "9.000000", "")
    assert "±" not in (tmp_path / "sweep.html").read_text(encoding="utf-8").split("<table>")[1]


def test_without_annotations_only_what_needs_none_is_compared(tmp_path: Path) -> None:
    runs = [{"nme": None, "nme_warped": None, "equivariance_error": 3.0}]
    (row,) = written(tmp_path, [sweep.Point({"network.landmarks": 10}, runs)])
    assert (row["nme"], row["mean_shape_nme"], row["equivariance_error"]) == ("", "", "3.000000")
    assert "Error, warped" not in (tmp_path / "sweep.html").read_text(encoding="utf-8")


def test_values_are_text_and_nothing_else(tmp_path: Path) -> None:
    hostile = '<b>$x^</b>, "$"\n' + "long" * 100
    points = [point({"dataset.archive": hostile, "train.learning_rate": rate}, 9.0) for rate in (1e-07, 0.001)]
    rows = written(tmp_path, points)
    assert [(row["dataset.archive"], row["train.learning_rate"]) for row in rows] == [
        (hostile, "1e-07"),
        (hostile, "0.001"),
    ]
    assert "<b>" not in (tmp_path / "sweep.html").read_text(encoding="utf-8")


def test_labels_are_as_short_as_they_are_clear() -> None:
    values = {"loss.diversity_weight": 20, "train.seed": 1, "evaluate.seed": 2}
    assert sweep.label(sweep.Point(values, [])) == "diversity_weight 20, train.seed 1, evaluate.seed 2"
