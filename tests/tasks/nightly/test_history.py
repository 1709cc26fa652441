"""The history of a nightly: concurrent and killed writers, older and newer files, exports."""

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
from typing import Any

import pytest

from fse.errors import DataError, StageError
from tasks.nightly import history
from tasks.nightly.history import History, Notification
from tests.tasks.nightly.records import make_record

ROOT = Path(__file__).resolve().parents[3]


def test_a_record_replaces_the_earlier_one_of_its_date(tmp_path: Path) -> None:
    nights = History(tmp_path / "new" / "history.sqlite")
    nights.save(make_record("2026-11-02", nme=9.0))
    nights.save(make_record("2026-11-02", nme=8.0))
    nights.save(make_record("2026-11-01", reasons=["é"]))
    assert [record["date"] for record in History(nights.path).records()] == ["2026-11-01", "2026-11-02"]
    assert nights.past_means("here", "a", "nme", "", "2026-11-09") == [9.0, 9.5]
    assert nights.record("2026-11-03") is None


def test_past_means_are_of_good_nights_in_the_environment_since_a_date(tmp_path: Path) -> None:
    nights = History(tmp_path / "history.sqlite")
    nights.save(make_record("2026-11-01", nme=1.0))
    nights.save(make_record("2026-11-02", nme=2.0, verdict="warn"))
    nights.save(make_record("2026-11-03", nme=3.0, verdict="regression"))
    nights.save(make_record("2026-11-04", nme=4.0, environment="elsewhere"))
    nights.save(make_record("2026-11-05", nme=float("nan")))
    nights.save(make_record("2026-11-06", nme=6.0, verdict=""))
    assert nights.past_means("here", "a", "nme", "", "2026-11-09") == [2.5, 3.5]
    assert nights.past_means("here", "a", "nme", "2026-11-02", "2026-11-09") == [3.5]
    assert nights.past_means("here", "a", "nme", "", "2026-11-02") == [2.5]
    assert [record["date"] for record in nights.records_before("2026-11-03")] == ["2026-11-01", "2026-11-02"]


def test_exports(tmp_path: Path) -> None:
    nights = History(tmp_path / "history.sqlite")
    nights.save(make_record("2026-11-01"))
    nights.save(make_record("2026-11-02", nme=float("nan")))
    table, lines = io.StringIO(), io.StringIO()
    nights.write_csv(table)
    rows = list(csv.DictReader(io.StringIO(table.getvalue())))
    assert [(row["date"], row["seed"], row["value"]) for row in rows] == [
        ("2026-11-01", "1", "8.5"),
        ("2026-11-01", "2", "9.5"),
        ("2026-11-02", "1", ""),
        ("2026-11-02", "2", ""),
    ]
    nights.write_jsonl(lines)
    assert [json.loads(line)["date"] for line in lines.getvalue().splitlines()] == ["2026-11-01", "2026-11-02"]


def test_an_older_file_is_migrated_and_a_newer_file_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "history.sqlite"
    with monkeypatch.context() as old_version:
        old_version.setattr(history, "MIGRATIONS", history.MIGRATIONS[:1])
        History(path).save(make_record("2026-11-01"))
    nights = History(path)
    assert [record["date"] for record in nights.records()] == ["2026-11-01"]
    notification = Notification("2026-11-01", "mail", "good", "now", "")
    nights.save_notification(notification)
    assert nights.notifications() == nights.notifications("mail") == [notification]
    connection = sqlite3.connect(str(path))
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(StageError, match="newer version of this program .schema 99"):
        History(path)


@pytest.mark.parametrize(
    ("old", "now"),
    [(None, []), ("no such command", []), ({"checks": [], "fit": True}, [{"checks": [], "fit": True}]), ([], [])],
)
def test_a_single_doctor_report_is_migrated_to_a_list(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, old: Any, now: Any
) -> None:
    path = tmp_path / "history.sqlite"
    with monkeypatch.context() as old_version:
        old_version.setattr(history, "MIGRATIONS", history.MIGRATIONS[:2])
        History(path).save(make_record("2026-11-01", doctor=old))
    (night,) = History(path).records()
    assert night["doctor"] == now
    assert night == make_record("2026-11-01", doctor=now)
    assert History(path).past_means("here", "a", "nme", "", "2026-11-09") == [9.0]


def test_the_advice_of_a_doctor_check_is_renamed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "history.sqlite"
    check = {"name": "disk", "status": "warning", "found": "5.0 GB free"}
    with monkeypatch.context() as old_version:
        old_version.setattr(history, "MIGRATIONS", history.MIGRATIONS[:3])
        History(path).save(make_record("2026-11-01", doctor=[{"checks": [dict(check, mend="free some")], "fit": True}]))
    expected = make_record("2026-11-01", doctor=[{"checks": [dict(check, fix="free some")], "fit": True}])
    assert History(path).records() == [expected]
    assert History(path).past_means("here", "a", "nme", "", "2026-11-09") == [9.0]


def test_a_file_that_is_not_a_history_is_refused(tmp_path: Path) -> None:
    (tmp_path / "history.sqlite").write_text("nothing of the sort, but long enough to be looked at" * 50)
    with pytest.raises(DataError, match="is not a nightly's history"):
        History(tmp_path / "history.sqlite")


WRITER = """
import sys, pathlib
from tasks.nightly.history import History
nights = History(pathlib.Path(sys.argv[1]))
for number in range(int(sys.argv[3])):
    date = "2026-%s-%05d" % (sys.argv[2], number)
    plays = [{"run": "a", "seed": seed, "repeat": False, "metrics": {"m": 1.0}} for seed in range(20)]
    nights.save({"date": date, "verdict": "pass", "fingerprint": "f", "commit": "", "plays": plays})
"""


def writer(path: Path, name: str, count: int) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-c", WRITER, str(path), name, str(count)]
    return subprocess.Popen(command, env=dict(os.environ, PYTHONPATH=str(ROOT)))


def test_concurrent_writers_lose_nothing(tmp_path: Path) -> None:
    path = tmp_path / "history.sqlite"
    writers = [writer(path, name, 10) for name in ("a", "b", "c")]
    assert [process.wait(120) for process in writers] == [0, 0, 0]
    assert len(History(path).records()) == 30


def test_a_killed_writer_leaves_a_readable_history_with_complete_nights(tmp_path: Path) -> None:
    path = tmp_path / "history.sqlite"
    for attempt in range(3):
        process = writer(path, str(attempt), 100000)
        min_nights = len(History(path).records()) + 2
        deadline = time.monotonic() + 60
        while len(History(path).records()) < min_nights and time.monotonic() < deadline:
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
        process.wait()
        nights = History(path)
        records = nights.records()
        assert len(records) >= min_nights
        table = io.StringIO()
        nights.write_csv(table)
        assert len(table.getvalue().splitlines()) == 1 + 20 * len(records)
        nights.save(make_record(f"2026-12-0{attempt}"))
        path.unlink()
