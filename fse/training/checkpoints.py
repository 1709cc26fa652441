"""Saving, checking and restoring checkpoints. A variable that a checkpoint lacks is an error, never left at random.

A checkpoint holds the same variables on every device and for any number of ranks. The loss scale of mixed precision
depends on the device. It is stored beside the checkpoint in `model-<step>.scaling.json`, and a training that resumes on
another device starts with a new one.
"""

import json
import logging
from pathlib import Path
from typing import Any, Dict, List, Optional

import numpy as np

from fse.errors import CheckpointError
from fse.runtime.files import write_json
from fse.tf1 import error_message, tf
from fse.training.checkpoint_paths import PREFIX, list_checkpoints

log = logging.getLogger(__name__)

# TensorFlow's suffix of the name of a variable's exponential moving average.
EMA_SUFFIX = "/ExponentialMovingAverage"

# An error message lists at most this many differences.
_MAX_PROBLEMS = 3

# The errors of TensorFlow's reader for broken files, one kind per sort of damage; IndexError is for missing data.
_READ_ERRORS = (tf.errors.OpError, ValueError, RuntimeError, IndexError)


def variables_by_name(variables: List[Any]) -> Dict[str, Any]:
    """Return the variables by the names under which checkpoints store them."""
    return {variable.op.name: variable for variable in variables}


def save(session: Any, saver: Any, loss_scale_variables: Dict[str, Any], folder: Path, step: int) -> None:
    """Save a checkpoint of the saver's variables, with the loss scale beside it; delete surplus checkpoints."""
    if loss_scale_variables:
        values = {name: value.tolist() for name, value in session.run(loss_scale_variables).items()}
        # Before the checkpoint, so that no checkpoint lacks its loss scale if the process is killed in between.
        write_json(_loss_scale_file(str(folder / f"{PREFIX}-{step}")), values)
    saver.save(session, str(folder / PREFIX), step, write_meta_graph=False)
    delete_all_but(folder, list_checkpoints(folder))


def restore_loss_scale(session: Any, variables: Dict[str, Any], prefix: str) -> bool:
    """Restore the variables of loss scaling as they were when a checkpoint was saved.

    Returns:
      whether they were restored, or there are none; False if another kind of device saved the checkpoint.
    """
    try:
        values = json.loads(_loss_scale_file(prefix).read_text())
    except (OSError, ValueError):
        values = {}
    if {*values} != {*variables}:
        return not variables
    for name, variable in variables.items():
        session.run(variable.initializer, {variable.initializer.inputs[1]: values[name]})
    return True


def restore_newest(session: Any, saver: Any, variables: Dict[str, Any], folder: Path) -> Optional[str]:
    """Restore the newest checkpoint that can be read. A warning names each broken one.

    Returns:
      its prefix, or None if no checkpoint in the folder can be read.

    Raises:
      CheckpointError: a readable checkpoint does not fit the variables.
    """
    for prefix in list_checkpoints(folder):
        try:
            restore(session, saver, variables, prefix)
            return prefix
        except (tf.errors.OpError, ValueError, RuntimeError) as error:
            log.warning("checkpoint %s cannot be read (%s); trying the one before", prefix, _message(error))
    return None


def delete_all_but(folder: Path, kept: List[str]) -> None:
    """Delete all checkpoints but those of the prefixes `kept`, and the temporary files of interrupted saves."""
    names = {Path(prefix).name for prefix in kept}
    for path in folder.iterdir():
        name, _, suffix = path.name.partition(".")
        # "checkpoint" is TensorFlow's list of the checkpoints in the folder.
        if path.name != "checkpoint" and (name not in names or "tempstate" in suffix):
            path.unlink()


def restore(session: Any, saver: Any, variables: Dict[str, Any], prefix: str) -> None:
    """Restore exactly the given variables, which must be the saver's, by their names in the checkpoint.

    Raises:
      CheckpointError: names or shapes differ.
      tf.errors.OpError: the files are broken.
    """
    reader = tf.train.NewCheckpointReader(prefix)
    stored = reader.get_variable_to_shape_map()
    problems = _differences({name: variable.shape.as_list() for name, variable in variables.items()}, stored)
    if problems:
        raise _does_not_fit(
            prefix, problems, "use the network settings it was trained with, or train in another folder"
        )
    saver.restore(session, prefix)


def read_weights(prefix: str, variables: Dict[str, Any]) -> Dict[str, np.ndarray]:
    """Read the values of variables from an untrusted checkpoint: their moving averages, if it has them.

    Args:
      prefix: of the checkpoint.
      variables: by their names in it.

    Returns:
      arrays of the variables' shapes and types, by these names.

    Raises:
      CheckpointError: it is broken, names, shapes or types differ, or a value is not finite.
    """
    try:
        reader = tf.train.NewCheckpointReader(prefix)
        stored = reader.get_variable_to_shape_map()
        names = {name: name + EMA_SUFFIX if name + EMA_SUFFIX in stored else name for name in variables}
        expected = {names[name]: variable.shape.as_list() for name, variable in variables.items()}
        problems = _differences(expected, stored)
        values = {} if problems else {name: reader.get_tensor(names[name]) for name in variables}
    except _READ_ERRORS as error:
        raise CheckpointError(f"checkpoint {prefix} cannot be read: {_message(error)}") from None
    for name, value in values.items():
        dtype = variables[name].dtype.base_dtype.as_numpy_dtype
        if value.dtype != dtype:
            problems.append(f"{name} is of type {value.dtype} in it, {np.dtype(dtype)} in the network")
        elif not np.isfinite(value).all():
            problems.append(f"{name} has values that are not finite")
    if problems:
        raise _does_not_fit(prefix, problems, "train with the network settings that it was trained with")
    return values


def _differences(expected: Dict[str, List[int]], stored: Dict[str, List[int]]) -> List[str]:
    """Return how the names and shapes in a checkpoint differ from the expected ones. It may hold further variables."""
    problems = [f"{name} is missing in it" for name in sorted(set(expected) - set(stored))]
    for name in sorted(set(expected) & set(stored)):
        if list(stored[name]) != expected[name]:
            problems.append(f"{name} is {list(stored[name])} in it, {expected[name]} in the network")
    return problems


def _does_not_fit(prefix: str, problems: List[str], advice: str) -> CheckpointError:
    listed = "; ".join(problems[:_MAX_PROBLEMS]) + (" …" if len(problems) > _MAX_PROBLEMS else "")
    return CheckpointError(f"checkpoint {prefix} does not fit the network: {listed}; {advice}")


def _message(error: Exception) -> str:
    return error_message(error) if isinstance(error, tf.errors.OpError) else str(error).split("\n")[0]


def _loss_scale_file(prefix: str) -> Path:
    return Path(prefix + ".scaling.json")
