"""The comparison that a sweep writes: table, chart and page."""

import csv
import html
import re
from pathlib import Path
from typing import Any, Dict, List

from PIL import Image

from fse.report import sweep


def combination(values: Dict[str, Any], *errors: float) -> sweep.CombinationResults:
    """Return a combination with one run per error: twice the error on warped images, 20 and 40 for the mean shape."""
    constant = {"mean_shape_nme": 20.0, "mean_shape_nme_warped": 40.0, "mean_shape_equivariance_error": 7.0}
    runs = [dict(constant, nme=error, nme_warped=2.0 * error, equivariance_error=3.0) for error in errors]
    return sweep.CombinationResults(values, runs)


def write(folder: Path, points: List[sweep.CombinationResults]) -> List[Dict[str, str]]:
    """Write the comparison and return the rows of its table."""
    sweep.write_comparison("faces", points, folder)
    assert sorted(path.name for path in folder.iterdir()) == ["sweep.csv", "sweep.html", "sweep.png"]
    with open(folder / "sweep.csv", newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def test_the_table_has_mean_and_deviation_over_the_seeds_and_the_mean_shape(tmp_path: Path) -> None:
    rows = write(
        tmp_path, [combination({"network.landmarks": 10}, 9.0, 11.0), combination({"network.landmarks": 30}, 8.0, 8.0)]
    )
    first, second = rows
    assert (first["network.landmarks"], first["seeds"]) == ("10", "2")
    assert (first["nme"], first["nme_sd"], first["mean_shape_nme"]) == ("10.000000", "1.414214", "20.000000")
    assert (first["nme_warped"], first["nme_warped_sd"]) == ("20.000000", "2.828427")
    assert (second["nme"], second["nme_sd"], second["equivariance_error_sd"]) == ("8.000000", "0.000000", "0.000000")


def test_the_page_shows_table_and_chart_and_marks_the_best(tmp_path: Path) -> None:
    write(
        tmp_path, [combination({"network.landmarks": 10}, 9.0, 11.0), combination({"network.landmarks": 30}, 8.0, 8.0)]
    )
    page = (tmp_path / "sweep.html").read_text(encoding="utf-8")
    text = re.sub(r"\s+", " ", html.unescape(re.sub(r"<style>.*?</style>|<[^>]+>", " ", page, flags=re.DOTALL)))
    assert "2 combinations of settings, 2 seeds each." in text
    assert "10 10.00 ± 1.41 20.00 20.00 ± 2.83 40.00 3.00 ± 0.00 7.00" in text
    assert 'best">8.00' in page
    assert 'best">10.00' not in page
    assert 'src="data:image/png;base64,' in page
    assert "://" not in page
    with Image.open(tmp_path / "sweep.png") as image:
        assert image.size[0] > image.size[1]


def test_one_seed_has_no_deviation(tmp_path: Path) -> None:
    (row,) = write(tmp_path, [combination({}, 9.0)])
    assert (row["seeds"], row["nme"], row["nme_sd"]) == ("1", "9.000000", "")
    assert "±" not in (tmp_path / "sweep.html").read_text(encoding="utf-8").split("<table>")[1]


def test_without_annotations_only_the_equivariance_error_is_compared(tmp_path: Path) -> None:
    runs = [{"nme": None, "nme_warped": None, "equivariance_error": 3.0}]
    (row,) = write(tmp_path, [sweep.CombinationResults({"network.landmarks": 10}, runs)])
    assert (row["nme"], row["mean_shape_nme"], row["equivariance_error"]) == ("", "", "3.000000")
    assert "Error, warped" not in (tmp_path / "sweep.html").read_text(encoding="utf-8")


def test_values_are_escaped(tmp_path: Path) -> None:
    hostile = '<b>$x^</b>, "$"\n' + "long" * 100
    points = [combination({"dataset.archive": hostile, "train.learning_rate": rate}, 9.0) for rate in (1e-07, 0.001)]
    rows = write(tmp_path, points)
    assert [(row["dataset.archive"], row["train.learning_rate"]) for row in rows] == [
        (hostile, "1e-07"),
        (hostile, "0.001"),
    ]
    assert "<b>" not in (tmp_path / "sweep.html").read_text(encoding="utf-8")


def test_labels_are_short_and_unique() -> None:
    values = {"loss.diversity_weight": 20, "train.seed": 1, "evaluate.seed": 2}
    assert (
        sweep.combination_label(sweep.CombinationResults(values, []))
        == "diversity_weight 20, train.seed 1, evaluate.seed 2"
    )
