"""The training graph: objective, schedules, update; `test_train.py` runs whole trainings."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from fse import devices
from fse.config import Config
from fse.inputs import records
from fse.model.heatmaps import Heatmaps
from fse.tf1 import tf
from fse.training import checkpoints
from fse.training.graph import (
    LossWeights,
    build_graph,
    build_heatmaps,
    build_objective,
    clip_gradients,
    learning_rate,
    loss_weights,
)
from tests.fse.trainings import with_train


def test_the_graph_is_static(tiny: Config, shards: Path) -> None:
    """Every tensor of the training step has a known shape, and none is float64: as an NPU requires."""
    with tf.Graph().as_default():
        graph = build_graph(tiny, records.read(shards), 6, devices.find(tiny))
        waiting, visited = [graph.update], set()
        while waiting:
            operation = waiting.pop()
            if operation in visited or operation.type.startswith("Iterator"):
                continue
            visited.add(operation)
            waiting.extend([tensor.op for tensor in operation.inputs] + list(operation.control_inputs))
            # Batch norm's last outputs are scratch space between it and its gradient.
            for tensor in operation.outputs[:3] if "BatchNorm" in operation.type else operation.outputs:
                assert tensor.shape.is_fully_defined(), tensor
                assert tensor.dtype.base_dtype != tf.float64, tensor


def test_checkpoints_hold_all_variables_of_a_rank(tiny: Config, shards: Path) -> None:
    settings = with_train(tiny, ema_decay=0.9)
    with tf.Graph().as_default():
        graph = build_graph(settings, records.read(shards), 6, devices.find(settings))
        assert graph.checkpoint_variables == checkpoints.variables_by_name(tf.global_variables())


def test_losses_agree_between_tensorflow_versions(tiny: Config, shards: Path) -> None:
    """The same initial weights and the same batch (both are functions of the seed) give the same losses everywhere."""
    batch = 2
    random = np.random.RandomState(0)
    views = random.uniform(-1, 1, (2 * batch, 16, 16, 3)).astype(np.float32)
    points = random.uniform(-1, 1, (2 * batch, 16, 2)).astype(np.float32)
    with tf.Graph().as_default(), tf.Session() as session:
        device = devices.find(tiny)
        maps = build_heatmaps(tiny, tf.constant(views), device)
        objective = build_objective(tiny, maps, tf.constant(points), LossWeights(50.0, 0.0), device)
        session.run(tf.global_variables_initializer())
        values = session.run(list(objective))
    np.testing.assert_allclose(values, [1632.1602783203125, 1383.25146484375, 4.974742889404297, 0.17161778], rtol=1e-4)


def test_the_distance_under_local_heatmaps_has_its_own_weight(tiny: Config) -> None:
    """The full heatmaps differ in their second peak; the local heatmaps agree in one case and differ in the other."""
    loss = dataclasses.replace(tiny.loss, softargmax_weight=1.0, weight_decay=0.0, variance_weight=0.0)
    settings = dataclasses.replace(tiny, loss=loss)
    full = np.zeros((2, 16, 1), np.float32)
    full[:, 5], full[0, 15], full[1, 12] = 0.9, 0.1, 0.1
    equal, different = np.zeros_like(full), np.zeros_like(full)
    equal[:, 5] = different[0, 5] = different[1, 6] = 1.0
    ticks = np.array([-0.75, -0.25, 0.25, 0.75], np.float32)
    points = np.stack(np.meshgrid(ticks, ticks), axis=-1).reshape(1, 16, 2).repeat(2, axis=0)
    totals = []
    with tf.Graph().as_default(), tf.Session() as session:
        tf.get_variable("layer/kernel", [1])  # weight decay needs a kernel
        for local in (equal, different):
            maps = Heatmaps(tf.constant(full), tf.constant(local))
            objective = build_objective(
                settings, maps, tf.constant(points), LossWeights(0.0, 3.0), devices.find(settings)
            )
            session.run(tf.global_variables_initializer())
            totals.append(session.run([objective.total, objective.align]))
    (equal_total, equal_align), (different_total, different_align) = totals
    assert different_align == pytest.approx(equal_align)
    # A cell of these maps is half a half-width: 16 cells of 1/64 of the view.
    assert different_total - equal_total == pytest.approx(3.0 * 16.0**2)


def test_the_learning_rate_rises_and_falls(tiny: Config) -> None:
    settings = with_train(tiny, schedule="cosine", warmup=10, learning_rate=1.0)
    step = tf.placeholder(tf.int64, [])
    with tf.Session() as session:
        rate = learning_rate(settings, step, 100)
        rates = [session.run(rate, {step: number}) for number in (0, 4, 50, 100)]
    np.testing.assert_allclose(rates, [0.1, 0.5 * (1 + np.cos(0.04 * np.pi)) * 0.5, 0.5, 0.0], atol=1e-6)


def test_the_diversity_weight_decays_and_the_softargmax_weight_rises(tiny: Config) -> None:
    loss = dataclasses.replace(tiny.loss, diversity_weight=50.0, diversity_end=0.2, softargmax_weight=4.0)
    settings, step = dataclasses.replace(tiny, loss=loss), tf.placeholder(tf.int64, [])
    with tf.Session() as session:
        for experiment, expected in (
            (settings, [(50.0, 0.0), (30.0, 2.0), (10.0, 4.0), (10.0, 4.0)]),
            (tiny, [(50.0, 0.0)] * 4),
        ):
            weights = loss_weights(experiment, step, 100)
            values = [session.run(weights, {step: number}) for number in (0, 50, 100, 120)]
            np.testing.assert_allclose(values, expected, rtol=1e-6)


def test_gradients_are_clipped_to_a_global_norm() -> None:
    with tf.Session() as session:
        small, large = (
            session.run(clip_gradients([tf.constant([3.0 * size]), tf.constant([4.0 * size])], 5.0))
            for size in (0.5, 2.0)
        )
    np.testing.assert_allclose(np.concatenate(small), [1.5, 2.0])
    np.testing.assert_allclose(np.concatenate(large), [3.0, 4.0], rtol=1e-6)
