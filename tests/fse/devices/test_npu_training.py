"""Training on an NPU, with the stand-in for npu_bridge."""

import dataclasses
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict

import pytest

from fse import config, devices, errors
from fse.inputs import records
from fse.runtime.files import write_json
from fse.tf1 import tf
from fse.training import train
from fse.training.graph import build_graph
from tests.fse.trainings import read_checkpoint, with_train

ROOT = Path(__file__).resolve().parents[3]
STAND_IN = Path(__file__).parent / "stand_in"


def run_fse(
    folder: Path, settings: config.Config, shards: Path, **environment: str
) -> "subprocess.CompletedProcess[str]":
    """Run `fse train` with the stand-in for npu_bridge."""
    write_json(folder / "experiment.json", config.as_tables(settings))
    return subprocess.run(
        [sys.executable, "-m", "fse", "train", "--config", str(folder / "experiment.json"), "--records", str(shards)]
        + ["--output", str(folder / "out")],
        env=dict(os.environ, PYTHONPATH=f"{STAND_IN}:{ROOT}", PYTHONWARNINGS="", **environment),
        capture_output=True,
        text=True,
        timeout=300,
    )


def on_npu(tiny: config.Config, **train: Any) -> config.Config:
    return dataclasses.replace(tiny, train=dataclasses.replace(tiny.train, device="npu", threads=1, **train))


AVERAGED = {"ema_decay": 0.9, "clip_norm": 5.0}
OVERFLOWS = {"STAND_IN_OVERFLOWS": "4,5", "ASCEND_DEVICE_ID": "3"}


@pytest.fixture(scope="module")
def overflowed(tiny: config.Config, shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run with overflows in two steps; the file `stderr` holds its standard error."""
    folder = tmp_path_factory.mktemp("overflowed")
    done = run_fse(folder, on_npu(tiny, **AVERAGED), shards, **OVERFLOWS)
    assert done.returncode == 0, done.stderr
    (folder / "stderr").write_text(done.stderr)
    return folder


def test_an_npu_run_with_overflows(tiny: config.Config, shards: Path, overflowed: Path) -> None:
    stderr, out = (overflowed / "stderr").read_text(), overflowed / "out"
    assert "loss scale 2.14748e+09, 2 of 6 steps skipped" in stderr
    assert "compiled on the Ascend" not in stderr  # but in the log
    assert "compiled on the Ascend" in (out / "logs" / "train_3.log").read_text()
    summary = json.loads((out / "training.json").read_text())
    assert (summary["device"], summary["loss_scale"], summary["skipped_steps"]) == ("npu", 2.0**31, 2)
    with tf.Graph().as_default():
        plain = build_graph(with_train(tiny, **AVERAGED), records.read(shards), 6, devices.find(tiny))
        assert set(read_checkpoint(out)) == set(plain.checkpoint_variables)
    assert read_checkpoint(out)["global_step"] == 4


def test_a_resumed_run_restores_the_loss_scale(
    tiny: config.Config, shards: Path, overflowed: Path, tmp_path: Path
) -> None:
    """Two overflows halve it, one before the interruption and one after. On a CPU the checkpoints need no loss scale."""
    uninterrupted, folder = read_checkpoint(overflowed / "out"), overflowed / "out" / "checkpoints"
    scaling = {path.name: json.loads(path.read_text()) for path in folder.glob("*.scaling.json")}
    assert {name: (each["loss_scale"], each["bad_steps"]) for name, each in scaling.items()} == {
        "model-2.scaling.json": (2.0**32, 0),
        "model-4.scaling.json": (2.0**32, 1),
        "model-6.scaling.json": (2.0**31, 0),
    }

    for run in ("out.building", "cpu"):
        shutil.copytree(str(overflowed / "out"), str(tmp_path / run))
        for file in (tmp_path / run / "checkpoints").glob("model-6.*"):
            file.unlink()
    done = run_fse(tmp_path, on_npu(tiny, **AVERAGED), shards, **OVERFLOWS)
    assert done.returncode == 0, done.stderr
    resumed, file = read_checkpoint(tmp_path / "out"), tmp_path / "out" / "checkpoints" / "model-6.scaling.json"
    assert all((resumed[name] == uninterrupted[name]).all() for name in uninterrupted)
    assert json.loads(file.read_text()) == scaling["model-6.scaling.json"]

    train.train(with_train(tiny, **AVERAGED), shards, tmp_path / "cpu")
    left = {path.name for path in (tmp_path / "cpu" / "checkpoints").glob("*.scaling.json")}
    assert left == {"model-2.scaling.json", "model-4.scaling.json"}


def test_a_run_that_was_not_compiled_for_the_npu_fails(tiny: config.Config, shards: Path, tmp_path: Path) -> None:
    done = run_fse(tmp_path, on_npu(tiny, loss_scale=1024.0), shards, STAND_IN_ON_HOST="1")
    assert done.returncode == errors.EXIT_DEVICE_UNUSED, done.stderr
    assert (
        "error: train.device is 'npu', but rank 0 trained on the CPU: its log does not say that a step was compiled for "
        "the NPU" in done.stderr
    )
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_a_training_on_two_npus_continues_on_the_cpu(tiny: config.Config, shards: Path, tmp_path: Path) -> None:
    device = [{"device_id": str(card), "device_ip": f"127.0.0.{card + 1}", "rank_id": str(card)} for card in range(2)]
    table: Dict[str, Any] = {"status": "completed", "version": "1.0", "server_count": "1"}
    table["server_list"] = [{"server_id": "node_0", "device": device}]
    (tmp_path / "table.json").write_text(json.dumps(table))
    done = run_fse(tmp_path, on_npu(tiny, rank_table=str(tmp_path / "table.json"), loss_scale=1024.0), shards)
    assert done.returncode == 0, done.stderr
    for card in range(2):
        assert "compiled on the Ascend" in (tmp_path / "out" / "logs" / f"train_{card}.log").read_text()
    # Resume from step 4 on the CPU, with one rank and the same settings.
    for file in (tmp_path / "out" / "checkpoints").glob("model-6.*"):
        file.unlink()
    train.train(tiny, shards, tmp_path / "out")
    assert json.loads((tmp_path / "out" / "training.json").read_text())["device"] == "cpu"
