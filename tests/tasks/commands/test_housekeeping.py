"""Accept, Verify, Lineage and Clean, on the toy pipeline. `FullRun.stages` stands for its three stages here."""

import datetime
import json
import os
from pathlib import Path
from typing import Any, Iterator, List, Set

import luigi
import pytest

from fse.errors import DataError, StageError
from fse.runtime import locks, outputs
from tasks.caching import fingerprint
from tasks.commands.housekeeping import Accept, Clean, Command, Lineage, Verify, made_in
from tasks.nightly.commands import NightlyRegression, forget_old
from tasks.stages import sweep
from tasks.stages.pipeline import FullRun
from tasks.stages.stage_task import building, lock_of, point
from tests.tasks import toy


@pytest.fixture(autouse=True)
def fresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    toy.set_up(tmp_path, monkeypatch)
    monkeypatch.setattr(FullRun, "stages", lambda self: {name: kind() for name, kind in toy.KINDS.items()})
    yield
    monkeypatch.undo()
    fingerprint.forget()


def do(command: Command, capsys: pytest.CaptureFixture[str]) -> List[str]:
    """What a command prints."""
    toy.changed()
    capsys.readouterr()
    command.act()
    return capsys.readouterr().out.splitlines()


def there() -> Set[str]:
    """The keys of all outputs in the workspace."""
    return {folder.name for folder in made_in(Path("workspace").absolute())}


def test_accept_takes_outputs_of_older_code_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    toy.run()
    toy.settings["third"] = 2
    toy.run()
    old = toy.folder()
    toy.sources["third"] = toy.sources["third"].replace("y // 2", "int(y / 2)")
    assert do(Accept(reason="the same for small numbers"), capsys) == [
        "First            done",
        "Second           done",
        "Third            accepted: code of toy.code.helper changed",
    ]
    assert toy.run() == []
    assert toy.folder().resolve() == old
    (entry,) = outputs.read_manifest(old)["accepted"]
    assert entry["reason"] == "the same for small numbers"
    assert list(entry["code"]) == ["toy.code.helper"]
    toy.settings["third"] = 1  # an output that the same code made, for other settings
    assert toy.run() == []
    toy.sources["third"] = toy.sources["third"].replace("int(y / 2)", "y // 2")
    assert toy.run() == []
    assert "accepted" in "\n".join(do(Lineage(artifact=old.name), capsys))


def test_accept_is_for_code_alone(capsys: pytest.CaptureFixture[str]) -> None:
    toy.run()
    toy.sources["second"] = "def second(x, y):\n    return y\n"
    toy.settings["second"] = 2
    assert do(Accept(reason="why not"), capsys)[1:] == [
        "Second           not accepted: toy.second 1 → 2, code of toy.code.second changed",
        "Third            not accepted: an output before it is not there",
    ]
    assert toy.run() == ["second", "third"]
    with pytest.raises(DataError, match="say why"):
        Accept(reason=" ").act()


def test_an_output_that_was_edited_is_not_accepted(capsys: pytest.CaptureFixture[str]) -> None:
    toy.run()
    (toy.folder() / "number").write_text("99")
    toy.sources["third"] = toy.sources["third"].replace("y // 2", "int(y / 2)")
    said = do(Accept(reason="the same"), capsys)
    assert said[2] == "Third            not accepted: content differs from manifest: number"
    assert toy.run() == ["third"]


def test_an_accepted_output_can_be_forced_and_accepted_again(capsys: pytest.CaptureFixture[str]) -> None:
    toy.run()
    for number in (3, 4):
        toy.sources["third"] = toy.sources["third"].replace(f"y // {number - 1}", f"y // {number}")
        do(Accept(reason="again"), capsys)
        assert toy.run() == []
    assert len(outputs.read_manifest(toy.folder())["accepted"]) == 2
    assert toy.number() == 7
    assert toy.run(force=True) == ["third"]
    assert toy.number() == 4


def test_verify_reads_everything_and_names_what_differs(capsys: pytest.CaptureFixture[str]) -> None:
    toy.run()
    assert [line.split()[0] for line in do(Verify(), capsys)] == ["ok"] * 3
    file = toy.folder("second") / "number"
    before = file.stat()
    file.write_text("99")
    os.utime(str(file), ns=(before.st_atime_ns, before.st_mtime_ns))  # of the same size and time: nobody would look
    assert toy.run() == []
    with pytest.raises(StageError, match="1 outputs differ from their manifests"):
        do(Verify(), capsys)
    assert f"DIFFERS   {file.parent}  number" in capsys.readouterr().out
    assert toy.run() == ["second"]


def test_a_manifest_that_cannot_be_read_stops_neither_verify_nor_lineage(capsys: pytest.CaptureFixture[str]) -> None:
    for broken in ("{", '{"schema": 99}'):
        toy.run()
        (toy.folder("first") / outputs.MANIFEST).write_text(broken)
        with pytest.raises(StageError, match="1 outputs differ"):
            do(Verify(), capsys)
        said = capsys.readouterr().out.splitlines()
        assert [line.split()[0] for line in said] == ["DIFFERS", "ok", "ok"]
        key = next(folder.name for folder in made_in(Path("workspace").absolute()) if folder.parent.name == "Third")
        assert do(Lineage(artifact=key), capsys)[-1].endswith("its manifest cannot be read")
        (toy.folder("first") / outputs.MANIFEST).unlink()


def test_lineage_goes_back_to_the_beginning(capsys: pytest.CaptureFixture[str]) -> None:
    toy.run()
    for artifact in (str(toy.folder()), str(toy.folder() / "number"), toy.folder().name[:8]):
        lines = do(Lineage(artifact=artifact), capsys)
        assert [line.strip().split()[0] for line in lines if " made " in line] == ["third", "second", "first"]
        assert "        toy.first = 7" in lines
    link = Path("workspace/synthetic/stages/Third")
    assert do(Lineage(artifact=str(link)), capsys) == lines


def test_lineage_says_that_an_input_was_made_again(capsys: pytest.CaptureFixture[str]) -> None:
    toy.sources["first"] = "def first(x):\n    import time\n    return time.time_ns()\n"
    toy.run("second")
    old = toy.folder("second")
    toy.run("first", force=True)
    assert do(Lineage(artifact=str(old)), capsys)[2] == "  (made again since, with another content:)"


@pytest.mark.parametrize("artifact", ["", "nowhere", "workspace"])
def test_lineage_of_nothing_is_an_error(artifact: str) -> None:
    toy.run()
    with pytest.raises(DataError, match="no output of this workspace"):
        Lineage(artifact=artifact).act()


def test_clean_lists_and_deletes_what_nothing_leads_to(capsys: pytest.CaptureFixture[str]) -> None:
    toy.run()
    first = there()
    toy.settings["third"] = 2
    toy.run()
    assert len(there()) == 4
    listed = do(Clean(), capsys)
    (old,) = first - {toy.folder(name).name for name in toy.KINDS}
    assert len(listed) == 2
    assert old in listed[0]
    assert listed[1].endswith("in 1 outputs; --delete deletes them")
    assert len(there()) == 4
    assert do(Clean(delete=True), capsys)[1].endswith("in 1 outputs; deleted")
    assert there() == {toy.folder(name).name for name in toy.KINDS}
    assert not list(Path("workspace/artifacts").glob(f"*/{old}*"))
    assert toy.run() == []


def test_clean_keeps_what_an_unfinished_sweep_wants(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    toy.run()
    old = toy.folder()
    toy.settings["third"] = 2
    toy.run()
    with monkeypatch.context() as begun:
        begun.setattr(sweep, "wanted", lambda root: [old.name])
        assert do(Clean(delete=True), capsys)[-1].endswith("in 0 outputs; deleted")
    assert do(Clean(delete=True), capsys)[-1].endswith("in 1 outputs; deleted")


def test_clean_keeps_what_links_and_records_lead_to_and_what_it_is_made_of(capsys: pytest.CaptureFixture[str]) -> None:
    keys = []
    for value in (2, 3, 4):
        toy.settings["second"] = value
        toy.run()
        keys.append(toy.folder().name)
    assert len(there()) == 7
    os.symlink("../artifacts/Third/" + keys[0], "workspace/synthetic/pinned")
    Path("workspace/nightly").mkdir()
    Path("workspace/nightly/history.jsonl").write_text(json.dumps({"evaluate": keys[1]}) + "\n")
    assert do(Clean(delete=True), capsys)[-1].endswith("in 0 outputs; deleted")
    assert len(there()) == 7
    Path("workspace/nightly/history.jsonl").unlink()
    assert do(Clean(delete=True), capsys)[-1].endswith("in 2 outputs; deleted")


def test_clean_keeps_the_outputs_of_the_last_nights_and_of_accepted_ones(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "n.toml").write_text('[nightly]\nname = "n"\n[[run]]\nname = "a"\n[run.metrics.nme]\n')
    nights = [datetime.date(2026, 1, 1) + datetime.timedelta(days=number) for number in range(33)]
    for date in nights:
        key = f"{date.toordinal():016x}"
        output = Path("workspace").absolute() / "artifacts" / "Train" / key
        output.mkdir(parents=True)
        played = NightlyRegression(date, config="n.toml")
        point(played.folder / str(date) / "a-1" / "Train", output)
        (played.folder / str(date) / "a-1" / "case.log").write_text("")
        record = {"date": str(date), "plays": [{"stages": {"Train": {"key": key, "seconds": 1.0}}}]}
        played.write_verdict(record)
    for date in map(str, (datetime.date(2025, 12, 31), datetime.date(2026, 3, 1))):  # of the machine's failures
        played.write_verdict({"date": date, "plays": []})
    logs = Path("workspace/logs")
    logs.mkdir()
    for name in ("n-2026-01-01-a-1.log", "n-2026-01-01-a-1.log.1.gz", "n-2026-01-02-a-1.log", "n-2026-01-04-a-1.log"):
        (logs / ("nightly-" + name)).write_text("")
    assert do(Clean(), capsys)[-1].startswith("    0.0 MB  in 0 outputs")
    forget_old(played.folder, 30, {"2026-01-02"})
    do(Clean(delete=True), capsys)
    assert there() == {f"{date.toordinal():016x}" for date in [nights[1], *nights[3:]]}
    assert all((played.folder / str(date) / "verdict.json").is_file() for date in nights)
    assert sorted(log.name[10:20] for log in logs.iterdir()) == ["2026-01-02", "2026-01-04"]


def test_clean_keeps_an_interrupted_stage_of_the_experiment_and_removes_others(
    capsys: pytest.CaptureFixture[str],
) -> None:
    toy.run("second")
    kept = building(toy.folder())
    kept.mkdir(parents=True)
    other = kept.with_name("0123456789abcdef.building")
    other.mkdir()
    (other.parent / "fedcba9876543210.old").mkdir()
    (other.parent / "notes.txt").write_text("not ours")
    Path("workspace/synthetic/stages/Third").symlink_to(
        os.path.relpath(str(toy.folder()), "workspace/synthetic/stages")
    )
    do(Clean(delete=True), capsys)
    assert kept.exists()
    assert sorted(path.name for path in kept.parent.iterdir()) == sorted([kept.name, "notes.txt"])


def test_clean_removes_what_an_interrupted_forced_run_left_beside_the_whole_output(
    capsys: pytest.CaptureFixture[str],
) -> None:
    toy.run()
    building(toy.folder()).mkdir()
    do(Clean(delete=True), capsys)
    assert not building(toy.folder()).exists()
    assert toy.run() == []


def test_clean_leaves_what_a_run_came_to_want_meanwhile(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    toy.run()
    answers = iter([set(), *[there()] * 9])
    monkeypatch.setattr(Clean, "_wanted", lambda self: next(answers))
    do(Clean(delete=True), capsys)
    assert toy.run() == []


def test_clean_leaves_what_is_in_use(capsys: pytest.CaptureFixture[str]) -> None:
    toy.run()
    old = toy.folder()
    toy.settings["third"] = 2
    toy.run()
    with locks.lock(lock_of(old), "it", 0.0, shared=True):
        assert do(Clean(delete=True), capsys)[-1].endswith("in 0 outputs; deleted")
    assert old.exists()
    assert do(Clean(delete=True), capsys)[-1].endswith("in 1 outputs; deleted")
    assert not old.exists()


def test_a_workspace_that_cannot_be_written_is_told_in_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    toy.run()
    toy.sources["third"] = toy.sources["third"].replace("y // 2", "int(y / 2)")
    toy.changed()

    def refuse(*_: object) -> None:
        raise OSError(30, "Read-only file system", "workspace")

    monkeypatch.setattr(outputs.os, "replace", refuse)
    with pytest.raises(StageError, match="workspace: cannot be used: Read-only file system"):
        Accept(reason="the same").run()


def test_a_full_run_whose_results_are_not_there_any_more_says_which() -> None:
    """As when the central scheduler had another host make them, with other code."""
    toy.run("second")
    with pytest.raises(StageError, match="Third: made by other code or of other data than are here now"):
        FullRun().run()


def test_commands_are_run_every_time(capsys: pytest.CaptureFixture[str]) -> None:
    for _ in range(2):
        toy.changed()
        assert luigi.build([Verify()], local_scheduler=True, log_level="CRITICAL")
