"""The Evaluate stage: it measures an exported detector against annotated landmarks, beside a constant prediction.

The detector runs on the training images, on the test images, and on randomly warped test images. Linear maps from
discovered to annotated points are fitted on the training images of the evaluation data set, which may differ from the
data set that the detector was trained on.

Each test image has one warp, as strong as in training but without mirroring, sampled from `evaluate.seed`. A
prediction that ignores the image fails on warped images. No training warp occurs here, for any seeds: training
seeds its generator with a pair of numbers, and evaluation with a single one.

Names in `metrics.json`
  nme, failure_rate_10, auc_10, per_landmark   errors of the model, by a linear map without bias unless the name says so
  mean_shape_…            the same error of a constant prediction, the mean of the images that the maps are fitted on
  …_warped                the same error on the warped test images
  …_interval              the 95 % bootstrap interval of a mean over test images
  train_images            number of images that the detector was trained on
  regression_images       number of images that the linear maps are fitted on
  n_shot                  the rows of `metrics.n_shot_curve`

A metric is null if no image has a value.
"""

import dataclasses
import json
import platform
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional, Tuple

import numpy as np
import pandas as pd

from fse import geometry
from fse.config import Config
from fse.devices import cpu
from fse.errors import ConfigError
from fse.evaluation import metrics
from fse.evaluation.metrics import LinearMap
from fse.evaluation.scoring import SplitDetections, measure
from fse.inference.detector import Detector, central_view
from fse.inputs import augment, records, rendering
from fse.model import network
from fse.runtime.progress import progress_bar
from fse.tf1 import tf

# Errors that `metrics.json` always has, in this order; null without annotations.
_ANNOTATION_ERRORS = (
    "nme",
    "nme_with_bias",
    "nme_warped",
    "mean_shape_nme",
    "mean_shape_nme_warped",
    "backward_nme",
    "failure_rate_10",
    "auc_10",
)


def evaluate(config: Config, model: Path, trained: Path, shards: Path, output: Path) -> None:
    """Write `metrics.json`, `predictions.csv` and `examples.npz`: the Evaluate stage.

    Args:
      config: the experiment.
      model: the exported detector.
      trained: its training, for the figures in `training.json`.
      shards: records of the data set that is evaluated on.
      output: an existing folder.

    Raises:
      ExportError: the detector cannot be read.
      RecordError: the records cannot be read.
      ConfigError: `evaluate.eyes` are not annotated, or there are no training or no test images.
    """
    data = records.read(shards)
    augment.check_jitter(config.augment)
    _check_data(config, data)
    with Detector(model) as detect:
        train = _detect_split(config, detect, data, "train", None)
        test = _detect_split(config, detect, data, "test", None)
        destinations = sample_test_warps(config, len(test.names))
        warped = _detect_split(config, detect, data, "test", destinations)
    fitted = LinearMap(train.discovered, train.annotated, bias=False)
    errors, figures = measure(config, data.landmarks, train, test, warped, destinations)
    summary = _summary(config, data, trained, {name: metrics.mean(values) for name, values in errors.items()})
    summary.update(figures)
    (output / "metrics.json").write_text(json.dumps(summary, indent=2, allow_nan=False) + "\n")
    _write_predictions(output, data.landmarks, test, fitted, errors)
    _write_examples(config, output, test, warped, fitted)


def sample_test_warps(config: Config, count: int) -> np.ndarray:
    """Return the control points' destinations of the warps of `count` test images, float64 [count, C, 2].

    Mirroring is off: the annotated points of a mirrored face would have the wrong names.
    """
    settings = dataclasses.replace(config.augment, flip=False)
    random = np.random.RandomState(config.evaluate.seed)
    return augment.sample_views(settings, random, count, 1).destinations[:, 0].astype(np.float64)


def _check_data(config: Config, data: records.Records) -> None:
    """Check the data before anything is computed; raise ConfigError if they are unsuitable."""
    if not data.images["test"] or not data.images["train"]:
        raise ConfigError(f"{data.folder}: evaluation needs training and test images, got {data.images}")
    missing = ", ".join(name for name in config.evaluate.eyes if name not in data.landmarks)
    if data.landmarks and missing:
        annotated = ", ".join(data.landmarks)
        raise ConfigError(f"evaluate.eyes: {missing} is not annotated; the data set has {annotated}")


# Detection ---------------------------------------------------------------------------------------------------------


def _detect_split(
    config: Config, detect: Detector, data: records.Records, split: str, destinations: Optional[np.ndarray]
) -> SplitDetections:
    """Run the detector over a split: upright if `destinations` is None, else through one warp per image."""
    parts: List[SplitDetections] = []
    examples = config.report.examples if split == "test" else 0
    # Annotations are stored in [-1, 1] over the crop, of which the view is the center.
    scale = data.size / config.network.view
    for names, views, annotated in progress_bar(
        _batches(config, data, split, destinations),
        total=-(-data.images[split] // config.evaluate.batch_size),  # rounded up
        unit="batches",
        desc=split if destinations is None else "warped " + split,
    ):
        detection = detect(views)
        parts.append(
            SplitDetections(
                names=names.astype(str),
                discovered=detection.landmarks,
                annotated=annotated * scale,
                images=views[:examples],
                heatmaps=detection.heatmaps[:examples],
            )
        )
        examples = max(0, examples - len(names))
    detections = _concatenate(parts)
    if destinations is None:
        return detections
    # A warp goes from the view to the image, so its inverse carries annotated points of the image into the view.
    annotated = [geometry.unwarp_points(points, warp) for points, warp in zip(detections.annotated, destinations)]
    return dataclasses.replace(detections, annotated=np.stack(annotated))


def _concatenate(parts: List[SplitDetections]) -> SplitDetections:
    names = [field.name for field in dataclasses.fields(SplitDetections)]
    return SplitDetections(**{name: np.concatenate([getattr(part, name) for part in parts]) for name in names})


def _batches(
    config: Config, data: records.Records, split: str, destinations: Optional[np.ndarray]
) -> Iterator[Tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Yield names, views (uint8 [n, view, view, 3]) and annotated points (over the crop) of a split, in batches."""
    with tf.Graph().as_default(), tf.Session(config=cpu.session_config(0)) as session:
        batch = tf.data.make_one_shot_iterator(
            records.ordered_batches(data, split, config.evaluate.batch_size)
        ).get_next()
        done = 0
        while done < data.images[split]:
            names, images, landmarks = session.run(batch)
            if destinations is None:
                views = central_view(images, config.network.view)
            else:
                views = _warp_images(config, images, destinations[done : done + len(names)])
            done += len(names)
            yield names, views, landmarks.astype(np.float64)


def _warp_images(config: Config, images: np.ndarray, destinations: np.ndarray) -> np.ndarray:
    """Render images uint8 [n, size, size, 3] through warps float [n, C, 2], as uint8 [n, view, view, 3]."""
    identity = augment.identity_views(config.augment, len(images))
    samples = identity._replace(destinations=destinations[:, None].astype(np.float32))
    views = rendering.render(images, samples, config.network.view)
    return np.round((views + 1.0) * 127.5).astype(np.uint8)


# Outputs -----------------------------------------------------------------------------------------------------------


def _summary(config: Config, data: records.Records, trained: Path, means: Dict[str, Optional[float]]) -> Dict[str, Any]:
    """Return the scalar metrics of `metrics.json`; errors that need annotations are None without them."""
    summary: Dict[str, Any] = dict.fromkeys(_ANNOTATION_ERRORS)
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


def _write_predictions(
    output: Path, names: List[str], test: SplitDetections, fitted: LinearMap, errors: Dict[str, np.ndarray]
) -> None:
    """Write `predictions.csv`: each upright test image's errors, predicted and discovered points, in [-1, 1]."""
    error_columns = ("nme", "nme_warped", "mean_shape_nme", "mean_shape_nme_warped")
    columns = {"file": test.names}
    columns.update({name: errors[name] for name in error_columns if name in errors})
    columns.update(_coordinate_columns(names, fitted(test.discovered)))
    discovered = [f"discovered_{number}" for number in range(test.discovered.shape[1])]
    columns.update(_coordinate_columns(discovered, test.discovered))
    pd.DataFrame(columns).to_csv(output / "predictions.csv", index=False, float_format="%.6f")


def _coordinate_columns(names: List[str], points: np.ndarray) -> Dict[str, np.ndarray]:
    """Return one column per coordinate of points [n, points, 2]."""
    return {name + axis: points[:, i, j] for i, name in enumerate(names) for j, axis in enumerate(("_x", "_y"))}


def _write_examples(
    config: Config, output: Path, test: SplitDetections, warped: SplitDetections, fitted: LinearMap
) -> None:
    """Write `examples.npz` for the report: the first test images with points and heatmaps.

    `cells` has the coordinates of the rows and of the columns of the heatmaps, in [-1, 1] over the view.
    """
    count = len(test.images)
    cells = network.cell_centers(config.network.name, config.network.view)
    arrays: Dict[str, Any] = {"names": test.names[:count], "heatmaps": test.heatmaps, "cells": cells}
    for prefix, split in (("", test), ("warped_", warped)):
        arrays[prefix + "images"] = split.images
        arrays[prefix + "discovered"] = split.discovered[:count]
        arrays[prefix + "annotated"] = split.annotated[:count]
        arrays[prefix + "predicted"] = fitted(split.discovered[:count])
    np.savez_compressed(output / "examples.npz", **arrays)
