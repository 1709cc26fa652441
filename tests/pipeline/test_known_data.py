"""Known data sets through the real program."""

import json
from pathlib import Path

from tests.fse.datasets import layouts
from tests.pipeline.program import luigi


def test_what_has_to_be_fetched_by_hand_is_told(tmp_path: Path) -> None:
    done = luigi(tmp_path, "Download", "--config", "300w", "--set", "download.data_path={}".format(tmp_path))
    assert done.returncode == 20, done.stderr
    assert "helen.zip: fetch it from https://ibug" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_mistake_ends_the_program_before_anything_runs(tmp_path: Path) -> None:
    done = luigi(tmp_path, "Download", "--set", "dataset.name=celebA")
    assert done.returncode == 45
    assert "did you mean celeba?" in done.stderr


def test_cats_from_their_archives_to_records(tmp_path: Path) -> None:
    layouts.cats(tmp_path)
    overrides = "download.data_path={},crop.max_skipped=0.2".format(tmp_path)
    done = luigi(tmp_path, "ConvertTFRecord", "--config", "cats", "--set", overrides)
    assert done.returncode == 0, done.stderr
    stages = tmp_path / "workspace" / "cats" / "stages"
    assert json.loads((stages / "AlignCrop" / "crop.json").read_text())["reads_test_annotations"] is True
    assert json.loads((stages / "ConvertTFRecord" / "records.json").read_text())["pictures"] == {"train": 7, "test": 1}
    assert "terms" in json.loads((stages / "Download" / "dataset.json").read_text())
