import dataclasses
import json
import re
import shutil
from pathlib import Path
from typing import Any, List

import numpy as np
import pytest

from fse import cli
from fse.config import Config, as_tables
from fse.devices import gpu
from fse.errors import CheckpointError, ConfigError, DeviceError, TrainingError
from fse.inputs import rendering
from fse.runtime.files import write_json
from fse.tf1 import tf
from fse.training import checkpoint_paths, loss_table, train
from fse.training.loss_table import COLUMNS, LOSSES
from tests.fse.trainings import read_checkpoint, with_train


@pytest.fixture(scope="module")
def trained(tiny: Config, shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    train.train(tiny, shards, folder)
    return folder


def losses_of(folder: Path) -> List[List[float]]:
    """Return the rows of `losses.csv` without the columns that depend on time."""
    return [[row[name] for name in COLUMNS[:5]] for row in loss_table.read(folder)]


def test_training_writes_its_outputs(tiny: Config, trained: Path) -> None:
    summary = json.loads((trained / "training.json").read_text())
    assert (summary["steps"], summary["train_images"], summary["batch_size"]) == (6, 18, 4)
    assert summary["epochs"] == pytest.approx(6 * 4 / 18, abs=1e-3)
    assert summary["pairs_per_second"] > 0
    assert [line.split(",")[0] for line in (trained / "losses.csv").read_text().splitlines()] == ["step", *"123456"]
    assert tuple(loss_table.read(trained)[0]) == COLUMNS
    assert [checkpoint_paths.step_of(path) for path in checkpoint_paths.list_checkpoints(trained / "checkpoints")] == [
        6,
        4,
        2,
    ]
    tags = {
        value.tag
        for file in (trained / "summaries").iterdir()
        for event in tf.train.summary_iterator(str(file))
        for value in event.summary.value
    }
    assert {"loss_align", "loss_diversity", "loss_decay", "learning_rate"} <= tags
    assert {"Input", "Deformed", "PredA", "Landmark"} <= tags  # the reference implementations' names


def test_the_same_seed_gives_the_same_weights(tiny: Config, shards: Path, trained: Path, tmp_path: Path) -> None:
    train.train(tiny, shards, tmp_path)
    one, other = read_checkpoint(trained), read_checkpoint(tmp_path)
    assert all((one[name] == other[name]).all() for name in one)
    assert losses_of(tmp_path) == losses_of(trained)


@pytest.mark.parametrize("broken", [False, True])
def test_a_resumed_training_equals_an_uninterrupted_one(
    tiny: Config, shards: Path, trained: Path, tmp_path: Path, broken: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """The training was interrupted after its fourth step; with `broken`, that step's checkpoint is truncated."""
    shutil.copytree(str(trained), str(tmp_path / "run"))
    for file in (tmp_path / "run" / "checkpoints").glob("model-6.*"):
        file.unlink()
    if broken:
        data = next((tmp_path / "run" / "checkpoints").glob("model-4.data*"))
        data.write_bytes(data.read_bytes()[:1000])
    caplog.set_level("INFO")
    train.train(tiny, shards, tmp_path / "run")
    assert f"resuming from step {2 if broken else 4} of 6" in caplog.text
    assert ("model-4 cannot be read" in caplog.text) == broken
    one, other = read_checkpoint(trained), read_checkpoint(tmp_path / "run")
    assert all((one[name] == other[name]).all() for name in one)
    assert losses_of(tmp_path / "run") == losses_of(trained)


def test_resuming_on_a_gpu_restores_the_loss_scale(
    tiny: Config, shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """TensorFlow's loss scaling on the CPU, where it scales the loss but does not use half precision."""
    monkeypatch.setattr(tf.test, "is_gpu_available", lambda: True)
    monkeypatch.setattr(gpu, "_STEPS_BEFORE_DOUBLING", 5)
    settings = with_train(tiny, device="gpu", mixed_precision="on", keep_checkpoints=2)
    train.train(settings, shards, tmp_path)
    folder, uninterrupted = tmp_path / "checkpoints", read_checkpoint(tmp_path)
    scaling = {path.name: json.loads(path.read_text()) for path in folder.glob("*.scaling.json")}
    assert {name: sorted(values.values()) for name, values in scaling.items()} == {
        "model-4.scaling.json": [4, 2.0**15],
        "model-6.scaling.json": [1, 2.0**16],
    }
    for file in folder.glob("model-6.*"):
        file.unlink()
    train.train(settings, shards, tmp_path)
    assert json.loads((folder / "model-6.scaling.json").read_text()) == scaling["model-6.scaling.json"]
    resumed = read_checkpoint(tmp_path)
    assert all((resumed[name] == uninterrupted[name]).all() for name in uninterrupted)
    assert json.loads((tmp_path / "training.json").read_text())["loss_scale"] == 2.0**16


def test_a_training_resumes_from_the_checkpoint_option(
    tiny: Config, shards: Path, trained: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """`--checkpoint` continues a training with another device or number of ranks, or with more steps."""
    write_json(tmp_path / "longer.json", as_tables(with_train(tiny, steps=8)))
    options = ["train", "--config", str(tmp_path / "longer.json"), "--records", str(shards)]
    options += ["--checkpoint", str(trained / "checkpoints"), "--output", str(tmp_path / "longer")]
    assert cli.main(options) == 0
    assert [row[0] for row in losses_of(tmp_path / "longer")] == [7, 8]
    assert read_checkpoint(tmp_path / "longer")["global_step"] == 8
    (tmp_path / "none").mkdir()
    options[-3:] = [str(tmp_path / "none"), "--output", str(tmp_path / "other")]
    assert cli.main(options) == 1
    assert f"error: {tmp_path / 'none'}: no checkpoint model-<step> here" in capfd.readouterr().err


def test_files_of_an_interrupted_save_are_deleted(tiny: Config, shards: Path, trained: Path, tmp_path: Path) -> None:
    """The training was killed while it saved the sixth step, with a surplus checkpoint still in the folder."""
    folder = tmp_path / "run" / "checkpoints"
    shutil.copytree(str(trained), str(tmp_path / "run"))
    for suffix in ("index", "data-00000-of-00001"):
        (folder / f"model-6.{suffix}").rename(folder / f"model-6.{suffix}.tempstate77")
        shutil.copy(str(folder / f"model-4.{suffix}"), str(folder / f"model-1.{suffix}"))
    train.train(tiny, shards, tmp_path / "run")
    assert sorted(path.name for path in folder.iterdir()) == sorted(
        path.name for path in (trained / "checkpoints").iterdir()
    )


def test_a_complete_training_takes_no_further_steps(tiny: Config, shards: Path, trained: Path, tmp_path: Path) -> None:
    shutil.copytree(str(trained), str(tmp_path / "run"))
    (tmp_path / "run" / "training.json").unlink()
    train.train(tiny, shards, tmp_path / "run")
    assert json.loads((tmp_path / "run" / "training.json").read_text())["steps"] == 6


def test_progress_lines_are_those_of_the_reference_implementations(
    tiny: Config, shards: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    train.train(with_train(tiny, summary_freq=2), shards, tmp_path)
    lines = capfd.readouterr().out.splitlines()
    assert len(lines) == 4 * 3
    assert re.match(r"progress  epoch 1  step 2  image/sec \d+\.\d  remaining \d+m$", lines[0])
    for line, name in zip(lines[1:4], LOSSES):
        assert line.split()[0] == name
        assert np.isfinite(float(line.split()[1]))
    assert lines[8].startswith("progress  epoch 2  step 2  ")


def test_training_lowers_the_objective(tiny: Config, shards: Path, tmp_path: Path) -> None:
    train.train(with_train(tiny, steps=40, summary_freq=10, save_freq=100), shards, tmp_path)
    rows = losses_of(tmp_path)
    total = [align + 50.0 * diversity for _, align, diversity, *_ in rows]
    assert total[-1] < 0.9 * total[0]


def test_the_error_for_a_broken_shard_says_what_is_wrong(tiny: Config, shards: Path, tmp_path: Path) -> None:
    shutil.copytree(str(shards), str(tmp_path / "records"))
    for shard in (tmp_path / "records").glob("train-*"):
        shard.write_bytes(shard.read_bytes()[:-100])
    with pytest.raises(TrainingError, match="training stopped: .*truncated"):
        train.train(tiny, tmp_path / "records", tmp_path / "trained")


def test_training_with_three_views_per_image(tiny: Config, shards: Path, tmp_path: Path) -> None:
    train.train(dataclasses.replace(tiny, augment=dataclasses.replace(tiny.augment, views=3)), shards, tmp_path)
    assert losses_of(tmp_path)[-1][0] == 6


def test_mixed_precision_on_a_cpu_needs_current_tensorflow(
    tiny: Config, shards: Path, trained: Path, tmp_path: Path
) -> None:
    mixed = with_train(tiny, mixed_precision="on")
    if tf.__version__.startswith("1."):
        with pytest.raises(DeviceError, match="does not support on CPUs"):
            train.train(mixed, shards, tmp_path)
        return
    train.train(mixed, shards, tmp_path)
    np.testing.assert_allclose(losses_of(tmp_path)[0], losses_of(trained)[0], rtol=0.05)


def test_an_error_while_rendering_is_reported(
    tiny: Config, shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise ValueError("no such image")

    monkeypatch.setattr(rendering, "render", fail)
    with pytest.raises(TrainingError, match="training stopped: .*ValueError: no such image$"):
        train.train(tiny, shards, tmp_path)


def test_fewer_images_than_a_batch_are_refused(tiny: Config, shards: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="batch_size is 32, but there are only 18 training images"):
        train.train(with_train(tiny, batch_size=32), shards, tmp_path)


def test_images_of_another_size_are_refused(tiny: Config, shards: Path, tmp_path: Path) -> None:
    other = dataclasses.replace(tiny, crop=dataclasses.replace(tiny.crop, size=24))
    with pytest.raises(ConfigError, match="crop.size is 24, but the images"):
        train.train(other, shards, tmp_path)


def test_a_checkpoint_of_another_network_is_refused(tiny: Config, shards: Path, trained: Path, tmp_path: Path) -> None:
    shutil.copytree(str(trained), str(tmp_path / "run"))
    other = dataclasses.replace(tiny, network=dataclasses.replace(tiny.network, landmarks=5))
    with pytest.raises(CheckpointError, match=r"does not fit the network: layer_6/kernel.* is \[1, 1, 128, 4\] in it"):
        train.train(other, shards, tmp_path / "run")


def test_a_loss_that_is_not_finite_stops_training(tiny: Config, shards: Path, tmp_path: Path) -> None:
    wild = dataclasses.replace(tiny, loss=dataclasses.replace(tiny.loss, weight_decay=1e38))
    with pytest.raises(TrainingError, match=r"step \d: a loss is not finite"):
        train.train(wild, shards, tmp_path)


@pytest.mark.parametrize(("device", "message"), [("npu", "npu_bridge cannot be imported"), ("gpu", "finds none")])
def test_a_missing_device_is_an_error(tiny: Config, shards: Path, tmp_path: Path, device: str, message: str) -> None:
    if device == "gpu" and tf.test.is_gpu_available():
        pytest.skip("this machine has a GPU")
    with pytest.raises(DeviceError, match=message):
        train.train(with_train(tiny, device=device), shards, tmp_path)
