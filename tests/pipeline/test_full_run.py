"""The real `luigi` program in child processes, on a tiny configuration: exit codes and files."""

import json
import resource
import shutil
from pathlib import Path

import pytest

from tests.pipeline.program import STAGES, luigi, started, tree

pytestmark = pytest.mark.slow


def test_a_full_run_leaves_metrics_report_and_one_artifact_per_stage(ran: Path) -> None:
    metrics = json.loads((ran / "workspace" / "tiny" / "metrics.json").read_text())
    assert metrics["steps"] == 6
    assert metrics["landmarks"] == 4
    assert (ran / "workspace" / "tiny" / "report.html").stat().st_size > 10_000
    folders = (path.name for path in (ran / "workspace" / "artifacts").iterdir() if path.is_dir())
    assert sorted(folders) == sorted(STAGES)
    for stage in STAGES:
        (artifact,) = [path for path in (ran / "workspace" / "artifacts" / stage).iterdir() if path.is_dir()]
        manifest = json.loads((artifact / "manifest.json").read_text())
        assert manifest["key"] == artifact.name
        assert all(value["key"] and value["content"] for value in manifest["inputs"].values())
        expected = "schema stage key config covers code inputs content files git packages host device started seconds"
        assert set((expected + " peak_megabytes counts metrics why").split()) <= set(manifest)
        assert manifest["covers"]["code"]
        assert (ran / "workspace" / "tiny" / "stages" / stage).resolve() == artifact
        if stage == "Train":
            assert manifest["counts"]["steps"] == 6
            assert manifest["metrics"]["loss_align"] > 0.0
            assert manifest["packages"]["tensorflow"] == manifest["covers"]["tensorflow"]


def test_a_complete_run_starts_no_stage_and_is_quick(ran: Path) -> None:
    luigi(ran, "FullRun", "--config", "tiny.toml")  # reads the copied files once, because their inodes are new
    before = tree(ran / "workspace")
    began = resource.getrusage(resource.RUSAGE_CHILDREN)
    again = luigi(ran, "FullRun", "--config", "tiny.toml")
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    # CPU time does not depend on what else runs; benchmarks/no_op_run.py measures wall-clock time on an idle machine.
    assert ended.ru_utime - began.ru_utime < 10
    assert again.returncode == 0
    assert "report.html" in again.stdout
    assert started(again) == []
    assert tree(ran / "workspace") == before


def test_a_changed_setting_reruns_its_stages_and_the_old_setting_finds_the_old_result(ran: Path) -> None:
    folder = ran / "workspace" / "tiny"
    old = (folder / "report.html").resolve()
    changed = luigi(ran, "FullRun", "--config", "tiny.toml", "--set", "evaluate.seed=7")
    assert changed.returncode == 0, changed.stderr
    assert started(changed) == ["Evaluate", "Report"]
    assert (folder / "report.html").resolve() != old
    back = luigi(ran, "FullRun", "--config", "tiny.toml")
    assert back.returncode == 0
    assert started(back) == []
    assert (folder / "report.html").resolve() == old


def test_a_lost_output_is_rebuilt(ran: Path) -> None:
    shutil.rmtree(str((ran / "workspace" / "tiny" / "metrics.json").resolve().parent))
    again = luigi(ran, "FullRun", "--config", "tiny.toml")
    assert again.returncode == 0, again.stderr
    assert started(again) == ["Evaluate"]
    assert (ran / "workspace" / "tiny" / "metrics.json").is_file()


def test_a_single_stage_can_be_run(ran: Path) -> None:
    done = luigi(ran, "ConvertTFRecord", "--config", "tiny.toml", "--workspace", "other")
    assert done.returncode == 0, done.stderr
    made = sorted(path.name for path in (ran / "other" / "artifacts").iterdir() if path.is_dir())
    assert made == ["AlignCrop", "ConvertTFRecord", "Download"]


@pytest.mark.parametrize(
    ("overrides", "code", "message"),
    [
        ("train.stepps=3", 45, "did you mean train.steps"),
        ("network.view=40", 45, "cannot exceed crop.size"),
        ('dataset.name="mine",dataset.archive="nowhere.zip"', 20, "nowhere.zip: no such file"),
        ("train.batch_size=64", 30, "only 24 training images"),
        ("network.view=18", 30, "multiple of 4"),
        ("train.device=npu", 55, "npu_bridge cannot be imported"),
    ],
)
def test_an_error_has_a_message_without_traceback_and_an_exit_code(
    ran: Path, overrides: str, code: int, message: str
) -> None:
    failed = luigi(ran, "FullRun", "--config", "tiny.toml", "--set", overrides)
    assert failed.returncode == code, failed.stderr
    assert message in failed.stderr
    assert "Traceback" not in failed.stderr


def test_a_workspace_that_cannot_be_written_is_an_error(ran: Path) -> None:
    (ran / "file").write_text("")
    failed = luigi(ran, "Download", "--config", "tiny.toml", "--workspace", "file/workspace")
    assert failed.returncode == 30
    assert "cannot be written" in failed.stderr
    assert "Traceback" not in failed.stderr
