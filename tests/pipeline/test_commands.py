"""Plan, ShowConfig, Accept and single stages through the real `luigi` program; exit codes; imports while scheduling."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import List

import pytest

from fse.runtime import locks
from tests.pipeline.program import ROOT, STAGES, command, environment, luigi, started, tree

pytestmark = pytest.mark.slow


def plan(folder: Path, *arguments: str, code: Path = ROOT) -> List[str]:
    """Return the lines of a plan without estimates; check that it changes nothing."""
    before = tree(folder)
    done = luigi(folder, "Plan", "--config", "tiny.toml", *arguments, code=code)
    assert done.returncode == 0, done.stderr
    assert tree(folder) == before
    lines = [line[:29] + line[39:] for line in done.stdout.splitlines() if line.split()[0] in STAGES]
    assert [line.split()[0] for line in lines] == STAGES
    return [" ".join(line.split()[1:]) for line in lines]


def test_a_plan_lists_what_would_run_and_why(ran: Path) -> None:
    assert plan(ran) == ["done"] * 7
    changed = plan(ran, "--set", "train.learning_rate=3e-4")
    assert changed[:4] == ["done"] * 3 + ["will run train.learning_rate 0.0001 → 0.0003"]
    assert changed[4] == "will run Train runs first; skipped if its output does not change"
    assert changed[6] == "will run train.learning_rate 0.0001 → 0.0003"
    assert plan(ran, "--workspace", "nowhere") == ["will run never run"] * 7
    assert not (ran / "nowhere").exists()


def test_a_stage_with_unchanged_content_reruns_nothing_downstream(ran: Path) -> None:
    """TensorBoard's summaries and durations are not part of the content."""
    again = luigi(ran, "FullRun", "--config", "tiny.toml", "--set", "crop.processes=1,train.threads=1")
    assert again.returncode == 0, again.stderr
    assert "AlignCrop" not in started(again)
    assert "Train" in started(again)


def test_changed_code_is_named_and_can_be_accepted(ran: Path) -> None:
    code = ran.parent / "code"
    for package in ("fse", "tasks", "pipeline", "configs"):
        shutil.copytree(str(ROOT / package), str(code / package), ignore=shutil.ignore_patterns("__pycache__"))
    assert plan(ran, code=code) == ["done"] * 7
    file = code / "fse" / "preprocessing" / "align_crop.py"
    file.write_text(file.read_text() + "\n# a comment\n")
    assert plan(ran, code=code) == ["done"] * 7
    text = (code / "fse" / "report" / "results.py").read_text()
    (code / "fse" / "report" / "results.py").write_text(
        text.replace('return "', 'return "" "', 1).replace('"" "', '"a" "', 1)
    )
    assert plan(ran, code=code)[:6] == ["done"] * 6
    assert plan(ran, code=code)[6].startswith("will run code of fse.report.results.")
    accepted = luigi(ran, "Accept", "--config", "tiny.toml", "--reason", "only a word", code=code)
    assert accepted.returncode == 0, accepted.stderr
    assert "Report           accepted: code of fse.report.results." in accepted.stdout
    assert plan(ran, code=code) == ["done"] * 7
    assert plan(ran) == ["done"] * 7
    report = json.loads((ran / "workspace" / "tiny" / "report.html").resolve().with_name("manifest.json").read_text())
    assert report["accepted"][0]["reason"] == "only a word"
    assert luigi(ran, "Verify").returncode == 0


def test_every_setting_is_shown_with_its_origin(ran: Path) -> None:
    shown = luigi(ran, "ShowConfig", "--config", "tiny.toml", "--set", "train.steps=9,evaluate.eyes=['a','b']").stdout
    lines = [" ".join(line.split()) for line in shown.splitlines()]
    assert "steps = 9 # --set" in lines
    assert 'eyes = ["a", "b"] # --set' in lines
    assert "save_freq = 2 # tiny.toml" in lines
    assert "flip = true # default" in lines


def test_force_runs_one_stage_again(ran: Path) -> None:
    assert luigi(ran, "FullRun", "--config", "tiny.toml").returncode == 0
    for _ in range(2):
        again = luigi(ran, "Evaluate", "--config", "tiny.toml", "--force")
        assert again.returncode == 0, again.stderr
        assert started(again) == ["Evaluate"]
        assert "Evaluate: started: --force" in again.stderr
    after = luigi(ran, "FullRun", "--config", "tiny.toml")
    assert started(after) == []  # the content is the same


def test_only_runs_one_stage_or_lists_missing_inputs(ran: Path) -> None:
    refused = luigi(ran, "Evaluate", "--config", "tiny.toml", "--only", "--set", "train.seed=9")
    assert refused.returncode == 20
    assert "Train (train.seed 1234 → 9)" in refused.stderr
    assert started(refused) == []
    done = luigi(ran, "Evaluate", "--config", "tiny.toml", "--only", "--set", "evaluate.batch_size=3")
    assert done.returncode == 0, done.stderr
    assert started(done) == ["Evaluate"]


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_busy_device_has_its_own_exit_code(ran: Path, workers: str) -> None:
    lock = ran / "fse-device-cpu.lock"
    arguments = ["Train", "--config", "tiny.toml", "--set", "train.seed=7", "--device-wait", "1", "--workers", workers]
    with locks.lock(lock, "somebody's training", 1.0):
        busy = luigi(ran, *arguments)
    assert busy.returncode == 50, busy.stderr
    assert f"device cpu of this host is in use by process {os.getpid()} " in busy.stderr
    assert "Traceback" not in busy.stderr


def test_two_trainings_on_one_device_run_one_after_the_other(ran: Path) -> None:
    runs = []
    for seed in ("21", "22"):
        folder = ran.parent / seed
        shutil.copytree(str(ran), str(folder), symlinks=True)
        arguments = ["Train", "--config", "tiny.toml", "--set", "train.steps=40,train.seed=" + seed]
        runs.append(
            subprocess.Popen(
                command(*arguments),
                cwd=str(folder),
                env=environment(ran),
                stderr=subprocess.PIPE,
                universal_newlines=True,
            )
        )
    errors = [run.communicate(timeout=300)[1] for run in runs]
    assert [run.returncode for run in runs] == [0, 0]
    assert sum("waiting for device cpu of this host, in use by process" in text for text in errors) == 1


def test_the_same_command_twice_at_once_runs_the_stage_once(ran: Path) -> None:
    arguments = command("Train", "--config", "tiny.toml", "--set", "train.steps=40,train.seed=23")
    pipes = {"stderr": subprocess.PIPE, "universal_newlines": True}
    runs = [subprocess.Popen(arguments, cwd=str(ran), env=environment(ran), **pipes) for _ in range(2)]  # type: ignore[call-overload]
    errors = [run.communicate(timeout=300)[1] for run in runs]
    assert [run.returncode for run in runs] == [0, 0], errors
    assert sum("Train: started" in text for text in errors) == 1
    assert sum("reused an output" in text and "in use by process" in text for text in errors) == 1


def test_a_newer_manifest_is_a_scheduling_error(ran: Path) -> None:
    folder = ran.parent / "newer"
    shutil.copytree(str(ran), str(folder), symlinks=True)
    manifest = (folder / "workspace" / "tiny" / "stages" / "AlignCrop").resolve() / "manifest.json"
    manifest.write_text(json.dumps(dict(json.loads(manifest.read_text()), schema=99)))
    failed = luigi(folder, "FullRun", "--config", "tiny.toml")
    assert failed.returncode == 35
    assert "written by a newer version of this program (schema 99" in failed.stderr
    assert "Traceback" not in failed.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["Lineage", "--artifact", "nothing"], 30, "no output of this workspace"),
        (["Accept"], 30, "--reason: missing; say why"),
        (["Plan", "--set", "train.stepps=3"], 45, "did you mean train.steps"),
        (["Train", "--device-wait", "soon"], 40, "error: --device-wait soon: must be a whole number\n"),
        (["Sweep", "--seeds", "x"], 40, "error: --seeds x: must be a whole number\n"),
        (["FullRun", "--Train-device-wait", "x"], 40, "error: --Train-device-wait x: must be a whole number\n"),
        (["Train", "--no-such-flag"], 2, "--no-such-flag"),
        (["Trian"], 40, "error: no command Trian; did you mean Train?\n"),
        (["Nightly"], 40, "error: no command Nightly; did you mean NightlyRegression?\n"),
        (
            ["RangeDaily", "--of", "NightlyRegresion"],
            40,
            "error: --of: no command NightlyRegresion; did you mean NightlyRegression?\n",
        ),
    ],
)
def test_exit_codes(ran: Path, arguments: List[str], code: int, message: str) -> None:
    failed = luigi(ran, *arguments)
    assert failed.returncode == code, failed.stderr
    assert message in failed.stderr
    assert code != 40 or failed.stderr == message


def test_an_invalid_value_in_a_luigi_cfg_is_named(tmp_path: Path) -> None:
    (tmp_path / "luigi.cfg").write_text("[Train]\ndevice_wait = soon\n")
    failed = luigi(tmp_path, "FullRun")
    assert failed.returncode == 40
    assert failed.stderr == "error: [Train] device_wait = soon: must be a whole number\n"


def test_scheduling_imports_no_large_package(ran: Path) -> None:
    luigi(ran, "FullRun", "--config", "tiny.toml")
    arguments = ["--module", "pipeline", "FullRun", "--config", "tiny.toml"]
    code = (
        "import sys; sys.argv = ['luigi']\n"
        "from luigi.cmdline import luigi_run\n"
        f"try: luigi_run({arguments!r})\n"
        "except SystemExit as end: assert end.code == 0\n"
        "print([name for name in ('tensorflow', 'pandas', 'matplotlib', 'jinja2', 'PIL') "
        "if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=str(ran),
        env=environment(ran),
        stdout=subprocess.PIPE,
        text=True,
        timeout=60,
    )
    assert done.stdout.splitlines()[-1] == "[]"
