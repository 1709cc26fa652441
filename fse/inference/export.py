"""Exporting a trained detector: a frozen graph and a SavedModel, checked against the checkpoint.

    images  uint8   [batch, view, view, 3], RGB
    landmarks float32 [batch, K, 2], points (x, y) in [-1, 1] over the view
    heatmaps  float32 [batch, rows, columns, K], each map sums to 1

`model.json` says what the model expects: network, K, view, and how an image is cropped for it; and whether there is an
offline model for Ascend (`fse.ascend.atc`).
"""

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
from fse.model import network
from fse.runtime import outputs
from fse.tf1 import reason, tf
from fse.training import checkpoint_paths, checkpoints


class Inference(NamedTuple):
    """Tensors of the exported graph, named as in the module's description."""

    images: Any
    landmarks: Any
    heatmaps: Any


def build(config: Config) -> Inference:
    """Builds the detector for inference in the current graph."""
    settings, view = config.network, config.network.view
    images = tf.placeholder(tf.uint8, [None, view, view, 3], "images")
    inputs = tf.cast(images, tf.float32) / 127.5 - 1.0
    scores = network.score_maps(settings.name, inputs, settings.landmarks, training=False)
    maps = network.heatmaps(scores, settings.softargmax_radius, settings.softargmax_temperature)
    ticks = network.cell_centers(settings.name, view)
    landmarks = tf.identity(network.expectations(maps.read, geometry.grid(ticks, ticks)), "landmarks")
    side = len(ticks)
    return Inference(images, landmarks, tf.reshape(maps.whole, [-1, side, side, settings.landmarks], "heatmaps"))


def export(config: Config, trained: Path, shards: Path, output: Path) -> None:
    """Writes `model.pb`, `saved_model/` and `model.json` from the newest checkpoint in `trained`: the Export stage.

    Both models are run on real images and must agree with the checkpoint to `export.tolerance`.

    Raises:
      CheckpointError: there is no checkpoint, or it does not fit the configuration.
      ExportError: an exported model differs from the checkpoint, or the offline model cannot be made.
    """
    images = _some_images(config, records.read(shards))
    description, wanted = freeze(config, trained / "checkpoints", output, images)
    description["compared_images"] = len(images)
    description["difference"] = {
        "model.pb": _largest_difference(wanted, detector.run_frozen(output, images)),
        "saved_model": _largest_difference(wanted, _run_saved_model(output / "saved_model", images)),
    }
    for name, difference in description["difference"].items():
        if not difference <= config.export.tolerance:
            raise ExportError(
                f"{name} differs from the checkpoint in {trained} by up to {difference}, more than export.tolerance {config.export.tolerance}"
            )
    description["offline_model"] = atc.convert(config, output)
    outputs.write_json(output / "model.json", description)


def freeze(config: Config, folder: Path, output: Path, images: np.ndarray) -> Tuple[Dict[str, Any], Detection]:
    """Writes the newest checkpoint of `folder` as `model.pb`, `saved_model/` and `model.json`.

    Args:
      config: the experiment; the checkpoint must fit its network.
      folder: checkpoints.
      output: an existing folder.
      images: uint8 [n, view, view, 3].

    Returns:
      the contents of `model.json`, and what the checkpoint itself detects in `images`.

    Raises:
      CheckpointError: there is no checkpoint, or it is broken or does not fit.
    """
    prefixes = checkpoint_paths.found(folder)
    if not prefixes:
        raise CheckpointError(f"{folder}: no checkpoint here; run `fse train` first")
    with tf.Graph().as_default() as graph, tf.Session(config=cpu.session_config(0)) as session:
        inference = build(config)
        variables = _stored(tf.global_variables(), config.train.ema_decay > 0.0)
        try:
            checkpoints.restore(session, tf.train.Saver(variables), variables, prefixes[0])
        except tf.errors.OpError as error:
            raise CheckpointError(f"checkpoint {prefixes[0]} is broken: {reason(error)}") from None
        found = Detection(*session.run(inference[1:], {inference.images: images}))
        names = [tensor.op.name for tensor in inference[1:]]
        frozen = tf.graph_util.convert_variables_to_constants(session, graph.as_graph_def(), names)
        (output / "model.pb").write_bytes(frozen.SerializeToString(deterministic=True))
        tf.saved_model.simple_save(
            session,
            str(output / "saved_model"),
            {"images": inference.images},
            {"landmarks": inference.landmarks, "heatmaps": inference.heatmaps},
        )
    description: Dict[str, Any] = {
        "network": config.network.name,
        "landmarks": config.network.landmarks,
        "view": config.network.view,
        "map": int(found.heatmaps.shape[1]),
        "reading": {"radius": config.network.softargmax_radius, "temperature": config.network.softargmax_temperature},
        "crop": {"mode": config.crop.mode, "size": config.crop.size, "scale": config.crop.scale},
        "step": checkpoint_paths.step_of(prefixes[0]),
    }
    outputs.write_json(output / "model.json", description)
    return description, found


def _stored(variables: List[Any], averaged: bool) -> Dict[str, Any]:
    """The detector's variables by the names of their values in a checkpoint: the last ones, or their moving averages."""
    suffix = checkpoints.AVERAGED if averaged else ""
    return {name + suffix: variable for name, variable in checkpoints.names_of(variables).items()}


def _some_images(config: Config, data: records.Records) -> np.ndarray:
    """uint8 [n, view, view, 3]: the first images of the test split, or of the training split if there is no other."""
    split = "test" if data.images["test"] else "train"
    with tf.Graph().as_default(), tf.Session(config=cpu.session_config(0)) as session:
        batches = records.ordered_batches(data, split, min(config.export.images, data.images[split]))
        _, images, _ = session.run(tf.data.make_one_shot_iterator(batches).get_next())
    return detector.central_view(images, config.network.view)


def _run_saved_model(folder: Path, images: np.ndarray) -> Detection:
    with tf.Graph().as_default(), tf.Session(config=cpu.session_config(0)) as session:
        model = tf.saved_model.loader.load(session, [tf.saved_model.tag_constants.SERVING], str(folder))
        signature = model.signature_def[tf.saved_model.signature_constants.DEFAULT_SERVING_SIGNATURE_DEF_KEY]
        outputs = [signature.outputs[name].name for name in ("landmarks", "heatmaps")]
        return Detection(*session.run(outputs, {signature.inputs["images"].name: images}))


def _largest_difference(one: Detection, other: Detection) -> float:
    pairs: Tuple[Tuple[np.ndarray, np.ndarray], ...] = tuple(zip(one, other))
    return max(float(np.abs(a - b).max()) for a, b in pairs)
