"""ModelZoo's contract: the pure part here, the scripts themselves on the processor."""

import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import List

import numpy as np
import pytest
from PIL import Image

from fse import checkpoints, modelzoo
from fse.modelzoo import Result

ROOT = Path(__file__).resolve().parents[2]

CASE = "Factorized_ID1301_for_TensorFlow_bs4_1p_"
SETTINGS = (
    'crop.size=24,network.view=20,network.name="compact",network.landmarks=3,loss.diversity_window=2,'
    "train.summary_freq=1,train.save_freq=2,evaluate.bootstrap=20,evaluate.draws=2,report.examples=3"
)
ROWS = [
    {"step": 10.0, "seconds": 20.0, "loss_align": 9.0, "loss_diversity": 2.0, "loss_decay": 0.5},
    {"step": 30.0, "seconds": 24.0, "loss_align": 5.0, "loss_diversity": 1.0, "loss_decay": 0.25},
]


def folder(root: Path, annotated: bool) -> Path:
    """24 pictures, the last eight for testing if they are annotated."""
    images = root / "data" / "images" if annotated else root / "data"
    images.mkdir(parents=True)
    random = np.random.RandomState(0)
    lines = ["file,split,left_eye_x,left_eye_y,right_eye_x,right_eye_y"]
    for number in range(24):
        Image.fromarray(random.randint(0, 256, (30, 30, 3)).astype(np.uint8)).save(
            str(images / "{}.jpg".format(number))
        )
        split = "train" if number < 16 else "test"
        lines.append("{}.jpg,{},{},12,{},12".format(number, split, 8 + number % 3, 20 + number % 2))
    if annotated:
        (root / "data" / "landmarks.csv").write_text("\n".join(lines) + "\n")
    return root / "data"


def script(name: str, cwd: Path, *options: str) -> "subprocess.CompletedProcess[str]":
    environment = dict(
        os.environ, FSE_PYTHON=sys.executable, FSE_LOCKS=str(cwd), PYTHONWARNINGS="", ASCEND_DEVICE_ID="3"
    )
    return subprocess.run(
        ["bash", str(ROOT / "scripts" / name), *options],
        cwd=str(cwd),
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        universal_newlines=True,
        timeout=300,
    )


def keys(text: str) -> List[str]:
    return [line.split(" = ")[0] for line in text.splitlines()]


def test_the_case_log_has_modelzoos_keys_in_order() -> None:
    text = modelzoo.case_log(Result(8, 256, "acc", 512.0, 5.25, 61.6, 0.9))
    assert text.splitlines() == [
        "Network = Factorized_ID1301_for_TensorFlow",
        "RankSize = 8",
        "BatchSize = 256",
        "DeviceType = " + platform.machine(),
        "CaseName = Factorized_ID1301_for_TensorFlow_bs256_8p_acc",
        "ActualFPS = 512.00",
        "TrainingTime = 500.000",
        "TrainAccuracy = 0.9",
        "ActualLoss = 5.25",
        "E2ETrainingTime = 62",
    ]
    assert "TrainAccuracy" not in modelzoo.case_log(Result(1, 32, "perf", 1.0, 1.0, 1.0))
    assert "E2E" not in modelzoo.case_log(Result(1, 32, "perf", 1.0, 1.0, None))


def test_what_a_training_left_is_read(tmp_path: Path) -> None:
    lines = ["step,seconds,loss_align", *("{step},{seconds},{loss_align}".format(**row) for row in ROWS)]
    (tmp_path / "losses.csv").write_text("\n".join(lines) + "\n")
    (tmp_path / "training.json").write_text('{"batch_size": 32, "ranks": 2}')
    (tmp_path / "metrics.json").write_text('{"failure_rate_10": 0.25}')
    result, rows = modelzoo.read(tmp_path, "acc", None, tmp_path / "metrics.json")
    assert result == Result(2, 32, "acc", 160.0, 5.0, None, 0.75)
    log = modelzoo.write_case_log(tmp_path / "new", result, rows)
    assert log.name == "Factorized_ID1301_for_TensorFlow_bs32_2p_acc.log"
    assert (tmp_path / "new" / (log.stem + "_loss.txt")).read_text() == "9.0\n5.0\n"


def test_the_first_line_which_compiles_is_no_speed() -> None:
    assert modelzoo.speed(ROWS, 32) == 20 * 32 / 4.0
    assert modelzoo.speed(ROWS[:1], 32) == 10 * 32 / 20.0


def test_the_lines_that_peoples_scripts_read() -> None:
    lines = modelzoo.final_lines(Result(1, 32, "acc", 160.0, 5.0, 61.6, 0.9), ROWS, "progress  epoch 1 …").splitlines()
    assert lines == [
        "------------------ Final result ------------------",
        "Final Performance images/sec : 160.00",
        "Final Performance sec/step : 0.20000",
        "Final Train Accuracy : 0.9",
        "E2E Training Duration sec : 62",
        "progress  epoch 1 …",
        "loss_align 5.0",
        "loss_diversity 1.0",
        "loss_decay 0.25",
    ]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], '[Error] para "data_path" must be config'),
        (["--data_path=nowhere"], "nowhere: no such folder"),
        (["--data_path={}"], "no pictures there"),
        (["--data_path={}", "--profiling=True"], "--profiling=True: this version can only do False"),
        (["--data_path={}", "--precision_mode=force_fp32"], "this version can only do allow_mix_precision"),
    ],
)
def test_a_mistake_is_told_and_ends_with_1(options: List[str], message: str, tmp_path: Path, capsys) -> None:
    assert modelzoo.main(["full", *[option.format(tmp_path) for option in options]]) == 1
    assert message in capsys.readouterr().err


def test_every_option_of_modelzoo_is_taken(capsys) -> None:
    names = (
        "data_path output_path batch_size train_steps train_epochs learning_rate precision_mode profiling over_dump "
        "data_dump_flag data_dump_step autotune obs_url"
    )
    with pytest.raises(SystemExit) as ended:
        modelzoo.main(["full", "--help"])
    assert ended.value.code == 0
    shown = capsys.readouterr().out
    explained = (ROOT / "docs" / "replaced-codes.md").read_text()
    for name in names.split():
        assert "--" + name in shown
        assert "`--{}`".format(name) in explained


@pytest.mark.slow
def test_a_full_run_on_the_processor(tmp_path: Path) -> None:
    options = ["--data_path=data", "--device=cpu", "--batch_size=4", "--train_steps=4", "--set=" + SETTINGS]
    folder(tmp_path, annotated=True)
    done = script("train_full_1p.sh", tmp_path, *options)
    assert done.returncode == 0, done.stderr
    output = tmp_path / "output" / "3"
    lines = done.stdout.splitlines()
    assert lines[0] == "------------------ Final result ------------------"
    assert lines[5].startswith("progress  epoch 1  step 4  image/sec ")
    log = (output / (CASE + "acc.log")).read_text()
    assert keys(log)[-5:] == ["ActualFPS", "TrainingTime", "TrainAccuracy", "ActualLoss", "E2ETrainingTime"]
    assert len((output / (CASE + "acc_loss.txt")).read_text().split()) == 4
    assert lines[5] in (output / "train_3.log").read_text()
    assert [checkpoints.step_of(path) for path in checkpoints.found(output / "ckpt")] == [4, 2]

    # What fails ends with another code, and leaves no result of an earlier run.
    failed = script("train_full_1p.sh", tmp_path, *options, "--batch_size=99")
    assert failed.returncode == 1
    assert "train.batch_size is 99, but there are only 16 training pictures" in failed.stderr
    assert "Final result" not in failed.stdout
    assert not list(output.glob("Factorized_*"))


@pytest.mark.slow
def test_a_performance_run_on_pictures_without_annotations(tmp_path: Path) -> None:
    options = ["--data_path=data", "--device=cpu", "--batch_size=4", "--output_path=out", "--set=" + SETTINGS]
    folder(tmp_path, annotated=False)
    done = script("train_performance_1p.sh", tmp_path, *options)
    assert done.returncode == 0, done.stderr
    assert "Final Train Accuracy : not measured" in done.stdout
    assert "TrainAccuracy" not in keys((tmp_path / "out" / (CASE + "perf.log")).read_text())
    assert "Export" not in done.stderr
