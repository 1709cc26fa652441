from pathlib import Path

import numpy as np
import pytest

from fse.datasets import cats
from fse.errors import DataError
from tests.fse.datasets import layouts
from tests.fse.datasets.conftest import KnownDatasets


def test_seven_of_nine_points_are_used(known: KnownDatasets) -> None:
    points = layouts.cats(known.data)
    rows, summary = known.bring("cats")
    assert len(rows) == 8
    assert summary["splits"] == {"train": 7, "test": 1}
    expected = points[2][[0, 1, 2, 3, 5, 6, 8]].ravel() + 0.5
    assert np.allclose(layouts.points_of(rows["CAT_00/00000002_000.jpg"]), expected)


@pytest.mark.parametrize("text", ["", "9", "8 1 2", "9 " + "1 " * 17 + "x", "9 " + "1 " * 19, "nan " * 19])
def test_broken_points(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.cat").write_text(text)
    with pytest.raises(DataError, match=r"a\.cat"):
        cats.read_points(tmp_path / "a.cat")
