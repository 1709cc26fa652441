"""Every reason that a plan can give, on the toy pipeline."""

import os
import shutil
from pathlib import Path
from typing import Any, Iterator, List

import pytest

from fse.runtime import locks, outputs
from fse.stages import STAGES, Stage
from tasks.caching import fingerprint
from tasks.caching.reasons import Parts, differences, in_words
from tasks.commands import plan
from tasks.stages.stage_task import building, lock_of
from tests.tasks import toy


@pytest.fixture(autouse=True)
def fresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    toy.set_up(tmp_path, monkeypatch)
    for verb in toy.KINDS:
        monkeypatch.setitem(STAGES, verb, Stage("toy.code:" + verb, (), verb, "", resumes=verb == "third"))
    yield
    monkeypatch.undo()
    fingerprint.forget()


def planned() -> List[str]:
    """What would be done about each stage and why, without changing anything."""
    toy.changed()
    before = {path: path.lstat().st_mtime_ns for path in Path.cwd().rglob("*")}
    steps = [plan.step(kind()) for kind in toy.KINDS.values()]
    assert {path: path.lstat().st_mtime_ns for path in Path.cwd().rglob("*")} == before
    assert toy.made == []
    return [f"{step.does}: {step.why}" if step.why else step.does for step in steps]


def test_nothing_was_run_yet() -> None:
    assert planned() == ["will run: never run"] * 3


def test_all_is_done() -> None:
    toy.run()
    toy.made.clear()
    assert planned() == ["done"] * 3


def test_a_setting_changed() -> None:
    toy.run()
    toy.made.clear()
    toy.settings["second"] = 2
    assert planned() == [
        "done",
        "will run: toy.second 1 → 2",
        "will run: Second runs first; kept if its output stays the same",
    ]
    toy.settings["third"] = 2
    assert planned()[2] == "will run: toy.third 1 → 2"


def test_code_changed() -> None:
    toy.run()
    toy.made.clear()
    toy.sources["third"] = toy.sources["third"].replace("// 2", "// 3")
    assert planned() == ["done", "done", "will run: code of toy.code.helper changed"]
    toy.sources["third"] = "def third(x, y):\n    return x + other(y)\ndef other(y):\n    return y\n"
    assert planned()[2] == (
        "will run: code of toy.code.third changed, code of toy.code.helper is used no more, code of toy.code.other is new"
    )


def test_an_input_came_out_differently() -> None:
    toy.run()
    toy.settings["second"] = 2
    toy.run("second")
    toy.made.clear()
    assert planned()[1:] == ["done", "will run: output of second changed"]


def test_an_output_was_lost() -> None:
    toy.run()
    shutil.rmtree(str(toy.folder()))
    (toy.folder().with_name(toy.folder().name + ".json")).write_text("{}")  # as the real stages leave it
    toy.made.clear()
    assert planned()[2] == "will run: output missing"


def test_an_output_was_edited() -> None:
    toy.run()
    (toy.folder() / "number").write_text("9")
    toy.made.clear()
    assert planned()[2] == "will run: content differs from manifest: number"


def test_a_manifest_is_broken() -> None:
    toy.run()
    (toy.folder() / outputs.MANIFEST).write_text("{")
    toy.made.clear()
    assert planned()[2] == "will run: manifest cannot be read"


def test_a_stage_was_interrupted() -> None:
    toy.run("second")
    folder = building(toy.folder())
    folder.mkdir(parents=True)
    toy.made.clear()
    assert planned()[2] == "will run: it was interrupted"
    (folder / "train-00000-of-00004.tfrecord").write_text("")
    assert planned()[2] == "will resume: after 1 finished shard: it was interrupted"
    (folder / "checkpoints").mkdir()
    for step in (900, 1000):
        (folder / "checkpoints" / f"model-{step}.index").write_text("")
    assert planned()[2] == "will resume: from step 1000: it was interrupted"


def test_a_stage_is_running() -> None:
    toy.run("second")
    building(toy.folder()).mkdir(parents=True)
    toy.made.clear()
    with locks.lock(lock_of(toy.folder()), "Third", 0.0):
        assert planned()[2].startswith(f"is running: in process {os.getpid()} of ")
    assert planned()[2] == "will run: it was interrupted"


def test_the_nearest_earlier_output_is_the_one_that_is_compared() -> None:
    for value in (5, 6):
        toy.settings.update(first=value, third=value)
        toy.run()
    toy.made.clear()
    toy.settings.update(first=5, third=7)
    assert planned() == ["done", "done", "will run: toy.third 5 → 7"]


def test_the_estimate_is_what_it_took_the_last_time() -> None:
    toy.run()
    toy.settings["third"] = 2
    toy.changed()
    step = plan.step(toy.Third())
    assert step.seconds == toy.outputs.read_manifest(next(step for step in toy.Third().folder.glob("*"))).get("seconds")


def test_another_tensorflow_is_a_reason() -> None:
    now = Parts("train", {"train.steps": 5}, {"f": "1"}, {"convert": "c"}, "2.21.0")
    assert list(differences(now, now._replace(tensorflow="1.15.0"))) == ["TensorFlow 1.15.0 → 2.21.0"]
    assert list(differences(now, now._replace(settings={}))) == ["train.steps none → 5"]


def test_many_changes_of_code_are_counted() -> None:
    changes = ["a 1 → 2", *(f"code of f{number} changed" for number in range(5))]
    assert in_words(changes) == (
        "a 1 → 2, code of f0 changed, code of f1 changed, code of f2 changed, 2 more of its functions"
    )


@pytest.mark.parametrize(("seconds", "text"), [(None, ""), (3.2, "3 s"), (600, "10 min"), (7200, "2.0 h")])
def test_durations(seconds: float, text: str) -> None:
    assert plan._duration(seconds) == text
