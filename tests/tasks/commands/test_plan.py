"""Every reason that a plan can give, on the toy pipeline."""

import dataclasses
import os
import shutil
from pathlib import Path
from typing import List, Optional

import pytest

from fse.runtime import locks
from fse.runtime.manifests import MANIFEST, read_manifest
from fse.runtime.outputs import building_folder
from fse.stages import STAGES, Stage
from tasks.caching.fingerprint import KeyParts
from tasks.caching.publishing import lock_path
from tasks.caching.reasons import differences, summarize
from tasks.commands import plan
from tests.tasks import toy


@pytest.fixture(autouse=True)
def toy_stages(toy_pipeline: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """The stages of the toy pipeline, of which the third one resumes."""
    for verb in toy.STAGES:
        monkeypatch.setitem(STAGES, verb, Stage("toy.code:" + verb, (), verb, "", resumes=verb == "third"))


def planned() -> List[str]:
    """Return what the plan says about each stage; check that it changes nothing."""
    toy.apply_changes()
    before = {path: path.lstat().st_mtime_ns for path in Path.cwd().rglob("*")}
    steps = [plan.plan_stage(stage()) for stage in toy.STAGES.values()]
    assert {path: path.lstat().st_mtime_ns for path in Path.cwd().rglob("*")} == before
    assert toy.executed == []
    return [f"{step.action}: {step.reason}" if step.reason else step.action for step in steps]


def test_nothing_was_run_yet() -> None:
    assert planned() == ["will run: never run"] * 3


def test_all_is_done() -> None:
    toy.run()
    toy.executed.clear()
    assert planned() == ["done"] * 3


def test_a_setting_changed() -> None:
    toy.run()
    toy.executed.clear()
    toy.settings["second"] = 2
    assert planned() == [
        "done",
        "will run: toy.second 1 → 2",
        "will run: Second runs first; skipped if its output does not change",
    ]
    toy.settings["third"] = 2
    assert planned()[2] == "will run: toy.third 1 → 2"


def test_code_changed() -> None:
    toy.run()
    toy.executed.clear()
    toy.sources["third"] = toy.sources["third"].replace("// 2", "// 3")
    assert planned() == ["done", "done", "will run: code of toy.code.helper changed"]
    toy.sources["third"] = "def third(x, y):\n    return x + other(y)\ndef other(y):\n    return y\n"
    assert planned()[2] == (
        "will run: code of toy.code.third changed, code of toy.code.helper is no longer used, code of toy.code.other is new"
    )


def test_an_input_changed() -> None:
    toy.run()
    toy.settings["second"] = 2
    toy.run("second")
    toy.executed.clear()
    assert planned()[1:] == ["done", "will run: output of second changed"]


def test_an_output_was_lost() -> None:
    toy.run()
    shutil.rmtree(str(toy.folder()))
    (toy.folder().with_name(toy.folder().name + ".json")).write_text("{}")  # the configuration that real stages write
    toy.executed.clear()
    assert planned()[2] == "will run: output missing"


def test_an_output_was_edited() -> None:
    toy.run()
    (toy.folder() / "number").write_text("9")
    toy.executed.clear()
    assert planned()[2] == "will run: content differs from manifest: number"


def test_a_manifest_is_broken() -> None:
    toy.run()
    (toy.folder() / MANIFEST).write_text("{")
    toy.executed.clear()
    assert planned()[2] == "will run: manifest cannot be read"


def test_a_stage_was_interrupted() -> None:
    toy.run("second")
    folder = building_folder(toy.folder())
    folder.mkdir(parents=True)
    toy.executed.clear()
    assert planned()[2] == "will run: an earlier attempt was interrupted"
    (folder / "train-00000-of-00004.tfrecord").write_text("")
    assert planned()[2] == "will resume: after 1 finished shard: an earlier attempt was interrupted"
    (folder / "checkpoints").mkdir()
    for step in (900, 1000):
        (folder / "checkpoints" / f"model-{step}.index").write_text("")
    assert planned()[2] == "will resume: from step 1000: an earlier attempt was interrupted"


def test_a_stage_is_running() -> None:
    toy.run("second")
    building_folder(toy.folder()).mkdir(parents=True)
    toy.executed.clear()
    with locks.lock(lock_path(toy.folder()), "Third", 0.0):
        assert planned()[2].startswith(f"is running: in process {os.getpid()} of ")
    assert planned()[2] == "will run: an earlier attempt was interrupted"


def test_the_most_similar_earlier_output_is_compared() -> None:
    for value in (5, 6):
        toy.settings.update(first=value, third=value)
        toy.run()
    toy.executed.clear()
    toy.settings.update(first=5, third=7)
    assert planned() == ["done", "done", "will run: toy.third 5 → 7"]


def test_the_estimate_is_the_duration_of_an_earlier_run() -> None:
    toy.run()
    toy.settings["third"] = 2
    toy.apply_changes()
    step = plan.plan_stage(toy.Third())
    assert step.seconds == read_manifest(next(step for step in toy.Third().folder.glob("*"))).get("seconds")


def test_another_version_of_tensorflow_is_a_reason() -> None:
    now = KeyParts("train", {"train.steps": 5}, {"f": "1"}, {"convert": "c"}, "2.21.0")
    assert list(differences(now, dataclasses.replace(now, tensorflow="1.15.0"))) == ["TensorFlow 1.15.0 → 2.21.0"]
    assert list(differences(now, dataclasses.replace(now, settings={}))) == ["train.steps none → 5"]


def test_many_changes_of_code_are_counted() -> None:
    changes = ["a 1 → 2", *(f"code of f{number} changed" for number in range(5))]
    assert summarize(changes) == (
        "a 1 → 2, code of f0 changed, code of f1 changed, code of f2 changed, 2 more code changes"
    )


@pytest.mark.parametrize(("seconds", "text"), [(None, ""), (3.2, "3 s"), (600, "10 min"), (7200, "2.0 h")])
def test_durations(seconds: Optional[float], text: str) -> None:
    assert plan._duration(seconds) == text
