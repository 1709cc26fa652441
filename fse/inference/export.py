"""The Export stage: it writes a trained detector as a frozen graph and as a SavedModel, checked against the checkpoint.

The tensors of both models:

    images     uint8   [batch, view, view, 3], RGB
    landmarks  float32 [batch, K, 2], points (x, y) in [-1, 1] over the view
    heatmaps   float32 [batch, rows, columns, K], each map sums to 1

`model.json` describes the model: network, K, view, how images must be cropped for it, and whether the folder has an
offline model for Ascend (`fse.ascend.atc`).
"""

import os
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Tuple

import numpy as np

from fse import geometry
from fse.ascend import atc
from fse.config import Config
from fse.devices import cpu
from fse.errors import CheckpointError, ExportError
from fse.inference import detector
from fse.inference.detector import Detection
from fse.inputs import records
from fse.model import heatmaps, network
from fse.runtime.files import write_json
from fse.tf1 import error_message, tf
from fse.training import checkpoint_paths, checkpoints


class InferenceTensors(NamedTuple):
    """The tensors of the exported graph, named as in the module's description."""

    images: Any
    landmarks: Any
    heatmaps: Any


def export(config: Config, trained: Path, shards: Path, output: Path) -> None:
    """Write `model.pb`, `saved_model/` and `model.json` from the newest checkpoint in `trained`: the Export stage.

    Both models run on real images, and must agree with the checkpoint to `export.tolerance`.

    Raises:
      CheckpointError: there is no checkpoint, or it does not fit the configuration.
      ExportError: an exported model differs from the checkpoint, or the offline model cannot be made.
    """
    views = _read_views(config, records.read(shards))
    description, expected = freeze(config, trained / "checkpoints", output, views)
    description["compared_images"] = len(views)
    description["difference"] = {
        "model.pb": _largest_difference(expected, detector.run_frozen(output, views)),
        "saved_model": _largest_difference(expected, _run_saved_model(output / "saved_model", views)),
    }
    for name, difference in description["difference"].items():
        # Written this way, NaN fails too.
        if not difference <= config.export.tolerance:
            raise ExportError(
                f"{name} differs from the checkpoint in {trained} by up to {difference}, more than export.tolerance "
                f"{config.export.tolerance}"
            )
    description["offline_model"] = atc.convert(
        output,
        view=config.network.view,
        batch=config.export.offline_batch,
        soc_version=config.export.soc_version,
        aoe=config.export.aoe,
        seconds=config.export.offline_seconds,
    )
    write_json(output / "model.json", description)


def freeze(config: Config, folder: Path, output: Path, views: np.ndarray) -> Tuple[Dict[str, Any], Detection]:
    """Write the newest checkpoint of `folder` as `model.pb`, `saved_model/` and `model.json`.

    Args:
      config: the experiment; the checkpoint must fit its network.
      folder: checkpoints.
      output: an existing folder.
      views: uint8 [n, view, view, 3].

    Returns:
      the contents of `model.json`, and what the checkpoint itself detects in `views`.

    Raises:
      CheckpointError: there is no checkpoint, or it is broken or does not fit.
    """
    prefixes = checkpoint_paths.list_checkpoints(folder)
    if not prefixes:
        raise CheckpointError(f"{folder}: no checkpoint here; run `fse train` first")
    with tf.Graph().as_default() as graph, tf.Session(config=cpu.session_config(0)) as session:
        tensors = build(config)
        variables = _checkpoint_names(tf.global_variables(), averaged=config.train.ema_decay > 0.0)
        try:
            checkpoints.restore(session, tf.train.Saver(variables), variables, prefixes[0])
        except tf.errors.OpError as error:
            raise CheckpointError(f"checkpoint {prefixes[0]} is broken: {error_message(error)}") from None
        outputs = [tensors.landmarks, tensors.heatmaps]
        detection = Detection(*session.run(outputs, {tensors.images: views}))
        # Variables become constants, so that the model is one file.
        frozen = tf.graph_util.convert_variables_to_constants(
            session, graph.as_graph_def(), [tensor.op.name for tensor in outputs]
        )
        # Deterministic bytes: the manifest of the output compares hashes of files.
        (output / "model.pb").write_bytes(frozen.SerializeToString(deterministic=True))
        tf.saved_model.simple_save(
            session,
            os.fspath(output / "saved_model"),
            {"images": tensors.images},
            {"landmarks": tensors.landmarks, "heatmaps": tensors.heatmaps},
        )
    description = _describe(config, side=int(detection.heatmaps.shape[1]), step=checkpoint_paths.step_of(prefixes[0]))
    write_json(output / "model.json", description)
    return description, detection


def build(config: Config) -> InferenceTensors:
    """Build the detector for inference in the current graph."""
    settings, view = config.network, config.network.view
    images = tf.placeholder(tf.uint8, [None, view, view, 3], "images")
    inputs = tf.cast(images, tf.float32) / 127.5 - 1.0  # [0, 255] -> [-1, 1]
    scores = network.score_maps(settings.name, inputs, settings.landmarks, training=False)
    maps = heatmaps.from_scores(scores, settings.softargmax_radius, settings.softargmax_temperature)
    ticks = network.cell_centers(settings.name, view)
    landmarks = tf.identity(heatmaps.soft_argmax(maps.local, geometry.grid(ticks, ticks)), "landmarks")
    side = len(ticks)
    full = tf.reshape(maps.full, [-1, side, side, settings.landmarks], "heatmaps")
    return InferenceTensors(images, landmarks, full)


def _describe(config: Config, side: int, step: int) -> Dict[str, Any]:
    """Return the contents of `model.json` for heatmaps of side x side cells and the checkpoint of a step."""
    return {
        "network": config.network.name,
        "landmarks": config.network.landmarks,
        "view": config.network.view,
        "map": side,
        "softargmax": {
            "radius": config.network.softargmax_radius,
            "temperature": config.network.softargmax_temperature,
        },
        "crop": {"mode": config.crop.mode, "size": config.crop.size, "scale": config.crop.scale},
        "step": step,
    }


def _checkpoint_names(variables: List[Any], averaged: bool) -> Dict[str, Any]:
    """Return the detector's variables by the names of their values in a checkpoint: moving averages if `averaged`."""
    suffix = checkpoints.EMA_SUFFIX if averaged else ""
    return {name + suffix: variable for name, variable in checkpoints.variables_by_name(variables).items()}


def _read_views(config: Config, data: records.Records) -> np.ndarray:
    """Return the first views of the test split, or of the training split if there is none: uint8 [n, view, view, 3]."""
    split = "test" if data.images["test"] else "train"
    with tf.Graph().as_default(), tf.Session(config=cpu.session_config(0)) as session:
        batches = records.ordered_batches(data, split, min(config.export.images, data.images[split]))
        _, images, _ = session.run(tf.data.make_one_shot_iterator(batches).get_next())
    return detector.central_view(images, config.network.view)


def _run_saved_model(folder: Path, views: np.ndarray) -> Detection:
    with tf.Graph().as_default(), tf.Session(config=cpu.session_config(0)) as session:
        model = tf.saved_model.loader.load(session, [tf.saved_model.tag_constants.SERVING], os.fspath(folder))
        signature = model.signature_def[tf.saved_model.signature_constants.DEFAULT_SERVING_SIGNATURE_DEF_KEY]
        outputs = [signature.outputs[name].name for name in ("landmarks", "heatmaps")]
        return Detection(*session.run(outputs, {signature.inputs["images"].name: views}))


def _largest_difference(one: Detection, other: Detection) -> float:
    """Return the largest absolute difference between the landmarks or the heatmaps of two detections."""
    pairs = ((one.landmarks, other.landmarks), (one.heatmaps, other.heatmaps))
    return max(float(np.abs(a - b).max()) for a, b in pairs)
