"""TFRecord shards of noise, for benchmarks of training."""

import json
from pathlib import Path

import numpy as np

from benchmarks.common import write_images
from fse.config import Config
from fse.datasets import annotations
from fse.inputs import records
from fse.preprocessing import tfrecord


def write_records(experiment: Config, folder: Path, count: int) -> records.Records:
    """Write TFRecord shards of crops of soft noise, all for training and without landmarks."""
    crops, size = folder / "crops", experiment.crop.size
    (crops / "images").mkdir(parents=True)
    names = [path.name for path in write_images(crops / "images", count, (size, size), 8, experiment.crop.format)]
    rows = (annotations.CropRow(name, name, "train", np.zeros((0, 2))) for name in names)
    annotations.write_crops(crops / "landmarks.csv", [], rows)
    (crops / "crop.json").write_text(json.dumps({"size": size, "landmarks": []}))
    (folder / "records").mkdir()
    tfrecord.convert(experiment, crops, folder / "records")
    return records.read(folder / "records")
