"""Which stages run again, on the toy pipeline in this process. tests/pipeline has the real one."""

import datetime
import json
import multiprocessing
import os
import shutil
from pathlib import Path
from typing import Any, Dict, List, Set, Tuple

import luigi
import numpy as np
import pytest

from fse.errors import StageError
from fse.runtime import locks, manifests
from fse.runtime.manifests import MANIFEST, read_manifest
from tasks.caching import key_cache
from tests.tasks import toy

ALL = ["first", "second", "third"]


pytestmark = pytest.mark.usefixtures("toy_pipeline")


def test_a_stage_runs_once() -> None:
    assert toy.run() == ALL
    assert toy.number() == 7
    assert toy.run() == []


def test_a_changed_setting_reruns_its_stage_and_the_dependent_stages() -> None:
    toy.run()
    toy.settings["second"] = 2
    assert toy.run() == ["second", "third"]
    toy.settings["third"] = 5
    assert toy.run() == ["third"]


def test_a_rebuilt_output_with_the_same_content_reruns_no_later_stage() -> None:
    toy.run()
    toy.settings["first"] = 12  # has the same remainder
    assert toy.run() == ["first"]
    assert toy.number() == 7


def test_restored_settings_find_the_old_output() -> None:
    toy.run()
    old = toy.folder()
    toy.settings.update(first=8, third=3)
    assert toy.run() == ALL
    toy.settings.update(first=7, third=1)
    assert toy.run() == []
    assert toy.folder() == old


def test_only_changes_of_meaning_in_used_code_count() -> None:
    toy.run()
    toy.sources["third"] += "# a comment\n"
    assert toy.run() == []
    toy.sources["third"] += "def unused(): pass\n"
    assert toy.run() == []
    toy.sources["third"] = toy.sources["third"].replace("// 2", "// 3")
    assert toy.run() == ["third"]
    assert toy.number() == 5


def test_only_a_lost_output_is_rebuilt() -> None:
    toy.run()
    shutil.rmtree(str(toy.folder("first")))
    assert toy.run() == ["first"]


def test_an_edited_output_is_rebuilt() -> None:
    toy.run()
    (toy.folder("second") / "number").write_text("99")
    assert toy.run() == ["second"]
    assert toy.number("second") == 12


def test_an_edit_that_only_the_thorough_check_finds_stops_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manifests, "MAX_LISTED_FILES", 0)  # stands for an output with very many files
    original = manifests.measure_output

    def in_a_folder(building: Path, *rest: Any) -> Dict[str, Any]:
        (building / "in").mkdir(exist_ok=True)
        shutil.copy(str(building / "number"), str(building / "in" / "number"))
        return original(building, *rest)

    monkeypatch.setattr(manifests, "measure_output", in_a_folder)
    toy.run()
    (toy.folder("second") / "in" / "number").write_text("99")
    assert toy.run() == []  # the quick check does not look at every file
    toy.settings["third"] = 2
    toy.apply_changes()
    task = toy.Third()
    with pytest.raises(
        StageError, match=r"content differs from manifest: in/number; run the command again to rebuild it"
    ):
        task.run()
    assert toy.run() == ["second", "third"]


def test_a_truncated_manifest_is_a_reason_to_run_and_a_newer_manifest_an_error() -> None:
    toy.run()
    manifest = toy.folder("third") / MANIFEST
    manifest.write_text("{")
    assert toy.Third().reason() == "manifest cannot be read"
    assert toy.run() == ["third"]
    manifest.write_text('{"schema": 99}')
    toy.apply_changes()
    with pytest.raises(StageError, match="newer version"):
        toy.Third().complete()


def test_code_that_changes_during_a_run_counts_for_later_stages(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(key_cache, "SOURCES_VALID_SECONDS", -1.0)
    original = toy.Second._run_child

    def make(self: Any, *rest: Any) -> None:
        original(self, *rest)
        file = Path("toy/code.py")
        file.write_text(file.read_text().replace("y // 2", "y // 3"))

    monkeypatch.setattr(toy.Second, "_run_child", make)
    assert toy.run() == ALL
    toy.sources["third"] = toy.sources["third"].replace("y // 2", "y // 3")
    assert toy.run() == []
    assert toy.number() == 5


def _edit(old: str, new: str) -> None:
    file = Path("toy/code.py")
    file.write_text(file.read_text().replace(old, new))


def test_a_stage_whose_code_changed_while_it_ran_fails_and_its_output_belongs_to_the_old_code(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    toy.run("first")
    original = toy.Second._run_child

    def make(self: Any, *rest: Any) -> None:
        original(self, *rest)
        _edit("x * 10 + y", "x * 11 + y")

    with monkeypatch.context() as patch:
        patch.setattr(toy.Second, "_run_child", make)
        with pytest.raises(
            StageError, match=r"Second: code of toy.code.second changed while it ran; .* run the command again"
        ):
            toy.Second().run()
    assert toy.run("second") == []
    toy.sources["second"] = toy.sources["second"].replace("x * 10 + y", "x * 11 + y")
    assert toy.run("second") == ["second"]


def test_code_that_changed_while_a_stage_waited_for_a_device_is_not_stored_under_the_old_key(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    toy.run("first")

    def wait(self: Any, stack: Any) -> List[int]:
        _edit("x * 10 + y", "x * 11 + y")
        return []

    with monkeypatch.context() as patch:
        patch.setattr(toy.Second, "lock_devices", wait)
        with pytest.raises(StageError, match="code of toy.code.second changed while it waited for other runs"):
            toy.Second().run()
    assert toy.run("second") == ["second"]
    assert toy.number("second") == 12


@pytest.mark.parametrize("workers", [1, 2])
def test_a_stage_in_the_middle_can_be_forced_and_later_stages_follow(
    workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As `Third --Second-force` does. With more than one worker, Luigi forks for each task."""
    toy.sources["second"] = (
        "def second(x, y):\n    from pathlib import Path\n    return int(Path('counted').read_text())\n"
    )
    Path("counted").write_text("10")
    toy.run()
    Path("counted").write_text("20")
    settings = luigi.configuration.get_config()
    settings.set("Second", "force", "true")
    try:
        toy.apply_changes()
        assert luigi.build([toy.Third()], local_scheduler=True, log_level="CRITICAL", workers=workers)
    finally:
        settings.remove_section("Second")
    assert read_manifest(toy.folder("second"))["why"] == "--force"
    assert toy.number() == 11
    assert toy.run() == []


@pytest.mark.parametrize(("name", "value"), [("files", None), ("covers", []), ("key", 7), ("seconds", "long")])
def test_a_manifest_with_an_invalid_field_is_ignored(name: str, value: Any) -> None:
    toy.run()
    file = toy.folder("second") / MANIFEST
    file.write_text(json.dumps(dict(json.loads(file.read_text()), **{name: value})))
    toy.apply_changes()
    assert toy.Second().reason() == "manifest cannot be read"
    assert toy.run() == ["second"]


def test_a_clock_that_was_set_back_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    class Clock(datetime.datetime):
        year_now = 2100

        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return datetime.datetime(cls.year_now, 1, 1, tzinfo=tz)

    monkeypatch.setattr(datetime, "datetime", Clock)
    toy.run()
    for path in Path.cwd().rglob("*"):
        os.utime(str(path), (4e9, 4e9))
    assert toy.run() == []
    Clock.year_now = 2001
    toy.settings["second"] = 2
    assert toy.run() == ["second", "third"]
    assert toy.number() == 12
    toy.settings["second"] = 1
    assert toy.run() == []
    assert toy.number() == 7
    assert toy.run("second", force=True) == ["second"]
    (toy.folder("second") / "number").write_text("99")
    os.utime(str(toy.folder("second") / "number"), (1, 1))
    assert toy.run() == ["second"]


def test_force_runs_a_complete_stage_again() -> None:
    toy.run()
    before = read_manifest(toy.folder("second"))
    assert toy.run("second", force=True) == ["second"]
    assert read_manifest(toy.folder("second"))["started"] >= before["started"]
    assert read_manifest(toy.folder("second"))["why"] == "--force"
    assert toy.run("second", force=True) == ["second"]
    assert toy.run() == []


def test_a_forced_run_that_fails_leaves_the_old_output(capsys: pytest.CaptureFixture[str]) -> None:
    toy.run()
    toy.settings["third"] = "no number"
    toy.apply_changes()
    assert not luigi.build([toy.Third(force=True)], local_scheduler=True, log_level="CRITICAL")
    toy.settings["third"] = 1
    assert toy.run() == []


def test_only_refuses_missing_inputs() -> None:
    with pytest.raises(StageError, match=r"Third --only: missing inputs: Second \(never run\)"):
        toy.Third(only=True)
    toy.run("second")
    assert toy.run(only=True) == ["third"]


def test_two_runs_at_once_make_an_output_once(tmp_path: Path) -> None:
    toy.sources["third"] = "def third(x, y):\n    import time\n    time.sleep(1.0)\n    return x\n"
    toy.run("second")
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=_run_and_count, args=(tmp_path / str(number),)) for number in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(30)
    assert sorted((tmp_path / str(number)).read_text() for number in range(3)) == ["", "", "third"]


def _run_and_count(file: Path) -> None:
    file.write_text(",".join(toy.run()))
    os._exit(0)


def test_inputs_are_locked_while_a_stage_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    toy.run("second")
    lock = toy.folder("second").with_name(toy.folder("second").name + ".lock")
    free: List[bool] = []
    original = toy.Third._run_child

    def make(self: Any, *rest: Any) -> None:
        free.append(locks.is_free(lock))
        original(self, *rest)

    monkeypatch.setattr(toy.Third, "_run_child", make)
    toy.run()
    assert free == [False]
    assert locks.is_free(lock)


def test_keys_are_the_same_in_another_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    toy.run()
    keys = [toy.folder(name).name for name in ALL]
    shutil.copytree(str(tmp_path / "workspace"), str(tmp_path / "elsewhere"))
    toy.apply_changes()
    assert [toy.require_folder(toy.STAGES[name](workspace="elsewhere")).name for name in ALL] == keys
    assert toy.run(workspace="elsewhere") == []


def test_outputs_in_a_read_only_workspace_can_be_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    toy.run()
    os.utime(str(toy.folder() / "number"), (1, 1))

    def refuse(*_: Any) -> None:
        raise OSError(30, "Read-only file system", "workspace")

    monkeypatch.setattr(Path, "replace", refuse)
    assert toy.run() == []
    toy.settings["third"] = 2
    toy.apply_changes()
    with pytest.raises(StageError, match="Read-only file system"):
        toy.Third().run()


# Sources of each stage; sources with the same number have the same syntax tree.
VARIANTS: Dict[str, List[Tuple[int, str]]] = {
    "first": [
        (0, "def first(x):\n    return x % 5\n"),
        (0, "# why\ndef first(x):\n    'doc'\n    return (x %\n        5)\n"),
        (1, "def first(x):\n    return x % 5 + 0\n"),
        (2, "def first(x):\n    return x % 3\n"),
    ],
    "second": [
        (0, "def second(x, y):\n    return x * 10 + y\n"),
        (1, "def second(x, y):\n    return y + x * 10\n"),
        (2, "def second(x, y):\n    return x * 10 + min(y, 1)\n"),
        (2, "def second(x, y):\n    return x * 10 + min( y, 1 )  # 1\n"),
    ],
    "third": [
        (0, "def third(x, y):\n    return x + helper(y)\ndef helper(y):\n    return y // 2\n"),
        (0, "def helper(y): return y // 2\ndef other(): pass\ndef third(x, y): return x + helper(y)\n"),
        (1, "def third(x, y):\n    return x + helper(y)\ndef helper(y):\n    return y // 3\n"),
    ],
}


@pytest.mark.parametrize("seed", range(4))
def test_random_changes_never_serve_a_stale_output_and_never_rerun_needlessly(seed: int) -> None:
    random = np.random.RandomState(seed)
    meaning = dict.fromkeys(ALL, 0)
    there: Dict[str, Set[Any]] = {name: set() for name in ALL}
    for _ in range(40):
        name = ALL[random.randint(3)]
        action = random.choice(["set", "set", "code", "code", "lose", "edit", "force"])
        if action == "set":
            toy.settings[name] = int(random.randint(1, 9))
        elif action == "code":
            meaning[name], toy.sources[name] = VARIANTS[name][random.randint(len(VARIANTS[name]))]
        identities = _identities(meaning)
        if action in ("lose", "edit", "force") and all(identities[each] in there[each] for each in ALL):
            if action == "lose":
                shutil.rmtree(str(toy.folder(name)))
            elif action == "edit":
                (toy.folder(name) / "number").write_text("999")
            else:
                assert toy.run(name, force=True) == [name]
            if action != "force":
                there[name].discard(identities[name])
        expected = [each for each in ALL if identities[each] not in there[each]]
        assert toy.run() == expected
        assert toy.number() == _values()["third"]
        for each in ALL:
            there[each].add(identities[each])


def _values() -> Dict[str, int]:
    """Return what every stage passes on, computed without a cache."""
    names: Dict[str, Any] = {}
    exec("\n".join(toy.sources.values()), names)
    first = names["first"](toy.settings["first"])
    second = names["second"](toy.settings["second"], first)
    return {"first": first, "second": second, "third": names["third"](toy.settings["third"], second)}


def _identities(meaning: Dict[str, int]) -> Dict[str, Any]:
    """Return all that determines what a stage passes on."""
    values = _values()
    inputs = {"first": None, "second": values["first"], "third": values["second"]}
    return {name: (toy.settings[name], meaning[name], inputs[name]) for name in ALL}
