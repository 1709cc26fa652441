"""The nightly's history: writers at once, killed writers, older and newer files, exports; and accepted baselines."""

import csv
import io
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Dict

import pytest

from fse.errors import ConfigError, DataError, StageError
from tasks.nightly import baseline, history
from tasks.nightly.history import History, Told

ROOT = Path(__file__).resolve().parents[3]


def record(date: str, verdict: str = "pass", nme: Any = 7.5, environment: str = "here", **more: Any) -> Dict[str, Any]:
    plays = [
        {"run": "a", "seed": seed, "repeat": False, "metrics": {"nme": nme and nme + seed}, "outcome": "ok"}
        for seed in (1, 2)
    ]
    known = {"nightly": "n", "date": date, "verdict": verdict, "fingerprint": environment, "commit": "c0ffee"}
    return dict(known, plays=plays, **more)


def test_a_night_is_kept_and_replaced_whole(tmp_path: Path) -> None:
    kept = History(tmp_path / "new" / "history.sqlite")
    kept.save(record("2026-11-02", nme=9.0))
    kept.save(record("2026-11-02", nme=8.0))
    kept.save(record("2026-11-01", reasons=["é"]))
    assert [night["date"] for night in History(kept.path).records()] == ["2026-11-01", "2026-11-02"]
    assert kept.past("here", "a", "nme", "", "2026-11-09") == [9.0, 9.5]
    assert kept.record("2026-11-03") is None


def test_the_past_is_what_was_good_here_since_the_last_accepted_change(tmp_path: Path) -> None:
    kept = History(tmp_path / "history.sqlite")
    kept.save(record("2026-11-01", nme=1.0))
    kept.save(record("2026-11-02", nme=2.0, verdict="warn"))
    kept.save(record("2026-11-03", nme=3.0, verdict="regression"))
    kept.save(record("2026-11-04", nme=4.0, environment="elsewhere"))
    kept.save(record("2026-11-05", nme=float("nan")))
    kept.save(record("2026-11-06", nme=6.0, verdict=""))
    assert kept.past("here", "a", "nme", "", "2026-11-09") == [2.5, 3.5]
    assert kept.past("here", "a", "nme", "2026-11-02", "2026-11-09") == [3.5]
    assert kept.past("here", "a", "nme", "", "2026-11-02") == [2.5]
    assert [night["date"] for night in kept.before("2026-11-03")] == ["2026-11-01", "2026-11-02"]


def test_exports(tmp_path: Path) -> None:
    kept = History(tmp_path / "history.sqlite")
    kept.save(record("2026-11-01"))
    kept.save(record("2026-11-02", nme=float("nan")))
    table, lines = io.StringIO(), io.StringIO()
    kept.write_csv(table)
    rows = list(csv.DictReader(io.StringIO(table.getvalue())))
    assert [(row["date"], row["seed"], row["value"]) for row in rows] == [
        ("2026-11-01", "1", "8.5"),
        ("2026-11-01", "2", "9.5"),
        ("2026-11-02", "1", ""),
        ("2026-11-02", "2", ""),
    ]
    kept.write_lines(lines)
    assert [json.loads(line)["date"] for line in lines.getvalue().splitlines()] == ["2026-11-01", "2026-11-02"]


def test_an_older_file_is_brought_up_to_date_and_a_newer_one_refused(tmp_path: Path, monkeypatch: Any) -> None:
    path = tmp_path / "history.sqlite"
    with monkeypatch.context() as older:
        older.setattr(history, "MIGRATIONS", history.MIGRATIONS[:1])
        History(path).save(record("2026-11-01"))
    kept = History(path)
    assert [night["date"] for night in kept.records()] == ["2026-11-01"]
    told = Told("2026-11-01", "mail", "good", "now", "")
    kept.tell(told)
    assert kept.told() == kept.told("mail") == [told]
    connection = sqlite3.connect(str(path))
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(StageError, match="newer version of this program .schema 99"):
        History(path)


@pytest.mark.parametrize(
    ("old", "now"),
    [(None, []), ("no such verb", []), ({"checks": [], "fit": True}, [{"checks": [], "fit": True}]), ([], [])],
)
def test_what_the_doctor_found_was_one_report_once(tmp_path: Path, monkeypatch: Any, old: Any, now: Any) -> None:
    path = tmp_path / "history.sqlite"
    with monkeypatch.context() as older:
        older.setattr(history, "MIGRATIONS", history.MIGRATIONS[:2])
        History(path).save(record("2026-11-01", doctor=old))
    (night,) = History(path).records()
    assert night["doctor"] == now
    assert night == record("2026-11-01", doctor=now)
    assert History(path).past("here", "a", "nme", "", "2026-11-09") == [9.0]


def test_a_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    (tmp_path / "history.sqlite").write_text("nothing of the sort, but long enough to be looked at" * 50)
    with pytest.raises(DataError, match="is not a nightly's history"):
        History(tmp_path / "history.sqlite")


WRITER = """
import sys, pathlib
from tasks.nightly.history import History
kept = History(pathlib.Path(sys.argv[1]))
for number in range(int(sys.argv[3])):
    date = "2026-%s-%05d" % (sys.argv[2], number)
    plays = [{"run": "a", "seed": seed, "repeat": False, "metrics": {"m": 1.0}} for seed in range(20)]
    kept.save({"date": date, "verdict": "pass", "fingerprint": "f", "commit": "", "plays": plays})
"""


def writer(path: Path, name: str, count: int) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-c", WRITER, str(path), name, str(count)]
    return subprocess.Popen(command, env=dict(os.environ, PYTHONPATH=str(ROOT)))


def test_writers_at_once_lose_nothing(tmp_path: Path) -> None:
    path = tmp_path / "history.sqlite"
    writers = [writer(path, name, 10) for name in ("a", "b", "c")]
    assert [one.wait(120) for one in writers] == [0, 0, 0]
    assert len(History(path).records()) == 30


def test_a_killed_writer_leaves_a_history_that_opens_with_whole_nights(tmp_path: Path) -> None:
    path = tmp_path / "history.sqlite"
    for round_ in range(3):
        one = writer(path, str(round_), 100000)
        least = len(History(path).records()) + 2
        deadline = time.monotonic() + 60
        while len(History(path).records()) < least and time.monotonic() < deadline:
            time.sleep(0.02)
        one.send_signal(signal.SIGKILL)
        one.wait()
        kept = History(path)
        nights = kept.records()
        assert len(nights) >= least
        table = io.StringIO()
        kept.write_csv(table)
        assert len(table.getvalue().splitlines()) == 1 + 20 * len(nights)
        kept.save(record(f"2026-12-0{round_}"))
        path.unlink()


def test_a_baseline_is_a_text_that_only_grows(tmp_path: Path) -> None:
    path = tmp_path / "baselines.toml"
    assert baseline.read(path, "n") == []
    first = baseline.accept(path, record("2026-11-01", nme=7.0), 'Python 3, "cpu"', "the first")
    other = baseline.accept(path, record("2026-11-02", environment="elsewhere"), "NPU", "another machine\n")
    second = baseline.accept(
        path, record("2026-11-03", nme=6.0, verdict="regression"), "here", "meant: 50 % fewer steps"
    )
    accepted = baseline.read(path, "n")
    assert accepted == [first, other, second]
    assert baseline.in_force(accepted, "here") == second
    assert baseline.in_force(accepted, "nowhere") is None
    assert (second.replaces, second.values) == ("2026-11-01", {"a.nme": [7.0, 8.0]})
    assert (first.replaces, first.about, first.commit) == ("", 'Python 3, "cpu"', "c0ffee")
    assert "was 8, 9" in path.read_text()
    assert first.who and first.when and other.why == "another machine"
    assert baseline.read(path, "another nightly") == []


def test_what_cannot_be_accepted(tmp_path: Path) -> None:
    path = tmp_path / "baselines.toml"
    with pytest.raises(DataError, match="--reason"):
        baseline.accept(path, record("2026-11-01"), "", " ")
    for verdict in ("infrastructure", "no-data", ""):
        with pytest.raises(DataError, match="cannot be accepted"):
            baseline.accept(path, record("2026-11-01", verdict), "", "why not")
    assert not path.exists()
    path.write_text("[[accepted]]\nnightly = 'n'\n")
    with pytest.raises(ConfigError, match="not what AcceptBaseline writes"):
        baseline.read(path, "n")
