"""What tests ask of trainings: other settings, and what a checkpoint holds."""

import dataclasses
from pathlib import Path
from typing import Any, Dict

import numpy as np

from fse import config
from fse.tf1 import tf
from fse.training import checkpoint_paths


def changed(settings: config.Config, **train: Any) -> config.Config:
    """The experiment with other settings of `train`."""
    return dataclasses.replace(settings, train=dataclasses.replace(settings.train, **train))


def stored(folder: Path, step: int = 0) -> Dict[str, np.ndarray]:
    """What the checkpoint of a step, or the newest one, of a training holds, by name."""
    found = checkpoint_paths.found(folder / "checkpoints")
    prefix = next(path for path in found if step in (0, checkpoint_paths.step_of(path)))
    reader = tf.train.NewCheckpointReader(prefix)
    return {name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map()}
