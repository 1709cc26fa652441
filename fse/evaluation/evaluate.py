"""Measuring an exported detector against annotated landmarks, upright and warped, beside a constant prediction.

Linear regressors from discovered to annotated points are fitted on the upright training images of the data set that
is evaluated on, which may be another than the detector learned from. The warped test set shows every test image once
through a random warp of the training's strength, drawn from `evaluate.seed`, without mirroring and changes of color;
there a prediction that does not look at the image fails. These warps are none that training draws, whatever the
seeds: it seeds its generator with a pair of numbers, the evaluation with one.

Names in `metrics.json`: `nme` and what derives from it (`failure_rate_10`, `auc_10`, `per_landmark`) are the model's,
without bias unless the name says so; `mean_shape_` before a name is the same of a constant prediction, the mean of the
images that regressors are fitted on; `_warped` behind it is the same on the warped test set; `_interval` behind a
mean over test images is its 95 % bootstrap interval. `train_images` is the number of images that the detector
learned from, `regression_images` of those that regressors are fitted on. `n_shot` is a list of rows as `metrics.n_shot`
returns them. A figure that no image has is None.
"""

import dataclasses
import json
import platform
from pathlib import Path
from typing import Any, Dict, Iterator, List, NamedTuple, Optional, Tuple

import numpy as np
import pandas as pd

from fse import geometry
from fse.config import Config
from fse.devices import cpu
from fse.errors import ConfigError
from fse.evaluation import metrics
from fse.evaluation.metrics import LinearMap
from fse.inference.detector import Detector, central_view
from fse.inputs import augment, records, rendering
from fse.model import network
from fse.runtime.progress import progress_bar
from fse.tf1 import tf

# Errors against annotations that are always named, in this order.
_FIGURES = (
    "nme",
    "nme_with_bias",
    "nme_warped",
    "mean_shape_nme",
    "mean_shape_nme_warped",
    "backward_nme",
    "failure_rate_10",
    "auc_10",
)


class Seen(NamedTuple):
    """What the detector saw of a split. Points are in [-1, 1] over the view; n images, K discovered, L annotated.

    names: [n]. discovered: [n, K, 2]. annotated: [n, L, 2]. images, heatmaps: of the first few, for the report.
    """

    names: np.ndarray
    discovered: np.ndarray
    annotated: np.ndarray
    images: np.ndarray
    heatmaps: np.ndarray


def evaluate(config: Config, model: Path, trained: Path, shards: Path, output: Path) -> None:
    """Writes `metrics.json`, `predictions.csv` and `examples.npz`: the Evaluate stage.

    `shards` are of the data set that is evaluated on: regressors are fitted on its training images.

    Raises:
      ExportError, RecordError: the inputs cannot be read.
      ConfigError: `evaluate.eyes` are not among the annotated landmarks; there is no test image.
    """
    data = records.read(shards)
    augment.check(config.augment)
    _check(config, data)
    with Detector(model) as detect:
        train = _look(config, detect, data, "train", None)
        test = _look(config, detect, data, "test", None)
        targets = draw_warps(config, len(test.names))
        warped = _look(config, detect, data, "test", targets)
    fitted = LinearMap(train.discovered, train.annotated, bias=False)
    errors, figures = measure(config, data.landmarks, train, test, warped, targets)
    summary = _summary(config, data, trained, {name: metrics.mean(values) for name, values in errors.items()})
    summary.update(figures)
    (output / "metrics.json").write_text(json.dumps(summary, indent=2, allow_nan=False) + "\n")
    _write_predictions(output, data.landmarks, test, fitted, errors)
    _write_examples(config, output, test, warped, fitted)


def measure(
    config: Config, names: List[str], train: Seen, test: Seen, warped: Seen, targets: np.ndarray
) -> Tuple[Dict[str, np.ndarray], Dict[str, Any]]:
    """All errors, of the model and of constant predictions.

    Args:
      config: the experiment.
      names: the L annotated landmarks, `evaluate.eyes` among them; none if nothing is annotated.
      train, test, warped: what the detector saw; `warped` shows the images of `test`.
      targets: [n, C, 2], the warps of `warped`, each from its view to the image.

    Returns:
      name -> error of each test image, [n], NaN where it has none; and name -> what of `metrics.json` is not the mean
      of these: intervals, errors of each annotated landmark, the n-shot curve.
    """
    errors = _equivariance_errors(train, test, warped, targets)
    figures: Dict[str, Any] = {}
    if names:
        scored, figures = _score(config, names, train, test, warped)
        errors.update(scored)
    random = np.random.RandomState([config.evaluate.seed, 0])
    for name, ends in metrics.intervals(errors, config.evaluate.bootstrap, random).items():
        figures[name + "_interval"] = ends
    return errors, figures


def equivariance_error(upright: np.ndarray, warped: np.ndarray, targets: np.ndarray) -> float:
    """How far a landmark found in a warped view lies from the same landmark found upright.

    Args:
      upright, warped: [n, K, 2] landmarks in [-1, 1] over each view.
      targets: [n, C, 2], the warps, each from its view to the image.

    Returns:
      mean distance on the image over images and landmarks, in per cent of the view's width.
    """
    carried = np.stack([geometry.warp_points(points, target) for points, target in zip(warped, targets)])
    return float(100.0 * np.linalg.norm(carried - upright, axis=-1).mean() / 2.0)


def _equivariance_errors(train: Seen, test: Seen, warped: Seen, targets: np.ndarray) -> Dict[str, np.ndarray]:
    """Each image's equivariance error, [n]: the detector's, and that of landmarks which never move."""
    still = np.broadcast_to(train.discovered.mean(axis=0), test.discovered.shape)
    pairs = {
        "equivariance_error": (test.discovered, warped.discovered),
        "mean_shape_equivariance_error": (still, still),
    }
    return {
        name: np.array([equivariance_error(*one) for one in zip(upright[:, None], found[:, None], targets[:, None])])
        for name, (upright, found) in pairs.items()
    }


def _score(
    config: Config, names: List[str], train: Seen, test: Seen, warped: Seen
) -> Tuple[Dict[str, np.ndarray], Dict[str, Any]]:
    """What `measure` returns of annotated images, without the intervals."""
    first, second = (names.index(name) for name in config.evaluate.eyes)
    unseen = {
        suffix: metrics.Unseen(seen.discovered, seen.annotated, metrics.distance(seen.annotated, first, second))
        for suffix, seen in (("", test), ("_warped", warped))
    }
    fitted = LinearMap(train.discovered, train.annotated, bias=False)
    constant = train.annotated.mean(axis=0, keepdims=True)
    errors: Dict[str, np.ndarray] = {}
    figures: Dict[str, Any] = {}
    for suffix, (source, target, unit) in unseen.items():
        for prefix, predicted in (("", fitted(source)), ("mean_shape_", constant)):
            by_point = metrics.point_errors(predicted, target, unit)
            by_image = by_point.mean(axis=1)
            errors[prefix + "nme" + suffix] = by_image
            errors[prefix + "failure_rate_10" + suffix] = metrics.failures(by_image, 10.0)
            errors[prefix + "auc_10" + suffix] = metrics.areas(by_image, 10.0)
            means = [metrics.mean(column) for column in by_point.T]
            figures[prefix + "per_landmark" + suffix] = dict(zip(names, means))
    biased = LinearMap(train.discovered, train.annotated, bias=True)
    backward = LinearMap(train.annotated, train.discovered, bias=False)
    still = train.discovered.mean(axis=0, keepdims=True)
    unit = unseen[""].unit
    errors["nme_with_bias"] = metrics.image_errors(biased(test.discovered), test.annotated, unit)
    errors["backward_nme"] = metrics.image_errors(backward(test.annotated), test.discovered, unit)
    errors["mean_shape_backward_nme"] = metrics.image_errors(still, test.discovered, unit)
    figures["test_images_without_distance"] = int((unit <= 0.0).sum())
    figures["n_shot"] = _n_shot(config, train, unseen)
    return errors, figures


def _n_shot(config: Config, train: Seen, unseen: Dict[str, metrics.Unseen]) -> List[Dict[str, Any]]:
    """The n-shot curve; counts beyond the number of training images are left out."""
    settings, total = config.evaluate, len(train.names)
    reached = sorted(count for count in {*settings.shots, total} if count <= total)
    return metrics.n_shot(train.discovered, train.annotated, unseen, reached, settings.samples, settings.seed)


def _write_predictions(
    output: Path, names: List[str], test: Seen, fitted: LinearMap, errors: Dict[str, np.ndarray]
) -> None:
    """`predictions.csv`: each upright test image's errors, predicted and discovered points, in [-1, 1] of the view."""
    shown = ("nme", "nme_warped", "mean_shape_nme", "mean_shape_nme_warped")
    columns = {"file": test.names}
    columns.update({name: errors[name] for name in shown if name in errors})
    columns.update(_columns(names, fitted(test.discovered)))
    discovered = [f"discovered_{number}" for number in range(test.discovered.shape[1])]
    columns.update(_columns(discovered, test.discovered))
    pd.DataFrame(columns).to_csv(str(output / "predictions.csv"), index=False, float_format="%.6f")


def _write_examples(config: Config, output: Path, test: Seen, warped: Seen, fitted: LinearMap) -> None:
    """`examples.npz`: the first images with their points and heatmaps, and where the maps' cells lie, for the report."""
    shown = len(test.images)
    cells = network.cell_centers(config.network.name, config.network.view)
    arrays: Dict[str, Any] = {"names": test.names[:shown], "heatmaps": test.heatmaps, "cells": cells}
    for prefix, seen in (("", test), ("warped_", warped)):
        arrays[prefix + "images"] = seen.images
        arrays[prefix + "discovered"] = seen.discovered[:shown]
        arrays[prefix + "annotated"] = seen.annotated[:shown]
        arrays[prefix + "predicted"] = fitted(seen.discovered[:shown])
    np.savez_compressed(str(output / "examples.npz"), **arrays)


def _summary(config: Config, data: records.Records, trained: Path, means: Dict[str, Optional[float]]) -> Dict[str, Any]:
    """The single figures of `metrics.json`; errors that need annotations are None where there are none."""
    summary: Dict[str, Any] = dict.fromkeys(_FIGURES)
    summary.update(means)
    training = json.loads((trained / "training.json").read_text())
    summary.update(
        loss_align=training["loss_align"],
        loss_diversity=training["loss_diversity"],
        landmarks=config.network.landmarks,
        train_images=training["train_images"],
        regression_images=data.images["train"],
        test_images=data.images["test"],
        steps=training["steps"],
        train_pairs_per_second=training["pairs_per_second"],
        train_seconds=training["seconds"],
        tensorflow=tf.__version__,
        python=platform.python_version(),
        device=training["device"],
    )
    return summary


def _check(config: Config, data: records.Records) -> None:
    """Refuses data that cannot be evaluated, before anything is computed."""
    if not data.images["test"] or not data.images["train"]:
        raise ConfigError(f"{data.folder}: evaluation needs training and test images, got {data.images}")
    missing = [name for name in config.evaluate.eyes if name not in data.landmarks]
    if data.landmarks and missing:
        raise ConfigError(
            "evaluate.eyes: {} is not annotated; the data set has {}".format(
                ", ".join(missing), ", ".join(data.landmarks)
            )
        )


def draw_warps(config: Config, count: int) -> np.ndarray:
    """float64 [count, C, 2]: the warps of the warped test set."""
    settings = dataclasses.replace(config.augment, flip=False)
    random = np.random.RandomState(config.evaluate.seed)
    return augment.draw(settings, random, count, 1).targets[:, 0].astype(np.float64)


def _look(config: Config, detect: Detector, data: records.Records, split: str, targets: Any) -> Seen:
    """Runs the detector over a split, upright (`targets` None) or through one warp per image."""
    parts: List[Seen] = []
    shown = config.report.examples if split == "test" else 0
    scale = data.size / config.network.view
    for names, images, annotated in progress_bar(
        _batches(config, data, split, targets),
        total=-(-data.images[split] // config.evaluate.batch_size),
        unit="batches",
        desc=split if targets is None else "warped " + split,
    ):
        found = detect(images)
        parts.append(
            Seen(names.astype(str), found.landmarks, annotated * scale, images[:shown], found.heatmaps[:shown])
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
        batch = tf.data.make_one_shot_iterator(
            records.ordered_batches(data, split, config.evaluate.batch_size)
        ).get_next()
        done = 0
        while done < data.images[split]:
            names, images, landmarks = session.run(batch)
            if targets is None:
                views = central_view(images, config.network.view)
            else:
                views = _warped(config, images, targets[done : done + len(names)])
            done += len(names)
            yield names, views, landmarks.astype(np.float64)


def _warped(config: Config, images: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Images uint8 [n, size, size, 3] through warps float [n, C, 2], as uint8 [n, view, view, 3]."""
    still = augment.unchanged(config.augment, len(images))
    drawn = still._replace(targets=targets[:, None].astype(np.float32))
    views = rendering.render(images, drawn, config.network.view)
    return np.round((views + 1.0) * 127.5).astype(np.uint8)


def _columns(names: List[str], points: np.ndarray) -> Dict[str, np.ndarray]:
    """One column per coordinate of [n, points, 2]."""
    return {name + axis: points[:, i, j] for i, name in enumerate(names) for j, axis in enumerate(("_x", "_y"))}
