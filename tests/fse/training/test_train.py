import csv
import dataclasses
import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fse import cli, devices, geometry
from fse.config import Config, as_tables
from fse.devices import gpu
from fse.errors import CheckpointError, ConfigError, DeviceError, TrainingError
from fse.inputs import augment, records, rendering
from fse.model import network
from fse.runtime import outputs
from fse.tf1 import tf
from fse.training import checkpoints, train
from tests.fse.trainings import changed, stored


@pytest.fixture(scope="module")
def trained(tiny: Config, shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    train.train(tiny, shards, folder)
    return folder


def losses_of(folder: Path) -> list:
    with open(str(folder / "losses.csv"), newline="") as stream:
        return [[row[name] for name in train.COLUMNS[:5]] for row in csv.DictReader(stream)]


def test_training_leaves_what_it_promises(tiny: Config, trained: Path) -> None:
    summary = json.loads((trained / "training.json").read_text())
    assert (summary["steps"], summary["train_images"], summary["batch_size"]) == (6, 18, 4)
    assert summary["epochs"] == pytest.approx(6 * 4 / 18, abs=1e-3)
    assert summary["pairs_per_second"] > 0
    assert [step for step, *_ in losses_of(trained)] == ["1", "2", "3", "4", "5", "6"]
    assert [checkpoints.step_of(path) for path in checkpoints.found(trained / "checkpoints")] == [6, 4, 2]
    tags = {
        value.tag
        for file in (trained / "summaries").iterdir()
        for event in tf.train.summary_iterator(str(file))
        for value in event.summary.value
    }
    assert {"loss_align", "loss_diversity", "loss_decay", "learning_rate"} <= tags
    assert {"Input", "Deformed", "PredA", "Landmark"} <= tags  # the replaced codes' images


def test_the_same_seed_gives_the_same_weights(tiny: Config, shards: Path, trained: Path, tmp_path: Path) -> None:
    train.train(tiny, shards, tmp_path)
    one, other = stored(trained), stored(tmp_path)
    assert all((one[name] == other[name]).all() for name in one)
    assert losses_of(tmp_path) == losses_of(trained)


@pytest.mark.parametrize("broken", [False, True])
def test_resuming_gives_what_an_uninterrupted_run_gives(
    tiny: Config, shards: Path, trained: Path, tmp_path: Path, broken: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """The run stopped after its fourth step; with `broken`, that step's checkpoint is cut short."""
    shutil.copytree(str(trained), str(tmp_path / "run"))
    for file in (tmp_path / "run" / "checkpoints").glob("model-6.*"):
        file.unlink()
    if broken:
        data = next((tmp_path / "run" / "checkpoints").glob("model-4.data*"))
        data.write_bytes(data.read_bytes()[:1000])
    caplog.set_level("INFO")
    train.train(tiny, shards, tmp_path / "run")
    assert f"going on from step {2 if broken else 4} of 6" in caplog.text
    assert ("model-4 cannot be read" in caplog.text) == broken
    one, other = stored(trained), stored(tmp_path / "run")
    assert all((one[name] == other[name]).all() for name in one)
    assert losses_of(tmp_path / "run") == losses_of(trained)


def test_resuming_on_a_gpu_goes_on_with_the_loss_scale(
    tiny: Config, shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """TensorFlow's own loss scaling, on the processor: half precision is left out there, the scale is not."""
    monkeypatch.setattr(tf.test, "is_gpu_available", lambda: True)
    monkeypatch.setattr(gpu, "_STEPS_BEFORE_DOUBLING", 5)
    settings = changed(tiny, device="gpu", mixed_precision="on", keep_checkpoints=2)
    train.train(settings, shards, tmp_path)
    folder, whole = tmp_path / "checkpoints", stored(tmp_path)
    scaling = {path.name: json.loads(path.read_text()) for path in folder.glob("*.scaling.json")}
    assert {name: sorted(values.values()) for name, values in scaling.items()} == {
        "model-4.scaling.json": [4, 2.0**15],
        "model-6.scaling.json": [1, 2.0**16],
    }
    for file in folder.glob("model-6.*"):
        file.unlink()
    train.train(settings, shards, tmp_path)
    assert json.loads((folder / "model-6.scaling.json").read_text()) == scaling["model-6.scaling.json"]
    assert all((stored(tmp_path)[name] == whole[name]).all() for name in whole)
    assert json.loads((tmp_path / "training.json").read_text())["loss_scale"] == 2.0**16


def test_another_training_begins_with_a_checkpoint(
    tiny: Config, shards: Path, trained: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """By `--checkpoint`, so that a training goes on with another device or number of ranks, or with more steps."""
    outputs.write_json(tmp_path / "longer.json", as_tables(changed(tiny, steps=8)))
    options = ["train", "--config", str(tmp_path / "longer.json"), "--records", str(shards)]
    options += ["--checkpoint", str(trained / "checkpoints"), "--output", str(tmp_path / "longer")]
    assert cli.main(options) == 0
    assert [row[0] for row in losses_of(tmp_path / "longer")] == ["7", "8"]
    assert stored(tmp_path / "longer")["global_step"] == 8
    (tmp_path / "none").mkdir()
    options[-3:] = [str(tmp_path / "none"), "--output", str(tmp_path / "other")]
    assert cli.main(options) == 1
    assert "error: {}: no checkpoint model-<step> here".format(tmp_path / "none") in capfd.readouterr().err


def test_what_a_stopped_save_leaves_is_gone_in_the_end(
    tiny: Config, shards: Path, trained: Path, tmp_path: Path
) -> None:
    """The run was stopped while its sixth step was saved, and when a fourth checkpoint was not deleted yet."""
    folder = tmp_path / "run" / "checkpoints"
    shutil.copytree(str(trained), str(tmp_path / "run"))
    for suffix in ("index", "data-00000-of-00001"):
        (folder / f"model-6.{suffix}").rename(folder / f"model-6.{suffix}.tempstate77")
        shutil.copy(str(folder / f"model-4.{suffix}"), str(folder / f"model-1.{suffix}"))
    train.train(tiny, shards, tmp_path / "run")
    assert sorted(path.name for path in folder.iterdir()) == sorted(
        path.name for path in (trained / "checkpoints").iterdir()
    )


def test_a_complete_training_is_not_trained_again(tiny: Config, shards: Path, trained: Path, tmp_path: Path) -> None:
    shutil.copytree(str(trained), str(tmp_path / "run"))
    (tmp_path / "run" / "training.json").unlink()
    train.train(tiny, shards, tmp_path / "run")
    assert json.loads((tmp_path / "run" / "training.json").read_text())["steps"] == 6


def test_progress_lines_are_the_replaced_codes(
    tiny: Config, shards: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    train.train(changed(tiny, summary_freq=2), shards, tmp_path)
    said = capfd.readouterr().out.splitlines()
    assert len(said) == 4 * 3
    assert re.match(r"progress  epoch 1  step 2  image/sec \d+\.\d  remaining \d+m$", said[0])
    for line, name in zip(said[1:4], train.LOSSES):
        assert line.split()[0] == name
        assert np.isfinite(float(line.split()[1]))
    assert said[8].startswith("progress  epoch 2  step 2  ")


def test_training_learns_something(tiny: Config, shards: Path, tmp_path: Path) -> None:
    train.train(changed(tiny, steps=40, summary_freq=10, save_freq=100), shards, tmp_path)
    rows = losses_of(tmp_path)
    total = [float(align) + 50.0 * float(diversity) for _, align, diversity, *_ in rows]
    assert total[-1] < 0.9 * total[0]


def test_a_broken_shard_ends_training_with_its_name(tiny: Config, shards: Path, tmp_path: Path) -> None:
    shutil.copytree(str(shards), str(tmp_path / "records"))
    for shard in (tmp_path / "records").glob("train-*"):
        shard.write_bytes(shard.read_bytes()[:-100])
    with pytest.raises(TrainingError, match="training stopped: .*truncated"):
        train.train(tiny, tmp_path / "records", tmp_path / "trained")


def test_more_views_of_a_image_train_too(tiny: Config, shards: Path, tmp_path: Path) -> None:
    train.train(dataclasses.replace(tiny, augment=dataclasses.replace(tiny.augment, views=3)), shards, tmp_path)
    assert losses_of(tmp_path)[-1][0] == "6"


def test_mixed_precision_on_a_processor_is_what_tensorflow_offers(
    tiny: Config, shards: Path, trained: Path, tmp_path: Path
) -> None:
    mixed = changed(tiny, mixed_precision="on")
    if tf.__version__.startswith("1."):
        with pytest.raises(DeviceError, match="offers none on processors"):
            train.train(mixed, shards, tmp_path)
        return
    train.train(mixed, shards, tmp_path)
    first, exact = ([float(value) for value in losses_of(folder)[0]] for folder in (tmp_path, trained))
    np.testing.assert_allclose(first, exact, rtol=0.05)


def test_the_graph_is_static(tiny: Config, shards: Path) -> None:
    """Every tensor of the training step has a known shape, and none is float64: what an NPU needs."""
    with tf.Graph().as_default():
        graph = train.build(tiny, records.read(shards), 6, devices.find(tiny))
        waiting, seen = [graph.update], set()
        while waiting:
            operation = waiting.pop()
            if operation in seen or operation.type.startswith("Iterator"):
                continue
            seen.add(operation)
            waiting.extend([tensor.op for tensor in operation.inputs] + list(operation.control_inputs))
            # Batch norm's last outputs are scratch space between it and its gradient.
            for tensor in operation.outputs[:3] if "BatchNorm" in operation.type else operation.outputs:
                assert tensor.shape.is_fully_defined(), tensor
                assert tensor.dtype.base_dtype != tf.float64, tensor


def test_a_batch_is_its_step_s_draw_of_the_images_and_of_the_cells(tiny: Config, shards: Path) -> None:
    data, step, views = records.read(shards), 2, tiny.augment.views
    with tf.Graph().as_default(), tf.Session() as session:
        first = tf.constant(step, tf.int64)
        images = records.repeated_batches(data, 4, tiny.train.seed, tiny.train.shuffle_buffer, first)
        iterators = [
            tf.data.make_initializable_iterator(each) for each in (train.batches(tiny, data, first, 6), images)
        ]
        session.run([iterator.initializer for iterator in iterators])
        found, taken = session.run([iterator.get_next() for iterator in iterators])
    draw = augment.draw_step(tiny.augment, tiny.train.seed, step, 4, views)
    np.testing.assert_array_equal(found.views, rendering.render(taken, draw, tiny.network.view))
    ticks = network.cell_centers(tiny.network.name, tiny.network.view)
    cells = geometry.grid(ticks, ticks)
    for number, places in enumerate(found.points):
        wanted = geometry.warp_points(cells, draw.targets[number // views, number % views])
        np.testing.assert_allclose(places, wanted, atol=1e-5)


def test_what_goes_wrong_in_rendering_is_named(
    tiny: Config, shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*given: Any) -> None:
        raise ValueError("no such image")

    monkeypatch.setattr(rendering, "render", fail)
    with pytest.raises(TrainingError, match="training stopped: .*ValueError: no such image$"):
        train.train(tiny, shards, tmp_path)


def test_losses_agree_between_tensorflow_versions(tiny: Config, shards: Path) -> None:
    """The same initial weights and the same batch (both are functions of the seed) give the same losses everywhere."""
    batch = 2
    random = np.random.RandomState(0)
    views = random.uniform(-1, 1, (2 * batch, 16, 16, 3)).astype(np.float32)
    points = random.uniform(-1, 1, (2 * batch, 16, 2)).astype(np.float32)
    with tf.Graph().as_default(), tf.Session() as session:
        device = devices.find(tiny)
        maps = train.heatmaps(tiny, tf.constant(views), device)
        now = train.Weights(50.0, 0.0)
        objective = train.build_objective(tiny, maps, tf.constant(points), now, device)
        session.run(tf.global_variables_initializer())
        values = session.run(list(objective))
    np.testing.assert_allclose(values, [1632.1602783203125, 1383.25146484375, 4.974742889404297, 0.17161778], rtol=1e-4)


def test_the_learning_rate_rises_and_falls(tiny: Config) -> None:
    settings = changed(tiny, schedule="cosine", warmup=10, learning_rate=1.0)
    step = tf.placeholder(tf.int64, [])
    with tf.Session() as session:
        rate = train.learning_rate(settings, step, 100)
        rates = [session.run(rate, {step: number}) for number in (0, 4, 50, 100)]
    np.testing.assert_allclose(rates, [0.1, 0.5 * (1 + np.cos(0.04 * np.pi)) * 0.5, 0.5, 0.0], atol=1e-6)


def test_the_weight_of_diversity_falls_and_that_of_reading_rises(tiny: Config) -> None:
    loss = dataclasses.replace(tiny.loss, diversity_weight=50.0, diversity_end=0.2, softargmax_weight=4.0)
    settings, step = dataclasses.replace(tiny, loss=loss), tf.placeholder(tf.int64, [])
    with tf.Session() as session:
        for experiment, expected in (
            (settings, [(50.0, 0.0), (30.0, 2.0), (10.0, 4.0), (10.0, 4.0)]),
            (tiny, [(50.0, 0.0)] * 4),
        ):
            now = train.weights(experiment, step, 100)
            found = [session.run(now, {step: number}) for number in (0, 50, 100, 120)]
            np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_the_distance_of_landmarks_as_they_are_read_has_its_own_weight(tiny: Config) -> None:
    """Two maps whose second peaks differ: read near their largest, the landmarks agree."""
    loss = dataclasses.replace(tiny.loss, softargmax_weight=1.0, weight_decay=0.0, variance_weight=0.0)
    settings = dataclasses.replace(tiny, loss=loss)
    whole = np.zeros((2, 16, 1), np.float32)
    whole[:, 5], whole[0, 15], whole[1, 12] = 0.9, 0.1, 0.1
    read, other = np.zeros_like(whole), np.zeros_like(whole)
    read[:, 5] = other[0, 5] = other[1, 6] = 1.0
    ticks = np.array([-0.75, -0.25, 0.25, 0.75], np.float32)
    points = np.stack(np.meshgrid(ticks, ticks), axis=-1).reshape(1, 16, 2).repeat(2, axis=0)
    totals = []
    with tf.Graph().as_default(), tf.Session() as session:
        tf.get_variable("layer/kernel", [1])  # weight decay wants one
        for landmarks in (read, other):
            maps = network.Heatmaps(tf.constant(whole), tf.constant(landmarks))
            objective = train.build_objective(
                settings, maps, tf.constant(points), train.Weights(0.0, 3.0), devices.find(settings)
            )
            session.run(tf.global_variables_initializer())
            totals.append(session.run([objective.total, objective.align]))
    (near, align), (apart, same) = totals
    assert same == pytest.approx(align)
    # A cell is half a half-width, of 32 cells of 1/64 of the view.
    assert apart - near == pytest.approx(3.0 * 16.0**2)


def test_fewer_images_than_a_batch_are_refused(tiny: Config, shards: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="batch_size is 32, but there are only 18 training images"):
        train.train(changed(tiny, batch_size=32), shards, tmp_path)


def test_images_of_another_size_are_refused(tiny: Config, shards: Path, tmp_path: Path) -> None:
    other = dataclasses.replace(tiny, crop=dataclasses.replace(tiny.crop, size=24))
    with pytest.raises(ConfigError, match="crop.size is 24, but the images"):
        train.train(other, shards, tmp_path)


def test_a_checkpoint_of_another_network_is_refused(tiny: Config, shards: Path, trained: Path, tmp_path: Path) -> None:
    shutil.copytree(str(trained), str(tmp_path / "run"))
    other = dataclasses.replace(tiny, network=dataclasses.replace(tiny.network, landmarks=5))
    with pytest.raises(CheckpointError, match=r"does not fit the network: layer_6/kernel.* is \[1, 1, 128, 4\] in it"):
        train.train(other, shards, tmp_path / "run")


def test_a_loss_that_is_not_a_number_ends_training(tiny: Config, shards: Path, tmp_path: Path) -> None:
    wild = dataclasses.replace(tiny, loss=dataclasses.replace(tiny.loss, weight_decay=1e38))
    with pytest.raises(TrainingError, match=r"step \d: a loss is not finite"):
        train.train(wild, shards, tmp_path)


@pytest.mark.parametrize(("device", "message"), [("npu", "npu_bridge cannot be imported"), ("gpu", "sees none")])
def test_a_device_that_is_not_there_is_an_error(
    tiny: Config, shards: Path, tmp_path: Path, device: str, message: str
) -> None:
    if device == "gpu" and tf.test.is_gpu_available():
        pytest.skip("this machine has a GPU")
    with pytest.raises(DeviceError, match=message):
        train.train(changed(tiny, device=device), shards, tmp_path)
