"""`Sweep` through the real `luigi` program, on a tiny configuration."""

import csv
import shutil
import subprocess
from pathlib import Path
from typing import Tuple

import luigi as luigi_module
import pytest

from tasks.stages.sweep import Sweep, keys_of_unfinished_sweeps
from tests.pipeline.program import TINY, luigi

pytestmark = pytest.mark.slow


def run_sweep(folder: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run `luigi --module pipeline Sweep …` on the tiny experiment."""
    (folder / "tiny.toml").write_text(TINY)
    return luigi(folder, "Sweep", "--config", "tiny.toml", *arguments)


def count_outputs(folder: Path, stage: str) -> int:
    return sum(path.is_dir() for path in (folder / "workspace" / "artifacts" / stage).iterdir())


def test_runs_share_equal_stages_and_are_compared_in_one_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = ("--grid", "evaluate.samples=[2,3]", "--seeds", "2")
    done = run_sweep(tmp_path, *settings)
    assert done.returncode == 0, done.stderr
    stages = ("Download", "AlignCrop", "ConvertTFRecord", "Train", "Export", "Evaluate")
    assert [count_outputs(tmp_path, stage) for stage in stages] == [1, 1, 1, 2, 2, 4]
    (folder,) = (tmp_path / "workspace" / "tiny").glob("sweep-*")  # the list of runs was removed
    assert {"sweep.csv", "sweep.html", "sweep.png", "manifest.json"} <= {path.name for path in folder.iterdir()}
    with open(str(folder / "sweep.csv"), newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [(row["evaluate.samples"], row["seeds"]) for row in rows] == [("2", "2"), ("3", "2")]
    assert rows[0]["nme"] == rows[1]["nme"]  # the same two detectors
    assert float(rows[0]["nme_sd"]) > 0.0
    assert str(folder / "sweep.html") in done.stdout
    assert "mean_shape_nme" in done.stdout
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    again = run_sweep(tmp_path, *settings)
    assert again.returncode == 0, again.stderr
    assert "started" not in again.stderr
    assert str(folder / "sweep.html") in again.stdout
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before
    # An evaluation that is rebuilt with the same content changes nothing.
    shutil.rmtree(
        str(next(path for path in (tmp_path / "workspace" / "artifacts" / "Evaluate").iterdir() if path.is_dir()))
    )
    repaired = run_sweep(tmp_path, *settings)
    assert repaired.returncode == 0, repaired.stderr
    assert "Evaluate: started" in repaired.stderr
    assert [path.name for path in folder.parent.glob("sweep-*")] == [folder.name]
    # Clean keeps the outputs of an unfinished sweep.
    monkeypatch.chdir(tmp_path)
    assert keys_of_unfinished_sweeps(tmp_path / "workspace") == []
    unfinished = Sweep(config="tiny.toml", grid="evaluate.samples=[2,3]", seeds=2)
    unfinished.trigger_event(luigi_module.Event.DEPENDENCY_DISCOVERED, unfinished, unfinished)
    made = {path.name for stage in stages for path in (tmp_path / "workspace" / "artifacts" / stage).iterdir()}
    assert {name for name in made if "." not in name} <= {*keys_of_unfinished_sweeps(tmp_path / "workspace")}
    (tmp_path / "tiny.toml").unlink()
    assert keys_of_unfinished_sweeps(tmp_path / "workspace") == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--grid", "loss.diversity_weigth=[1,2]"), "did you mean loss.diversity_weight"),
        (("--grid", "network.landmarks=3"), "network.landmarks must be a list of values to try"),
        (("--seeds", "0"), "--seeds must be at least 1"),
    ],
)
def test_an_invalid_grid_is_refused_before_anything_is_scheduled(
    tmp_path: Path, arguments: Tuple[str, ...], message: str
) -> None:
    failed = run_sweep(tmp_path, *arguments)
    assert failed.returncode == 45, failed.stderr
    assert message in failed.stderr
    assert "Traceback" not in failed.stderr
    assert not (tmp_path / "workspace").exists()
