"""The same commands against `luigid`: what its page shows, two workers that share a workspace, forced reruns."""

import json
import shutil
import socket
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any, Dict, Iterator, List

import pytest

from tests.pipeline.program import ROOT, command, environment, started

pytestmark = pytest.mark.slow


@pytest.fixture
def scheduler(tmp_path: Path) -> Iterator[str]:
    """The address of a `luigid` of its own."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    folder = tmp_path / "luigid"
    folder.mkdir()
    program = [sys.executable, "-c", "from luigi.cmdline import luigid; luigid()", "--address", "127.0.0.1"]
    settings = dict(environment(folder), LUIGI_CONFIG_PATH=str(ROOT / "luigi.cfg"))
    with open(str(folder / "log"), "wb") as log:
        server = subprocess.Popen([*program, "--port", port], cwd=str(folder), env=settings, stdout=log, stderr=log)
    address = "http://127.0.0.1:" + port
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            tasks(address, "DONE")
            break
        except OSError:
            time.sleep(0.2)
    yield address
    server.terminate()
    server.wait(20)


def tasks(address: str, status: str) -> Dict[str, Any]:
    """The scheduler's tasks in a state, as its page asks for them."""
    data = urllib.parse.quote(json.dumps({"status": status, "upstream_status": "", "search": ""}))
    with urllib.request.urlopen("{}/api/task_list?data={}".format(address, data), timeout=10) as answer:
        return dict(json.loads(answer.read().decode())["response"])


def start(folder: Path, address: str, *arguments: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        command(*arguments, "--scheduler-url", address),
        cwd=str(folder),
        env=environment(folder),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        universal_newlines=True,
    )


def finish(run: "subprocess.Popen[str]") -> "subprocess.CompletedProcess[str]":
    out, err = run.communicate(timeout=300)
    return subprocess.CompletedProcess(run.args, run.returncode, out, err)


@pytest.fixture
def copy(finished: Path, tmp_path: Path) -> Path:
    shutil.copytree(str(finished), str(tmp_path / "copy"), symlinks=True)
    return tmp_path / "copy"


def test_its_page_shows_progress_message_and_log(copy: Path, scheduler: str) -> None:
    run = start(copy, scheduler, "Train", "--config", "tiny.toml", "--set", "train.steps=100000,train.seed=3")
    seen: Dict[str, Any] = {}
    deadline = time.monotonic() + 180
    while not seen.get("status_message") and time.monotonic() < deadline and run.poll() is None:
        time.sleep(0.5)
        seen = next((task for task in tasks(scheduler, "RUNNING").values() if task["name"] == "Train"), {})
    run.kill()
    said = finish(run).stderr
    assert "train:" in seen.get("status_message", ""), said
    assert 0 <= seen["progress_percentage"] <= 100
    assert seen["tracking_url"].startswith("file://{}/workspace/logs/train-".format(copy))


def test_two_workers_share_a_workspace(copy: Path, scheduler: str) -> None:
    """The second one waits for the stage that the first one is at, and goes on with its output."""
    elsewhere = copy.parent / "elsewhere"
    elsewhere.mkdir()
    common = ["--config", str(copy / "tiny.toml"), "--workspace", str(copy / "workspace")]
    common += ["--set", "train.steps=60,train.seed=4"]
    waits = ["--worker-keep-alive", "--worker-wait-interval", "1", "--worker-wait-jitter", "0"]
    first = start(copy, scheduler, "Train", *common)
    time.sleep(3.0)
    second = start(elsewhere, scheduler, "Evaluate", *common, *waits)
    done: List[Any] = [finish(first), finish(second)]
    # 10 is Luigi's word for: another worker had a part in it.
    assert [run.returncode for run in done] == [0, 10], done
    assert sorted(started(done[0]) + started(done[1])) == ["Evaluate", "Export", "Train"]


def test_forced_reruns_are_not_refused(copy: Path, scheduler: str) -> None:
    for _ in range(2):
        done = finish(start(copy, scheduler, "Report", "--config", "tiny.toml", "--force"))
        assert done.returncode == 0, done.stderr
        assert started(done) == ["Report"]


def test_a_lost_output_is_made_again_at_once(copy: Path, scheduler: str) -> None:
    for _ in range(2):
        shutil.rmtree(str((copy / "workspace" / "tiny" / "report.html").resolve().parent))
        done = finish(start(copy, scheduler, "FullRun", "--config", "tiny.toml"))
        assert done.returncode == 0, done.stderr
        assert started(done) == ["Report"]
