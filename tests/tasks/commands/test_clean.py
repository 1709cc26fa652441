"""`Clean`, on the toy pipeline."""

import datetime
import json
import os
from pathlib import Path

import pytest

from fse.runtime import locks
from fse.runtime.files import replace_symlink
from fse.runtime.outputs import building_folder
from tasks.caching.publishing import lock_path
from tasks.commands import clean
from tasks.commands.clean import Clean
from tasks.nightly import verdict_file
from tasks.nightly.regression import NightlyRegression
from tasks.nightly.retention import remove_old_links
from tests.tasks import toy
from tests.tasks.commands.helpers import Execute, output_keys


def test_unreferenced_outputs_are_listed_and_deleted(execute: Execute) -> None:
    toy.run()
    first = output_keys()
    toy.settings["third"] = 2
    toy.run()
    assert len(output_keys()) == 4
    listed = execute(Clean())
    (old,) = first - {toy.folder(name).name for name in toy.STAGES}
    assert len(listed) == 2
    assert old in listed[0]
    assert listed[1].endswith("in 1 outputs; --delete deletes them")
    assert len(output_keys()) == 4
    assert execute(Clean(delete=True))[1].endswith("in 1 outputs; deleted")
    assert output_keys() == {toy.folder(name).name for name in toy.STAGES}
    assert not list(Path("workspace/artifacts").glob(f"*/{old}*"))
    assert toy.run() == []


def test_outputs_of_an_unfinished_sweep_are_kept(execute: Execute, monkeypatch: pytest.MonkeyPatch) -> None:
    toy.run()
    old = toy.folder()
    toy.settings["third"] = 2
    toy.run()
    with monkeypatch.context() as patch:
        patch.setattr(clean, "keys_of_unfinished_sweeps", lambda root: [old.name])
        assert execute(Clean(delete=True))[-1].endswith("in 0 outputs; deleted")
    assert execute(Clean(delete=True))[-1].endswith("in 1 outputs; deleted")


def test_outputs_that_links_and_files_name_are_kept_with_their_inputs(execute: Execute) -> None:
    keys = []
    for value in (2, 3, 4):
        toy.settings["second"] = value
        toy.run()
        keys.append(toy.folder().name)
    assert len(output_keys()) == 7
    Path("workspace/synthetic/pinned").symlink_to("../artifacts/Third/" + keys[0])
    Path("workspace/nightly").mkdir()
    Path("workspace/nightly/history.jsonl").write_text(json.dumps({"evaluate": keys[1]}) + "\n")
    assert execute(Clean(delete=True))[-1].endswith("in 0 outputs; deleted")
    assert len(output_keys()) == 7
    Path("workspace/nightly/history.jsonl").unlink()
    assert execute(Clean(delete=True))[-1].endswith("in 2 outputs; deleted")


def test_outputs_of_recent_and_accepted_nights_are_kept(tmp_path: Path, execute: Execute) -> None:
    (tmp_path / "n.toml").write_text('[nightly]\nname = "n"\n[[run]]\nname = "a"\n[run.metrics.nme]\n')
    nights = [datetime.date(2026, 1, 1) + datetime.timedelta(days=number) for number in range(33)]
    for date in nights:
        key = f"{date.toordinal():016x}"
        output = Path("workspace").absolute() / "artifacts" / "Train" / key
        output.mkdir(parents=True)
        nightly = NightlyRegression(date, config="n.toml")
        replace_symlink(nightly.folder / str(date) / "a-1" / "Train", output)
        (nightly.folder / str(date) / "a-1" / "case.log").write_text("")
        record = {"date": str(date), "plays": [{"stages": {"Train": {"key": key, "seconds": 1.0}}}]}
        verdict_file.write(nightly.folder, record)
    for without_outputs in ("2025-12-31", "2026-03-01"):
        verdict_file.write(nightly.folder, {"date": without_outputs, "plays": []})
    logs = Path("workspace/logs")
    logs.mkdir()
    for name in ("n-2026-01-01-a-1.log", "n-2026-01-01-a-1.log.1.gz", "n-2026-01-02-a-1.log", "n-2026-01-04-a-1.log"):
        (logs / ("nightly-" + name)).write_text("")
    assert execute(Clean())[-1].startswith("    0.0 MB  in 0 outputs")
    remove_old_links(nightly.folder, 30, {"2026-01-02"})
    execute(Clean(delete=True))
    assert output_keys() == {f"{date.toordinal():016x}" for date in [nights[1], *nights[3:]]}
    assert all((nightly.folder / str(date) / "verdict.json").is_file() for date in nights)
    assert sorted(log.name[10:20] for log in logs.iterdir()) == ["2026-01-02", "2026-01-04"]


def test_an_interrupted_stage_of_the_experiment_is_kept_and_others_are_removed(
    execute: Execute,
) -> None:
    toy.run("second")
    kept = building_folder(toy.folder())
    kept.mkdir(parents=True)
    other = kept.with_name("0123456789abcdef.building")
    other.mkdir()
    (other.parent / "fedcba9876543210.old").mkdir()
    (other.parent / "notes.txt").write_text("a file of the user")
    Path("workspace/synthetic/stages/Third").symlink_to(
        os.path.relpath(str(toy.folder()), "workspace/synthetic/stages")
    )
    execute(Clean(delete=True))
    assert kept.exists()
    assert sorted(path.name for path in kept.parent.iterdir()) == sorted([kept.name, "notes.txt"])


def test_the_leftovers_of_an_interrupted_forced_run_are_removed(
    execute: Execute,
) -> None:
    toy.run()
    building_folder(toy.folder()).mkdir()
    execute(Clean(delete=True))
    assert not building_folder(toy.folder()).exists()
    assert toy.run() == []


def test_outputs_that_a_run_needs_meanwhile_are_kept(execute: Execute, monkeypatch: pytest.MonkeyPatch) -> None:
    toy.run()
    answers = iter([set(), *[output_keys()] * 9])
    monkeypatch.setattr(Clean, "_referenced_keys", lambda self: next(answers))
    execute(Clean(delete=True))
    assert toy.run() == []


def test_outputs_in_use_are_kept(execute: Execute) -> None:
    toy.run()
    old = toy.folder()
    toy.settings["third"] = 2
    toy.run()
    with locks.lock(lock_path(old), "a run", 0.0, shared=True):
        assert execute(Clean(delete=True))[-1].endswith("in 0 outputs; deleted")
    assert old.exists()
    assert execute(Clean(delete=True))[-1].endswith("in 1 outputs; deleted")
    assert not old.exists()
