"""Helpers for tests of training: changed settings, and the variables of a checkpoint."""

import dataclasses
import os
from pathlib import Path
from typing import Any, Dict

import numpy as np

from fse import config
from fse.tf1 import tf
from fse.training import checkpoint_paths


def with_train(settings: config.Config, **train: Any) -> config.Config:
    """Return the experiment with these settings of `train` replaced."""
    return dataclasses.replace(settings, train=dataclasses.replace(settings.train, **train))


def read_checkpoint(folder: Path, step: int = 0) -> Dict[str, np.ndarray]:
    """Return the variables of a checkpoint by name. Step 0 stands for the newest checkpoint."""
    checkpoints = checkpoint_paths.list_checkpoints(folder / "checkpoints")
    prefix: str = next(path for path in checkpoints if step in (0, checkpoint_paths.step_of(path)))
    reader = tf.train.NewCheckpointReader(prefix)
    return {name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map()}


def save_arrays(prefix: Path, values: Dict[str, np.ndarray]) -> str:
    """Save arrays as variables of a checkpoint; return its prefix."""
    with tf.Graph().as_default(), tf.Session() as session:
        variables = {name: tf.Variable(value, name=name) for name, value in values.items()}
        session.run(tf.global_variables_initializer())
        path: str = tf.train.Saver(variables).save(session, os.fspath(prefix), write_meta_graph=False)
        return path
