"""ModelZoo's scripts: their options as settings, and runs of the scripts on the CPU."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, List

import numpy as np
import pytest
from PIL import Image

from fse import config as configuration
from fse.compat import modelzoo
from fse.distributed import ranks
from fse.errors import StageError
from fse.training import checkpoint_paths
from tests import ascend_host

ROOT = Path(__file__).resolve().parents[3]

CASE = "Factorized_ID1301_for_TensorFlow_bs4_"
SETTINGS = (
    'crop.size=24,network.view=20,network.name="compact",network.landmarks=3,loss.diversity_window=2,'
    "train.summary_freq=1,train.save_freq=2,evaluate.bootstrap=20,evaluate.samples=2,report.examples=3"
)


def write_images(root: Path, annotated: bool) -> Path:
    """Create 24 images, of which the last eight are annotated test images if `annotated` is set."""
    images = root / "data" / "images" if annotated else root / "data"
    images.mkdir(parents=True)
    random = np.random.RandomState(0)
    lines = ["file,split,left_eye_x,left_eye_y,right_eye_x,right_eye_y"]
    for number in range(24):
        Image.fromarray(random.randint(0, 256, (30, 30, 3)).astype(np.uint8)).save(images / f"{number}.jpg")
        split = "train" if number < 16 else "test"
        lines.append(f"{number}.jpg,{split},{8 + number % 3},12,{20 + number % 2},12")
    if annotated:
        (root / "data" / "landmarks.csv").write_text("\n".join(lines) + "\n")
    return root / "data"


def script(name: str, cwd: Path, card: str, *options: str) -> "subprocess.CompletedProcess[str]":
    environment = dict(
        os.environ,
        FSE_PYTHON=sys.executable,
        FSE_LOCKS=str(cwd),
        FSE_DEVICE="cpu",
        PYTHONWARNINGS="",
        ASCEND_DEVICE_ID=card,
    )
    return subprocess.run(
        ["bash", str(ROOT / "scripts" / name), *options],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )


def keys(text: str) -> List[str]:
    return [line.split(" = ")[0] for line in text.splitlines()]


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make a folder with an image the current one."""
    for name in ("FSE_DEVICE", "ASCEND_DEVICE_ID", "RANK_TABLE_FILE", "RANK_SIZE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (30, 30)).save(tmp_path / "one.png")
    return tmp_path


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], '[Error] para "data_path" must be config'),
        (["--data_path=nowhere"], "nowhere: no such folder"),
        (["--data_path=empty"], "no images there"),
        (["--data_path=.", "--profiling=yes"], "--profiling=yes: wanted True or False"),
        (["--data_path=.", "--device=cpu", "--profiling=True"], "--profiling=True: only an NPU does that"),
        (["--data_path=.", "--set=train.device=gpu", "--autotune=true"], "--autotune=True: only an NPU does that"),
        (["--data_path=.", "--precision_mode=fastest"], "npu.precision_mode must be one of"),
        (
            ["--data_path=.", "--device=cpu", "--precision_mode=force_fp16"],
            "--precision_mode=force_fp16: train.device 'cpu' can only do allow_mix_precision, force_fp32",
        ),
        (["--data_path=.", "--data_dump_flag=True", "--data_dump_step=last"], "npu.dump_step must list steps as"),
        (["--data_path=.", "--data_dump_flag=True", "--over_dump=True"], "exclude each other"),
    ],
)
def test_a_mistake_is_an_error_with_exit_code_1(
    options: List[str], message: str, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (data / "empty").mkdir()
    assert modelzoo.main(["full", "1p", *options]) == 1
    assert message in capsys.readouterr().err


def settings(*options: str, cards: str = "1p") -> configuration.Config:
    """Return the settings that Luigi gets."""
    parsed = modelzoo._parser().parse_args(["full", cards, "--data_path=.", *options])
    changes = modelzoo._common_changes(parsed)
    changes.update(modelzoo._device_changes(parsed, parsed.device, Path("output").absolute()))
    return configuration.load("celeba_" + cards, modelzoo._overrides(changes, parsed.set))


def test_options_of_modelzoo_set_those_of_the_npu(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert settings().npu == configuration.Npu()
    assert settings("--precision_mode=force_fp16").npu.precision_mode == "force_fp16"
    profiled = settings("--profiling=True").npu
    assert profiled.profiling_mode
    assert json.loads(profiled.profiling_options)["output"] == str(data / "output" / "profiling")
    over = settings("--over_dump=True").npu
    assert (over.enable_dump_debug, over.dump_debug_mode, over.enable_dump) == (True, "all", False)
    assert over.dump_path == str(data / "output" / "over_dump")
    assert Path(over.dump_path).is_dir()
    dumped = settings("--data_dump_flag=True", "--data_dump_step=3-5").npu
    assert (dumped.enable_dump, dumped.dump_step, dumped.dump_mode) == (True, "3-5", "all")
    assert settings("--data_dump_flag=True").npu.dump_step == "10"
    tuned = settings("--autotune=True").npu
    assert (tuned.aoe_mode, tuned.work_path) == ("2", str(data / "output" / "autotune"))
    assert capsys.readouterr().err == ""
    settings("--data_dump_step=5")
    assert capsys.readouterr().err == "--data_dump_step=5: nothing is dumped without --data_dump_flag=True\n"


def test_precision_modes_on_other_devices(data: Path) -> None:
    assert settings("--device=gpu", "--precision_mode=allow_mix_precision").train.mixed_precision == "on"
    assert settings("--device=gpu", "--precision_mode=force_fp32").train.mixed_precision == "off"
    assert settings("--device=cpu", "--precision_mode=must_keep_origin_dtype").train.mixed_precision == "off"


def test_eight_cards_use_the_rank_table_of_the_environment(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert ranks.rank_count(settings(cards="8p").train) == 8
    monkeypatch.setenv("RANK_TABLE_FILE", str(ascend_host.rank_table(data / "ranks.json", tuple(range(8)))))
    assert settings(cards="8p").train.rank_table == str(data / "ranks.json")
    assert ranks.topology(settings(cards="8p").train).size == 8
    assert settings(cards="1p").train.rank_table == ""
    assert settings("--device=cpu", cards="8p").train.rank_table == ""


def test_every_option_of_modelzoo_is_accepted_and_documented(capsys: pytest.CaptureFixture[str]) -> None:
    names = (
        "data_path output_path batch_size train_steps train_epochs learning_rate precision_mode profiling over_dump "
        "data_dump_flag data_dump_step autotune obs_url"
    )
    with pytest.raises(SystemExit) as ended:
        modelzoo.main(["full", "1p", "--help"])
    assert ended.value.code == 0
    help_text = capsys.readouterr().out
    documented = (ROOT / "docs" / "reference-implementations.md").read_text()
    for name in names.split():
        assert "--" + name in help_text
        assert f"`--{name}`" in documented


@pytest.mark.slow
def test_a_full_run_on_the_cpu(tmp_path: Path) -> None:
    options = ["--data_path=data", "--batch_size=4", "--train_steps=4", "--set=" + SETTINGS]
    write_images(tmp_path, annotated=True)
    done = script("train_full_1p.sh", tmp_path, "3", *options)
    assert done.returncode == 0, done.stderr
    output = tmp_path / "output" / "3"
    lines = done.stdout.splitlines()
    assert lines[0] == "------------------ Final result ------------------"
    assert lines[5].startswith("progress  epoch 1  step 4  image/sec ")
    log = (output / (CASE + "1p_acc.log")).read_text()
    assert keys(log)[-5:] == ["ActualFPS", "TrainingTime", "TrainAccuracy", "ActualLoss", "E2ETrainingTime"]
    assert len((output / (CASE + "1p_acc_loss.txt")).read_text().split()) == 4
    assert lines[5] in (output / "train_3.log").read_text()
    assert [checkpoint_paths.step_of(path) for path in checkpoint_paths.list_checkpoints(output / "ckpt")] == [4, 2]


@pytest.mark.slow
def test_the_performance_of_two_ranks_on_images_without_annotations(tmp_path: Path) -> None:
    ranked = "--set=train.devices=2,train.threads=1," + SETTINGS
    options = ["--data_path=data", "--batch_size=4", "--train_steps=2", "--output_path=out", ranked]
    write_images(tmp_path, annotated=False)
    done = script("train_performance_8p.sh", tmp_path, "0", *options)
    assert done.returncode == 0, done.stderr
    assert "Final Train Accuracy : not measured" in done.stdout
    log = (tmp_path / "out" / (CASE + "2p_perf.log")).read_text()
    assert "RankSize = 2\nBatchSize = 4\n" in log
    assert "TrainAccuracy" not in keys(log)
    assert "Export" not in done.stderr
    assert sorted(path.name for path in (tmp_path / "out").glob("train_*.log")) == ["train_0.log", "train_1.log"]
    assert done.stdout.splitlines()[5] in (tmp_path / "out" / "train_0.log").read_text()
    assert "steps begin" in (tmp_path / "out" / "train_1.log").read_text()


def test_a_failure_ends_with_the_code_of_luigi_and_removes_earlier_results(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "0.jpg").write_bytes(b"no image")
    output = tmp_path / "output" / "3"
    output.mkdir(parents=True)
    (output / (CASE + "1p_acc.log")).write_text("RankSize = 1\n")
    failed = script("train_full_1p.sh", tmp_path, "3", "--data_path=data", "--set=" + SETTINGS)
    assert failed.returncode == 30, failed.stderr
    assert "luigi Train ended with exit code 30" in failed.stderr
    assert "Final result" not in failed.stdout
    assert not list(output.glob("Factorized_*"))


def test_a_training_that_fails_leaves_the_logs_of_all_cards(
    data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """They are in the unpublished output; older logs of an earlier attempt do not count."""
    workspace = data / "out" / "workspace"
    building = workspace / "artifacts" / "Train" / "key.building" / "logs"
    building.mkdir(parents=True)
    (building / "train_3.log").write_text("of yesterday")
    os.utime(building / "train_3.log", (1.0, 1.0))

    def fail(arguments: List[str], log: Any) -> None:
        link = workspace / configuration.load("celeba_8p").experiment.name / "stages" / "Train"
        link.parent.mkdir(parents=True)
        link.symlink_to(building.parent.with_name("key"))
        (workspace / "logs").mkdir()
        (workspace / "logs" / "train-key.log").write_text("of the stage")
        for card in range(3):
            (building / f"train_{card}.log").write_text(f"of card {card}")
        log.write(b"of luigi\n")
        error = StageError("luigi Train ended with exit code 55")
        error.code = 55
        raise error

    monkeypatch.setattr(modelzoo, "_luigi", fail)
    monkeypatch.setenv("ASCEND_DEVICE_ID", "0")
    assert modelzoo.main(["full", "8p", "--data_path=.", "--output_path=out", "--device=cpu"]) == 55
    assert "[Error] luigi Train ended with exit code 55" in capsys.readouterr().err
    logs = {path.name: path.read_text() for path in (data / "out").glob("train_*.log")}
    assert logs == {
        "train_0.log": "of luigi\nof card 0",
        "train_1.log": "of card 1",
        "train_2.log": "of card 2",
    }
