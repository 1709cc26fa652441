"""The settings in a stage's key: all that the stage reads, except those that do not change the output."""

import dataclasses
import importlib
from pathlib import Path
from typing import Any, Set

import pytest

from fse import config, stage_runner
from fse.stages import STAGES
from tasks.stages.data import AlignCrop, ConvertTFRecord, Download
from tasks.stages.full_run import FullRun
from tasks.stages.results import Report
from tasks.stages.stage_task import StageTask
from tasks.stages.training import Train

# Old versions of pandas warn when they are imported, which would be an error inside a test.
for stage in STAGES.values():
    importlib.import_module(stage.function.split(":")[0])

# Settings that a stage reads although they do not change its output. The eyes count in one crop mode (tested below).
RANKS = {"train." + name for name in ("devices", "hosts", "rank_table", "connect_timeout", "step_timeout")}
HARMLESS = {
    AlignCrop: {"crop.processes", "evaluate.eyes"},
    ConvertTFRecord: {"records.processes"},
    Train: RANKS | {"train.init_from"},  # its content is in the key
}


def watch_reads(settings: config.Config, read: Set[str]) -> config.Config:
    """Return an equal configuration that adds the name of every setting that is read to `read`."""

    def watch(section: str, values: Any) -> Any:
        names = {item.name for item in dataclasses.fields(values)}

        class Watched(type(values)):  # type: ignore[misc]
            def __getattribute__(self, name: str) -> Any:
                if name in names:
                    read.add(f"{section}.{name}")
                return super().__getattribute__(name)

        return Watched(**dataclasses.asdict(values))

    names = [name.replace(".", "_") for name in config.as_tables(settings)]
    parts = {name: watch(name, getattr(settings, name)) for name in names}
    read.clear()
    return config.Config(**parts)


@pytest.mark.slow
def test_every_setting_that_a_stage_reads_is_in_its_key(
    tiny: config.Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(StageTask, "experiment", tiny)
    small = dataclasses.replace(tiny.dataset, train=24, test=8, size=32)
    tiny = dataclasses.replace(tiny, dataset=small)
    for task_class in Report.inputs:
        read: Set[str] = set()
        # The manifest records the whole configuration, which says nothing about the stage.
        monkeypatch.setattr(stage_runner, "_manifest", lambda *_: {})
        inputs = {verb: tmp_path / verb for verb in STAGES[task_class.verb].inputs}
        stage_runner.run_stage(task_class.verb, watch_reads(tiny, read), inputs, tmp_path / task_class.verb)
        if task_class is not Download:
            assert read - HARMLESS.get(task_class, set()) <= set(task_class().settings()), task_class.verb


def test_cropping_by_landmarks_depends_on_the_names_of_the_eyes() -> None:
    assert "evaluate.eyes" in AlignCrop(set="crop.mode=landmarks,crop.reads_test_annotations=true").settings()
    assert "evaluate.eyes" not in AlignCrop().settings()


def test_images_are_prepared_once_if_training_and_evaluation_use_the_same() -> None:
    same = FullRun().stages()
    assert list(same) == ["Download", "AlignCrop", "ConvertTFRecord", "Train", "Export", "Evaluate", "Report"]
    cropped = FullRun(set="evaluate.crop.scale=0.8").stages()
    assert list(cropped)[3:6] == ["Download-evaluate", "AlignCrop-evaluate", "ConvertTFRecord-evaluate"]
    assert cropped["Download-evaluate"].settings() == cropped["Download"].settings() == same["Download"].settings()
    assert cropped["AlignCrop-evaluate"].settings()["crop.scale"] == 0.8
    assert cropped["AlignCrop"].settings() == same["AlignCrop"].settings()
    for name in ("Train", "Export", "Evaluate"):
        assert cropped[name].settings() == same[name].settings()
    assert cropped["Evaluate"].upstream()["convert"] is cropped["ConvertTFRecord-evaluate"]
    assert cropped["Export"].upstream()["convert"] is cropped["ConvertTFRecord"]


def test_the_path_of_an_archive_and_the_number_of_processes_do_not_count(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "c.zip").write_text("same")
    overrides = "dataset.name=mine,dataset.archive={0},crop.processes={1},records.processes={1}"
    first, second = (overrides.format(tmp_path / name / "c.zip", number) for name, number in (("a", 1), ("b", 2)))
    for task_class in (Download, AlignCrop, ConvertTFRecord):
        assert task_class(set=first).settings() == task_class(set=second).settings()
    assert AlignCrop(set="crop.reads_test_annotations=true").settings() == AlignCrop().settings()
    settings = Report(set=first).settings()
    assert settings["dataset.archive"] == "c.zip"


def test_of_the_files_of_a_known_data_set_the_content_counts_and_the_path_does_not(tmp_path: Path) -> None:
    keys = []
    for folder, text in (("a", "1"), ("b", "1"), ("c", "2")):
        (tmp_path / folder).mkdir()
        for number in "12":
            (tmp_path / folder / f"CAT_DATASET_0{number}.zip").write_text(text)
        overrides = f"dataset.name=cats,download.data_path={tmp_path / folder}"
        task = Download(set=overrides, workspace=str(tmp_path))
        assert task.requires() == []
        keys.append(task.settings())
    assert keys[0] == keys[1] != keys[2]


def test_files_to_download_by_hand_are_required(tmp_path: Path) -> None:
    missing = Download(set=f"dataset.name=aflw,download.data_path={tmp_path}").requires()
    assert len(missing) == 1
    assert "download by hand from http://www.robots" in missing[0].advice
    named = Download(set="dataset.name=aflw,download.mirrors=['http://localhost/']").requires()
    assert named == []


def test_secrets_of_urls_are_in_no_key_and_in_no_report() -> None:
    trained = "dataset.name=mine,dataset.archive='https://host/a.zip?token=secret'"
    evaluated = trained.replace("dataset.", "evaluate.dataset.")
    tasks = [Download(set=trained), Download(set=evaluated, data="evaluate")]
    for task in [*tasks, *(Report(set=overrides) for overrides in (trained, evaluated))]:
        assert "a.zip" in str(task.settings())
        assert "secret" not in str(task.settings())
    assert all("secret" in task.secret_env()["FSE_SET"] for task in tasks)


def test_the_split_of_a_folder_counts(tmp_path: Path) -> None:
    overrides = f"dataset.name=folder,dataset.archive={tmp_path}"
    keys = [
        Download(set=overrides + more, workspace=str(tmp_path)).settings()
        for more in ("", ",dataset.seed=7", ",dataset.test_share=0.2", ",dataset.train=7")
    ]
    assert keys[0] == keys[3]
    assert keys[0] not in keys[1:3]
