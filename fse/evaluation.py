"""Measuring an exported detector against annotated landmarks, upright and warped, beside a constant prediction.

Linear regressors from discovered to annotated points are fitted on upright training pictures only. The warped test set
shows every test picture once through a random warp of the training's strength, drawn from `evaluate.seed`, without
mirroring and changes of colour; there a prediction that does not look at the picture fails.
"""

import dataclasses
import json
import platform
from pathlib import Path
from typing import Any, Dict, Iterator, List, NamedTuple, Tuple

import numpy as np
import pandas as pd

from fse import augment, geometry, metrics, records
from fse.config import Config
from fse.detector import Detector, central_view
from fse.devices import cpu
from fse.errors import ConfigError
from fse.metrics import LinearMap
from fse.progress import bar
from fse.tf1 import tf


class Seen(NamedTuple):
    """What the detector saw of a split. Points are in [-1, 1] over the view; n pictures, K discovered, L annotated.

    names: [n]. discovered: [n, K, 2]. annotated: [n, L, 2]. examples: the first pictures and their heat maps.
    """

    names: np.ndarray
    discovered: np.ndarray
    annotated: np.ndarray
    pictures: np.ndarray
    heatmaps: np.ndarray


def evaluate(config: Config, model: Path, trained: Path, shards: Path, output: Path) -> None:
    """Writes `metrics.json`, `predictions.csv` and `examples.npz`: the Evaluate stage.

    Raises:
      ExportError, RecordError: the inputs cannot be read.
      ConfigError: `evaluate.eyes` are not among the annotated landmarks; there is no test picture.
    """
    data = records.read(shards)
    eyes = _eyes(config, data)
    with Detector(model) as detect:
        train = _look(config, detect, data, "train", None)
        test = _look(config, detect, data, "test", None)
        targets = _warps(config, len(test.names))
        warped = _look(config, detect, data, "test", targets)
    result: Dict[str, Any] = {"equivariance_error": equivariance_error(test.discovered, warped.discovered, targets)}
    predictions = {"file": test.names}
    arrays: Dict[str, Any] = {
        "names": test.names[: len(test.pictures)],
        "pictures": test.pictures,
        "heatmaps": test.heatmaps,
    }
    arrays["warped_pictures"] = warped.pictures
    shown = len(test.pictures)
    unlabelled = np.zeros((shown, 0, 2))
    if data.landmarks:
        fitted = LinearMap(train.discovered, train.annotated, bias=False)
        scores, columns = _score(config, train, test, warped, fitted, eyes, data.landmarks)
        result.update(scores)
        predictions.update(columns)
    for prefix, seen in (("", test), ("warped_", warped)):
        arrays[prefix + "discovered"] = seen.discovered[:shown]
        arrays[prefix + "annotated"] = seen.annotated[:shown]
        arrays[prefix + "predicted"] = fitted(seen.discovered[:shown]) if data.landmarks else unlabelled
    names = ["discovered_{}".format(number) for number in range(test.discovered.shape[1])]
    predictions.update(_columns(names, test.discovered))
    pd.DataFrame(predictions).to_csv(str(output / "predictions.csv"), index=False, float_format="%.6f")
    np.savez_compressed(str(output / "examples.npz"), **arrays)
    summary = _summary(config, data, trained, result)
    (output / "metrics.json").write_text(json.dumps(summary, indent=2) + "\n")


def equivariance_error(upright: np.ndarray, warped: np.ndarray, targets: np.ndarray) -> float:
    """How far a landmark found in a warped view lies from the same landmark found upright.

    Args:
      upright, warped: [n, K, 2] landmarks in [-1, 1] over each view.
      targets: [n, C, 2], the warps, each from its view to the picture.

    Returns:
      mean distance on the picture over pictures and landmarks, in per cent of the view's width.
    """
    carried = np.stack([geometry.warp_points(points, target) for points, target in zip(warped, targets)])
    return float(100.0 * np.linalg.norm(carried - upright, axis=-1).mean() / 2.0)


def _score(
    config: Config, train: Seen, test: Seen, warped: Seen, fitted: LinearMap, eyes: Tuple[int, int], names: List[str]
) -> Tuple[Dict[str, Any], Dict[str, np.ndarray]]:
    """The errors against annotations: the entries of `metrics.json`, and the columns of `predictions.csv`."""
    biased = LinearMap(train.discovered, train.annotated, bias=True)
    backward = LinearMap(train.annotated, train.discovered, bias=False)
    constant = train.annotated.mean(axis=0, keepdims=True)
    unit, warped_unit = (metrics.distance(seen.annotated, *eyes) for seen in (test, warped))
    predicted = fitted(test.discovered)
    errors = {
        "nme": metrics.picture_errors(predicted, test.annotated, unit),
        "nme_with_bias": metrics.picture_errors(biased(test.discovered), test.annotated, unit),
        "nme_warped": metrics.picture_errors(fitted(warped.discovered), warped.annotated, warped_unit),
        "mean_shape_nme": metrics.picture_errors(constant, test.annotated, unit),
        "mean_shape_nme_warped": metrics.picture_errors(constant, warped.annotated, warped_unit),
        "backward_nme": metrics.picture_errors(backward(test.annotated), test.discovered, unit),
    }
    scores: Dict[str, Any] = {name: metrics.mean(values) for name, values in errors.items()}
    scores["failure_rate_10"] = metrics.failure_rate(errors["nme"], 10.0)
    scores["auc_10"] = metrics.area_under_curve(errors["nme"], 10.0)
    by_point = metrics.point_errors(predicted, test.annotated, unit)
    scores["per_landmark"] = {name: metrics.mean(by_point[:, i]) for i, name in enumerate(names)}
    scores["test_images_without_distance"] = int((unit <= 0.0).sum())
    columns = {name: errors[name] for name in ("nme", "nme_warped", "mean_shape_nme", "mean_shape_nme_warped")}
    columns.update(_columns(names, predicted))
    return scores, columns


def _summary(config: Config, data: records.Records, trained: Path, result: Dict[str, Any]) -> Dict[str, Any]:
    """All of `metrics.json`; errors that need annotations are None where there are none."""
    keys = ["nme", "nme_with_bias", "nme_warped", "mean_shape_nme", "mean_shape_nme_warped", "backward_nme"]
    summary: Dict[str, Any] = dict.fromkeys([*keys, "failure_rate_10", "auc_10"])
    summary.update(result)
    training = json.loads((trained / "training.json").read_text())
    summary.update(
        loss_align=training["loss_align"],
        loss_diversity=training["loss_diversity"],
        landmarks=config.network.landmarks,
        train_images=data.pictures["train"],
        test_images=data.pictures["test"],
        steps=training["steps"],
        train_pairs_per_second=training["pairs_per_second"],
        train_seconds=training["seconds"],
        tensorflow=tf.__version__,
        python=platform.python_version(),
        device=training["device"],
    )
    return summary


def _eyes(config: Config, data: records.Records) -> Tuple[int, int]:
    """The places of `evaluate.eyes` among the annotated landmarks."""
    if not data.pictures["test"] or not data.pictures["train"]:
        raise ConfigError("{}: evaluation needs training and test pictures, got {}".format(data.folder, data.pictures))
    missing = [name for name in config.evaluate.eyes if name not in data.landmarks]
    if data.landmarks and missing:
        raise ConfigError(
            "evaluate.eyes: {} is not annotated; the data set has {}".format(
                ", ".join(missing), ", ".join(data.landmarks)
            )
        )
    if not data.landmarks:
        return 0, 0
    first, second = (data.landmarks.index(name) for name in config.evaluate.eyes)
    return first, second


def _warps(config: Config, count: int) -> np.ndarray:
    """float64 [count, C, 2]: the warps of the warped test set."""
    settings = dataclasses.replace(config.augment, flip=False)
    random = np.random.RandomState(config.evaluate.seed)
    return augment.draw(settings, random, count, 1).targets[:, 0].astype(np.float64)


def _look(config: Config, detect: Detector, data: records.Records, split: str, targets: Any) -> Seen:
    """Runs the detector over a split, upright (`targets` None) or through one warp per picture."""
    parts: List[Seen] = []
    shown = config.report.examples if split == "test" else 0
    scale = data.size / config.network.view
    for names, pictures, annotated in bar(
        _batches(config, data, split, targets),
        total=-(-data.pictures[split] // config.evaluate.batch_size),
        unit="batches",
        desc=split if targets is None else "warped " + split,
    ):
        found = detect(pictures)
        parts.append(
            Seen(names.astype(str), found.landmarks, annotated * scale, pictures[:shown], found.heatmaps[:shown])
        )
        shown = max(0, shown - len(names))
    seen = Seen(*(np.concatenate(part) for part in zip(*parts)))
    if targets is None:
        return seen
    annotated = [geometry.unwarp_points(points, target) for points, target in zip(seen.annotated, targets)]
    return seen._replace(annotated=np.stack(annotated))


def _batches(config: Config, data: records.Records, split: str, targets: Any) -> Iterator[Tuple[Any, Any, Any]]:
    """Names, views (uint8 [n, view, view, 3]) and landmarks (over the crop) of a split, batch by batch."""
    with tf.Graph().as_default(), tf.Session(config=cpu.session_config(0)) as session:
        batch = tf.data.make_one_shot_iterator(records.in_order(data, split, config.evaluate.batch_size)).get_next()
        render = _renderer(config, data.size) if targets is not None else None
        done = 0
        while done < data.pictures[split]:
            names, pictures, landmarks = session.run(batch)
            if render is None:
                views = central_view(pictures, config.network.view)
            else:
                views = np.concatenate([render(session, *pair) for pair in zip(pictures, targets[done:])])
            done += len(names)
            yield names, views, landmarks.astype(np.float64)


def _renderer(config: Config, size: int) -> Any:
    """A function (session, picture uint8 [size, size, 3], targets [C, 2]) -> uint8 [1, view, view, 3]."""
    view = config.network.view
    still = augment.unchanged(config.augment, 1)
    picture = tf.placeholder(tf.uint8, [1, size, size, 3])
    targets = tf.placeholder(tf.float32, still.targets.shape)
    colours = augment.Draw(targets, tf.constant(still.gains), tf.constant(still.offsets))
    seen = augment.render(picture, colours, augment.pixel_basis(config.augment, view), view)
    rounded = tf.cast(tf.round((seen + 1.0) * 127.5), tf.uint8)

    def render(session: Any, pixels: np.ndarray, target: np.ndarray) -> np.ndarray:
        return session.run(rounded, {picture: pixels[None], targets: target[None, None]})

    return render


def _columns(names: List[str], points: np.ndarray) -> Dict[str, np.ndarray]:
    """One column per coordinate of [n, points, 2]."""
    return {name + axis: points[:, i, j] for i, name in enumerate(names) for j, axis in enumerate(("_x", "_y"))}
