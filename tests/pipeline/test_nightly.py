"""Nights run by the real `luigi` program: a good night, a regression in the code, a failing machine, a recovery."""

import contextlib
import csv
import http.server
import json
import shutil
import sqlite3
import subprocess
import threading
from pathlib import Path
from typing import Any, Dict, List

import pytest

from fse.runtime import locks
from tests.pipeline.program import ROOT, STAGES, TINY, luigi, started
from tests.tasks.nightly.repositories import git
from tests.tasks.nightly.servers import MailHandler, mail_server

pytestmark = pytest.mark.slow

NIGHTLY = """
[nightly]
name = "n"
doctor = false
device_wait = 0
[[run]]
name = "accuracy"
config = "tiny.toml"
set = "train.threads=1"
[run.metrics.nme]
tolerance = 0.1
maximum = 10000.0
[run.metrics.loss_align]
tolerance = 0.1
[run.metrics.peak_megabytes]
tolerance = 1.0
[[hook]]
command = "sh -c 'cat >> messages.jsonl; echo >> messages.jsonl'"
"""


MAIL = """
[email]
receiver = team@example.org
[smtp]
host = 127.0.0.1
port = {}
"""

# Code for fse/evaluation/evaluate.py that makes the error a third larger, in place of GOOD_CODE.
GOOD_CODE = "summary.update(figures)"
BAD_CODE = 'summary.update(figures)\n    summary["nme"] *= 1.3'


def copy_code(folder: Path) -> Path:
    """Copy the code to a folder, where a test can change it; return the copy's path."""
    for package in ("fse", "tasks", "pipeline", "configs"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / package, folder / "code" / package, ignore=ignored)
    return folder / "code"


def run_night(folder: Path, date: str, *arguments: str, code: Path = ROOT) -> "subprocess.CompletedProcess[str]":
    """Run a night of the nightly `n.toml`."""
    return luigi(folder, "NightlyRegression", "--config", "n.toml", "--date", date, *arguments, code=code)


def verdict(folder: Path, date: str) -> Dict[str, Any]:
    """Return the content of a night's verdict file."""
    return dict(json.loads((folder / "workspace" / "nightly" / "n" / date / "verdict.json").read_text()))


def executed_stages(folder: Path, date: str, name: str = "accuracy-1") -> List[str]:
    """Return the stages that a night executed instead of reusing them."""
    log = folder / "workspace" / "logs" / f"nightly-n-{date}-{name}.log"
    return [stage for stage in STAGES if stage + ": started" in log.read_text()]


def test_good_bad_broken_and_recovered_nights(tmp_path: Path) -> None:
    (tmp_path / "tiny.toml").write_text(TINY)
    (tmp_path / "n.toml").write_text(NIGHTLY.replace("doctor = false", "doctor = true"))
    code = copy_code(tmp_path)
    good = (code / "fse" / "evaluation" / "evaluate.py").read_text()

    first = run_night(tmp_path, "2026-01-01", code=code)
    assert first.returncode == 0, first.stderr
    assert "n 2026-01-01: pass" in first.stdout
    assert executed_stages(tmp_path, "2026-01-01") == STAGES
    page = tmp_path / "workspace" / "nightly" / "n" / "index.html"
    assert "<h1>pass</h1>" in page.read_text()
    assert verdict(tmp_path, "2026-01-01")["doctor"][0]["fit"]
    (tmp_path / "n.toml").write_text(NIGHTLY)
    links = page.parent / "2026-01-01" / "accuracy-1"
    assert (links / "Report" / "report.html").is_file()
    case = (links / "Factorized_ID1301_for_TensorFlow_bs4_1p_acc.log").read_text()
    figures = verdict(tmp_path, "2026-01-01")["plays"][0]["metrics"]
    assert "\nTrainAccuracy = {}\n".format(round(1.0 - figures["failure_rate_10"], 4)) in case
    assert "\nE2ETrainingTime = {}\n".format(round(figures["end_to_end_seconds"])) in case
    accepted = luigi(
        tmp_path, "AcceptBaseline", "--config", "n.toml", "--date", "2026-01-01", "--reason", "the first", code=code
    )
    assert accepted.returncode == 0, accepted.stderr
    assert "the first" in (tmp_path / "baselines.toml").read_text()
    again = run_night(tmp_path, "2026-01-01", code=code)
    assert again.returncode == 0, again.stderr
    assert "n 2026-01-01: pass" in again.stdout

    second = run_night(tmp_path, "2026-01-02", code=code)
    assert second.returncode == 0, second.stderr
    assert "Train" in executed_stages(tmp_path, "2026-01-02")  # training is never reused, the data stages are
    assert not {"Download", "AlignCrop", "ConvertTFRecord"} & {*executed_stages(tmp_path, "2026-01-02")}
    stages = verdict(tmp_path, "2026-01-02")["plays"][0]["stages"]
    assert [name for name in STAGES if stages[name]["reused"]][:3] == ["Download", "AlignCrop", "ConvertTFRecord"]
    assert not stages["Train"]["reused"]

    bad_code = good.replace(GOOD_CODE, BAD_CODE)
    assert bad_code != good
    (code / "fse" / "evaluation" / "evaluate.py").write_text(bad_code)
    red = run_night(tmp_path, "2026-01-03", code=code)
    assert red.returncode == 62, red.stderr
    assert "accuracy.nme: in the repeat, " in red.stdout
    assert "Traceback" not in red.stderr
    assert [play["repeat"] for play in verdict(tmp_path, "2026-01-03")["plays"]] == [False, True]
    assert "<h1>regression</h1>" in page.read_text()
    shown = run_night(tmp_path, "2026-01-03", code=code)
    assert shown.returncode == 62
    assert started(shown) == []

    with locks.lock(tmp_path / "fse-device-cpu.lock", "somebody's training", 1.0):
        broken = run_night(tmp_path, "2026-01-04", code=code)
    assert broken.returncode == 61, broken.stderr
    assert verdict(tmp_path, "2026-01-04")["verdict"] == "infrastructure"
    assert "device cpu of this host is in use by" in broken.stdout
    with locks.lock(page.parent / "lock", "another nightly", 1.0):
        assert run_night(tmp_path, "2026-01-04", code=code).returncode == 10
    assert verdict(tmp_path, "2026-01-04")["verdict"] == "infrastructure"

    (code / "fse" / "evaluation" / "evaluate.py").write_text(good)
    of_params = json.dumps({"config": "n.toml"})
    arguments = ["--of", "NightlyRegression", "--of-params", of_params, "--start", "2026-01-01", "--stop", "2026-01-05"]
    recovered = luigi(tmp_path, "RangeDaily", *arguments, "--days-back", "10000", code=code)
    assert recovered.returncode == 0, recovered.stderr
    assert verdict(tmp_path, "2026-01-04")["verdict"] == "pass"
    assert [attempt["verdict"] for attempt in verdict(tmp_path, "2026-01-04")["attempts"]] == ["infrastructure"]
    messages = [line for line in (tmp_path / "messages.jsonl").read_text().splitlines() if line.strip()]
    assert [json.loads(line)["state"] for line in messages] == ["regression", "broken", "good"]
    assert json.loads((page.parent / "heartbeat").read_text())["verdict"] == "pass"

    exported = luigi(tmp_path, "ExportHistory", "--config", "n.toml", "--output-file", "h.csv")
    assert exported.returncode == 0, exported.stderr
    with open(tmp_path / "h.csv", newline="") as stream:
        rows = [row for row in csv.DictReader(stream) if row["metric"] == "nme"]
    assert [row["date"][-1] + row["repeat"] for row in rows] == ["10", "20", "30", "31", "40"]
    assert luigi(tmp_path, "ExportHistory", "--config", "n.toml", "--output-file", "h.jsonl").returncode == 0
    lines = [json.loads(line) for line in (tmp_path / "h.jsonl").read_text().splitlines()]
    assert [line["verdict"] for line in lines] == ["pass", "pass", "regression", "pass"]
    first_play = lines[0]["plays"][0]
    assert {name for name in STAGES if first_play["stages"][name]["key"] and first_play["stages"][name]["seconds"]} == {
        *STAGES
    }
    assert (first_play["seed"], lines[0]["environment"]["device"], len(lines[0]["config"])) == (1, "cpu", 16)
    assert {"python", "tensorflow", "machine", "host"} <= {*lines[0]["environment"]}


def test_a_machine_that_is_not_ready(tmp_path: Path) -> None:
    (tmp_path / "tiny.toml").write_text(TINY)
    (tmp_path / "n.toml").write_text(NIGHTLY.replace("doctor = false", "doctor = true"))
    broken = run_night(tmp_path, "2026-01-01", "--set", "train.device=npu")
    assert broken.returncode == 61, broken.stderr
    assert "n 2026-01-01: infrastructure" in broken.stdout
    assert started(broken) == []
    record = verdict(tmp_path, "2026-01-01")
    assert "driver: npu-smi" in record["reasons"][0]["words"]
    (report,) = record["doctor"]
    assert (report["device"], report["fit"]) == ("npu", False)
    assert record["environment"]["tensorflow"] == report["versions"]["tensorflow"]
    page = (tmp_path / "workspace" / "nightly" / "n" / "index.html").read_text()
    assert "not ready</b> for train.device=npu" in page
    assert "npu-smi info" in page  # what to do
    assert "Traceback" not in broken.stderr


def test_nights_without_data_or_with_a_newer_history(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The nightly sends one mail for the change of state, and Luigi sends none of its own."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    (tmp_path / "tiny.toml").write_text(TINY)
    (tmp_path / "n.toml").write_text(NIGHTLY)
    archive = "dataset.name='archive',dataset.archive='{}'"
    web = http.server.HTTPServer(("127.0.0.1", 0), http.server.SimpleHTTPRequestHandler)
    with mail_server() as mail_host, contextlib.closing(web.socket):
        threading.Thread(target=web.serve_forever, daemon=True).start()
        (tmp_path / "luigi.cfg").write_text(MAIL.format(mail_host.server_address[1]))
        of_params = json.dumps({"config": "n.toml", "set": archive.format("nowhere.zip")})
        range_arguments = [
            "--of",
            "NightlyRegression",
            "--of-params",
            of_params,
            "--start",
            "2026-01-01",
            "--stop",
            "2026-01-03",
        ]
        no_data = luigi(tmp_path, "RangeDaily", *range_arguments, "--days-back", "10000")
        assert no_data.returncode == 60, no_data.stderr
        assert [verdict(tmp_path, "2026-01-0" + day)["verdict"] for day in "12"] == ["no-data"] * 2
        assert no_data.stdout.count("nowhere.zip: no such file") == 2
        assert no_data.stdout.index("n 2026-01-01: no-data") < no_data.stdout.index("n 2026-01-02: no-data")
        url = f"http://127.0.0.1:{web.server_address[1]}/no-such.zip"
        not_found = run_night(tmp_path, "2026-01-01", "--set", archive.format(url))
        web.shutdown()
        assert not_found.returncode == 61, not_found.stderr
        assert verdict(tmp_path, "2026-01-01")["verdict"] == "infrastructure"
        history = tmp_path / "workspace" / "nightly" / "n" / "history.sqlite"
        with contextlib.closing(sqlite3.connect(str(history))) as connection:
            connection.execute("PRAGMA user_version = 99")
        newer = run_night(tmp_path, "2026-01-01")
    assert newer.returncode == 30, newer.stderr
    assert "written by a newer version of this program" in newer.stderr
    assert "Traceback" not in no_data.stderr + not_found.stderr + newer.stderr
    (mail,) = MailHandler.mails
    assert "Subject: n 2026-01-01: no-data" in mail


def test_bisect_reruns_only_the_stages_that_a_commit_changes(finished: Path, tmp_path: Path) -> None:
    shutil.copytree(finished / "workspace", tmp_path / "workspace", symlinks=True)
    (tmp_path / "tiny.toml").write_text(TINY)
    (tmp_path / "n.toml").write_text(NIGHTLY.replace('set = "train.threads=1"', "seeds = [1234]"))
    code = copy_code(tmp_path)
    git(code, "init", "-q")
    evaluation = code / "fse" / "evaluation" / "evaluate.py"
    commits = []
    for change in ("", "docs", BAD_CODE, "more docs"):
        if change == BAD_CODE:
            evaluation.write_text(evaluation.read_text().replace(GOOD_CODE, BAD_CODE))
        (code / "README").write_text(change)
        git(code, "add", "-A")
        git(code, "commit", "-q", "-m", "a change")
        commits.append(git(code, "rev-parse", "HEAD"))
    ends = ["--good", commits[0], "--bad", commits[-1]]
    bisected = luigi(tmp_path, "Bisect", "--config", "n.toml", "--metric", "nme", *ends, code=code)
    assert bisected.returncode == 0, bisected.stderr
    assert f"the first bad commit:\n{commits[2]}" in bisected.stdout
    log = (tmp_path / "workspace" / "logs" / "bisect.log").read_text()
    assert [stage for stage in STAGES for _ in range(log.count(stage + ": started"))] == ["Evaluate"]
    assert git(code, "worktree", "list").count("\n") == 0


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["NightlyRegression", "--date", "2999-01-01"], 45, "the date is in the future"),
        (["NightlyRegression", "--date", "2026-01-01", "--config", "nowhere"], 45, "there are: nightly, nightly_cpu"),
        (["NightlyRegression", "--date", "2026-01-01", "--set", "train.stepps=1"], 45, "did you mean train.steps"),
        (["AcceptBaseline", "--date", "2026-01-01", "--reason", "x"], 30, "has no night of this date"),
        (["ExportHistory", "--output-file", "x.txt"], 30, "use *.csv or *.jsonl"),
    ],
)
def test_exit_codes_of_user_errors(tmp_path: Path, arguments: List[str], code: int, message: str) -> None:
    failed = luigi(tmp_path, *arguments)
    assert failed.returncode == code, failed.stderr
    assert message in failed.stderr
    assert "Traceback" not in failed.stderr
