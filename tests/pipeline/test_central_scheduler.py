"""The commands with `luigid`: its page, workers that share a workspace or a stage, forced reruns."""

import json
import os
import re
import shutil
import signal
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
    """The URL of a `luigid` for one test."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    folder = tmp_path / "luigid"
    folder.mkdir()
    # Two programs on this host stand for two hosts, and luigid soon gives up on a killed one.
    limits = "".join(f"{name}-{os.uname().nodename} = 2\n" for name in ("AlignCrop", "ConvertTFRecord"))
    patience = "worker_disconnect_delay = 5\nretry_delay = 1\n"
    (folder / "luigi.cfg").write_text(f"[scheduler]\n{patience}[resources]\n{limits}")
    program = [sys.executable, "-c", "from luigi.cmdline import luigid; luigid()", "--address", "127.0.0.1"]
    settings = dict(environment(folder), LUIGI_CONFIG_PATH=str(ROOT / "luigi.cfg"))
    with open(str(folder / "log"), "wb") as log:
        server = subprocess.Popen([*program, "--port", port], cwd=str(folder), env=settings, stdout=log, stderr=log)
    url = "http://127.0.0.1:" + port
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            tasks(url, "DONE")
            break
        except OSError:
            time.sleep(0.2)
    yield url
    server.terminate()
    server.wait(20)


def tasks(url: str, status: str) -> Dict[str, Any]:
    """Return the scheduler's tasks in a state, with the request that its page makes."""
    data = urllib.parse.quote(json.dumps({"status": status, "upstream_status": "", "search": ""}))
    with urllib.request.urlopen(f"{url}/api/task_list?data={data}", timeout=10) as answer:
        return dict(json.loads(answer.read().decode())["response"])


def start(folder: Path, url: str, *arguments: str, code: Path = ROOT) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        command(*arguments, "--scheduler-url", url),
        cwd=str(folder),
        env=environment(folder, code),
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


def test_the_page_shows_progress_message_and_log(copy: Path, scheduler: str) -> None:
    run = start(copy, scheduler, "Train", "--config", "tiny.toml", "--set", "train.steps=100000,train.seed=3")
    seen: Dict[str, Any] = {}
    deadline = time.monotonic() + 180
    while not seen.get("status_message") and time.monotonic() < deadline and run.poll() is None:
        time.sleep(0.5)
        seen = next((task for task in tasks(scheduler, "RUNNING").values() if task["name"] == "Train"), {})
    run.kill()
    errors = finish(run).stderr
    assert "train:" in seen.get("status_message", ""), errors
    assert 0 <= seen["progress_percentage"] <= 100
    assert seen["tracking_url"].startswith(f"file://{copy}/workspace/logs/train-")


def test_two_workers_share_a_workspace(copy: Path, scheduler: str) -> None:
    """The second one waits for the stage that the first one runs, and continues with its output."""
    elsewhere = copy.parent / "elsewhere"
    elsewhere.mkdir()
    common = ["--config", str(copy / "tiny.toml"), "--workspace", str(copy / "workspace")]
    common += ["--set", "train.steps=300,train.seed=4"]
    waits = ["--worker-keep-alive", "--worker-wait-interval", "1", "--worker-wait-jitter", "0"]
    first = start(copy, scheduler, "Train", *common)
    while not tasks(scheduler, "RUNNING") and first.poll() is None:
        time.sleep(0.1)
    second = start(elsewhere, scheduler, "Evaluate", *common, *waits)
    done: List[Any] = [finish(first), finish(second)]
    # Luigi's code 10: another worker was running some of the tasks.
    assert [run.returncode for run in done] == [0, 10], done
    assert sorted(started(done[0]) + started(done[1])) == ["Evaluate", "Export", "Train"]


SLEEP = "    __import__('time').sleep(0.2)\n"
SHARED = "    with outputs.shared_output(output, manifest) as building:\n"
WAITS = """\
        import os, time
        (building / "claims" / "here-{}".format(os.getpid())).touch()
        while len([*(building / "claims").glob("here-*")]) < 2:
            time.sleep(0.1)
"""


@pytest.fixture
def slow_code(tmp_path: Path) -> Path:
    """A copy of the code with slow shards of four images, in which the shares of two hosts wait for each other."""
    for package in ("fse", "tasks", "pipeline"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(str(ROOT / package), str(tmp_path / "code" / package), ignore=ignored)
    for name, old, new in (
        ("preprocessing/align_crop.py", "_IMAGES_PER_SHARD = 500", "_IMAGES_PER_SHARD = 4"),
        ("preprocessing/crop_image.py", "    crop.save(", SLEEP + "    crop.save("),
        ("stage_runner.py", SHARED, SHARED + WAITS),
        ("preprocessing/tfrecord.py", "    return encode_example(", SLEEP + "    return encode_example("),
    ):
        file = tmp_path / "code" / "fse" / name
        assert file.read_text().count(old) == 1
        file.write_text(file.read_text().replace(old, new))
    return tmp_path / "code"


def shares(done: Any, stage: str) -> List[int]:
    """Return how many of its 8 shards each share of a stage made in a run."""
    return [int(count) for count in re.findall(stage + r": (\d+) of 8 shards were made here", done.stderr)]


SHARING = ["--hosts", "2", "--worker-keep-alive", "--worker-wait-interval", "1", "--worker-wait-jitter", "0"]


def assert_as_alone(copy: Path, *stages: str) -> None:
    """Check that the slow code of two hosts made the same outputs as the unchanged code of one host."""
    for stage in stages:
        manifests = [
            json.loads(path.read_text()) for path in (copy / "workspace/artifacts" / stage).glob("*/manifest.json")
        ]
        assert len({manifest["key"] for manifest in manifests}) == len(manifests) == 2
        assert len({(manifest["content"], manifest["listing"], manifest["bytes"]) for manifest in manifests}) == 1
        assert not [*(copy / "workspace/artifacts" / stage).glob("*/claims")]
        assert not [*(copy / "workspace/artifacts" / stage).glob("*.building")]


def test_two_workers_share_the_shards_of_a_stage(copy: Path, slow_code: Path, scheduler: str) -> None:
    common = ["ConvertTFRecord", "--config", "tiny.toml", *SHARING]
    runs = [start(copy, scheduler, *common, code=slow_code) for _ in range(2)]
    done: List[Any] = [finish(run) for run in runs]
    # 25 if the worker did not learn which other worker ran the tasks.
    assert {run.returncode for run in done} <= {0, 10, 25}, done
    for stage in ("align-crop", "convert"):
        made = [sum(shares(run, stage)) for run in done]
        assert sum(made) == 8 and all(made), done  # each shard once, some by each worker
    assert sorted(started(done[0]) + started(done[1])) == ["AlignCrop", "ConvertTFRecord"]
    assert_as_alone(copy, "AlignCrop", "ConvertTFRecord")


def test_one_of_two_workers_that_share_is_killed(copy: Path, slow_code: Path, scheduler: str) -> None:
    common = ["AlignCrop", "--config", "tiny.toml", *SHARING]
    runs = [start(copy, scheduler, *common, code=slow_code) for _ in range(2)]
    claims = copy / "workspace/artifacts/AlignCrop"
    deadline = time.monotonic() + 60
    while len([*claims.glob("*.building/claims/0*")]) < 2 and time.monotonic() < deadline:
        time.sleep(0.1)
    runs[0].send_signal(signal.SIGKILL)
    while runs[1].poll() is None and time.monotonic() < deadline:
        tasks(scheduler, "RUNNING")  # a request makes luigid look for dead workers; by itself it does so once a minute
        time.sleep(0.5)
    killed, done = [finish(run) for run in runs]
    assert killed.returncode == -signal.SIGKILL, killed
    assert done.returncode in (0, 10, 25), done
    assert started(done) == ["AlignCrop"]
    assert_as_alone(copy, "AlignCrop")


def test_a_stage_can_be_forced_repeatedly(copy: Path, scheduler: str) -> None:
    for _ in range(2):
        done = finish(start(copy, scheduler, "Report", "--config", "tiny.toml", "--force"))
        assert done.returncode == 0, done.stderr
        assert started(done) == ["Report"]


def test_a_lost_output_is_rebuilt_at_once(copy: Path, scheduler: str) -> None:
    for _ in range(2):
        shutil.rmtree(str((copy / "workspace" / "tiny" / "report.html").resolve().parent))
        done = finish(start(copy, scheduler, "FullRun", "--config", "tiny.toml"))
        assert done.returncode == 0, done.stderr
        assert started(done) == ["Report"]
