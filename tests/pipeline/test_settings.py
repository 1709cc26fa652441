"""The keys of outputs cover every setting that a stage reads, and no more than a stage can say it reads."""

import dataclasses
import importlib
from pathlib import Path
from typing import Any, Set

import pytest

from fse import cli, config
from fse.stages import STAGES
from tasks.stages import pipeline
from tasks.stages.stage_task import StageTask

# Old pandas warns when it is imported, which would be an error inside a test.
for stage in STAGES.values():
    importlib.import_module(stage.function.split(":")[0])

# Read, but without a difference to the output; the eyes are used in one mode only (see below).
RANKS = {"train." + name for name in ("devices", "hosts", "rank_table", "connect_timeout", "step_timeout")}
HARMLESS = {
    pipeline.AlignCrop: {"crop.processes", "evaluate.eyes"},
    pipeline.ConvertTFRecord: {"records.processes"},
    pipeline.Train: RANKS | {"train.init_from"},  # its content is in the key
}


def watched(settings: config.Config, read: Set[str]) -> config.Config:
    """The same configuration, which notes in `read` what is read of it."""

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
    for kind in pipeline.Report.inputs:
        read: Set[str] = set()
        # Not through the command, whose manifest holds the whole configuration.
        monkeypatch.setattr(cli.outputs, "manifest", lambda *_: {})
        inputs = {verb: tmp_path / verb for verb in STAGES[kind.verb].inputs}
        cli.run_stage(kind.verb, watched(tiny, read), inputs, tmp_path / kind.verb)
        if kind is not pipeline.Download:
            assert read - HARMLESS.get(kind, set()) <= set(kind().settings()), kind.verb


def test_cropping_by_landmarks_depends_on_which_are_the_eyes() -> None:
    assert "evaluate.eyes" in pipeline.AlignCrop(set="crop.mode=landmarks,crop.reads_test_annotations=true").settings()
    assert "evaluate.eyes" not in pipeline.AlignCrop().settings()


def test_what_is_evaluated_on_is_asked_for_once_if_it_is_what_is_trained_on() -> None:
    same = pipeline.FullRun().stages()
    assert list(same) == ["Download", "AlignCrop", "ConvertTFRecord", "Train", "Export", "Evaluate", "Report"]
    cropped = pipeline.FullRun(set="evaluate.crop.scale=0.8").stages()
    assert list(cropped)[3:6] == ["Download-evaluate", "AlignCrop-evaluate", "ConvertTFRecord-evaluate"]
    assert cropped["Download-evaluate"].settings() == cropped["Download"].settings() == same["Download"].settings()
    assert cropped["AlignCrop-evaluate"].settings()["crop.scale"] == 0.8
    assert cropped["AlignCrop"].settings() == same["AlignCrop"].settings()
    for name in ("Train", "Export", "Evaluate"):
        assert cropped[name].settings() == same[name].settings()
    assert cropped["Evaluate"].before()["convert"] is cropped["ConvertTFRecord-evaluate"]
    assert cropped["Export"].before()["convert"] is cropped["ConvertTFRecord"]


def test_where_an_archive_is_and_how_many_processes_work_make_no_difference(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "c.zip").write_text("same")
    overrides = "dataset.name=mine,dataset.archive={0},crop.processes={1},records.processes={1}"
    one, other = (overrides.format(tmp_path / name / "c.zip", number) for name, number in (("a", 1), ("b", 2)))
    for kind in (pipeline.Download, pipeline.AlignCrop, pipeline.ConvertTFRecord):
        assert kind(set=one).settings() == kind(set=other).settings()
    assert pipeline.AlignCrop(set="crop.reads_test_annotations=true").settings() == pipeline.AlignCrop().settings()
    settings = pipeline.Report(set=one).settings()
    assert settings["dataset.archive"] == "c.zip"


def test_where_the_files_of_a_known_data_set_lie_makes_no_difference_and_what_is_in_them_does(tmp_path: Path) -> None:
    keys = []
    for folder, text in (("a", "1"), ("b", "1"), ("c", "2")):
        (tmp_path / folder).mkdir()
        for number in "12":
            (tmp_path / folder / f"CAT_DATASET_0{number}.zip").write_text(text)
        overrides = f"dataset.name=cats,download.data_path={tmp_path / folder}"
        task = pipeline.Download(set=overrides, workspace=str(tmp_path))
        assert task.requires() == []
        keys.append(task.settings())
    assert keys[0] == keys[1] != keys[2]


def test_files_that_have_to_be_fetched_by_hand_are_required(tmp_path: Path) -> None:
    missing = pipeline.Download(set=f"dataset.name=aflw,download.data_path={tmp_path}").requires()
    assert len(missing) == 1
    assert "fetch by hand from http://www.robots" in missing[0].advice
    named = pipeline.Download(set="dataset.name=aflw,download.mirrors=['http://localhost/']").requires()
    assert named == []


def test_what_an_address_may_hide_is_in_no_key_and_no_report() -> None:
    trained = "dataset.name=mine,dataset.archive='https://host/a.zip?token=secret'"
    evaluated = trained.replace("dataset.", "evaluate.dataset.")
    tasks = [pipeline.Download(set=trained), pipeline.Download(set=evaluated, data="evaluate")]
    for task in [*tasks, *(pipeline.Report(set=overrides) for overrides in (trained, evaluated))]:
        assert "a.zip" in str(task.settings())
        assert "secret" not in str(task.settings())
    assert all("secret" in task.untold()["FSE_SET"] for task in tasks)


def test_how_test_images_are_drawn_from_a_folder_counts(tmp_path: Path) -> None:
    overrides = f"dataset.name=folder,dataset.archive={tmp_path}"
    keys = [
        pipeline.Download(set=overrides + more, workspace=str(tmp_path)).settings()
        for more in ("", ",dataset.seed=7", ",dataset.test_share=0.2", ",dataset.train=7")
    ]
    assert keys[0] == keys[3]
    assert keys[0] not in keys[1:3]
