from tests.fse.datasets import layouts
from tests.fse.datasets.conftest import KnownDatasets


def test_there_are_no_landmarks(known: KnownDatasets) -> None:
    layouts.shoes(known.data)
    rows, summary = known.bring("shoes", "", {"train": 19, "test": 1})
    assert len(rows) == 20
    assert summary["landmarks"] == []
