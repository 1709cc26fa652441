"""Saving, finding, checking and restoring checkpoints. Variables that a checkpoint lacks are an error.

A checkpoint is the same on every device. What mixed precision found out on one of them, the loss scale, lies beside it in
`model-<step>.scaling.json`: a training that goes on elsewhere does without.
"""

import json
import logging
from pathlib import Path
from typing import Any, Dict, List, Optional

import numpy as np

from fse.errors import CheckpointError
from fse.runtime import outputs
from fse.tf1 import reason, tf
from fse.training.checkpoint_paths import PREFIX, found

log = logging.getLogger(__name__)

# Ends the name of a variable's moving average.
AVERAGED = "/ExponentialMovingAverage"


def names_of(variables: List[Any]) -> Dict[str, Any]:
    """The variables by the names under which checkpoints store them."""
    return {variable.op.name: variable for variable in variables}


def save(session: Any, saver: Any, scaling: Dict[str, Any], folder: Path, step: int) -> None:
    """Saves the variables that `saver` was made for, and the loss scaling's beside them; removes surplus checkpoints."""
    if scaling:
        values = {name: value.tolist() for name, value in session.run(scaling).items()}
        outputs.write_json(_scaling_of(str(folder / f"{PREFIX}-{step}")), values)
    saver.save(session, str(folder / PREFIX), step, write_meta_graph=False)
    tidy(folder, found(folder))


def restore_scaling(session: Any, variables: Dict[str, Any], prefix: str) -> bool:
    """Restores the loss scaling's variables as they were when a checkpoint was saved.

    Returns:
      whether they are as they were: not if the checkpoint was saved without them, or by another kind of device.
    """
    try:
        values = json.loads(_scaling_of(prefix).read_text())
    except (OSError, ValueError):
        values = {}
    if {*values} != {*variables}:
        return not variables
    for name, variable in variables.items():
        session.run(variable.initializer, {variable.initializer.inputs[1]: values[name]})
    return True


def restore_newest(session: Any, saver: Any, variables: Dict[str, Any], folder: Path) -> Optional[str]:
    """Restores the newest checkpoint that can be read.

    A broken one is named in a warning, and the one before it is taken.

    Returns:
      its prefix, or None if the folder holds none that can be read.

    Raises:
      CheckpointError: a readable checkpoint does not fit the variables.
    """
    for prefix in found(folder):
        try:
            restore(session, saver, variables, prefix)
            return prefix
        except (tf.errors.OpError, ValueError, RuntimeError) as error:
            log.warning("checkpoint %s cannot be read (%s); trying the one before", prefix, _why(error))
    return None


def tidy(folder: Path, kept: List[str]) -> None:
    """Deletes all but the checkpoints `kept`: surplus ones, broken ones, and what a save that was stopped left."""
    names = {Path(prefix).name for prefix in kept}
    for path in folder.iterdir():
        name, _, kind = path.name.partition(".")
        if path.name != "checkpoint" and (name not in names or "tempstate" in kind):
            path.unlink()


def restore(session: Any, saver: Any, variables: Dict[str, Any], prefix: str) -> None:
    """Restores exactly the given variables, the ones that `saver` was made for, by their names in the checkpoint.

    Raises:
      CheckpointError: names or shapes differ.
      tf.errors.OpError: the files are broken.
    """
    reader = tf.train.NewCheckpointReader(prefix)
    stored = reader.get_variable_to_shape_map()
    problems = _differences({name: variable.shape.as_list() for name, variable in variables.items()}, stored)
    if problems:
        raise CheckpointError(
            "checkpoint {} does not fit the network: {}{}; use the network settings it was trained with, or train "
            "afresh in another folder".format(prefix, "; ".join(problems[:3]), " …" if len(problems) > 3 else "")
        )
    saver.restore(session, prefix)


def weights(prefix: str, variables: Dict[str, Any]) -> Dict[str, np.ndarray]:
    """Values for the given variables from a checkpoint that nobody has vouched for: their moving averages, if it has them.

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
        names = {name: name + AVERAGED if name + AVERAGED in stored else name for name in variables}
        wanted = {names[name]: variable.shape.as_list() for name, variable in variables.items()}
        problems = _differences(wanted, stored)
        values = {} if problems else {name: reader.get_tensor(names[name]) for name in variables}
    except (
        tf.errors.OpError,
        ValueError,
        RuntimeError,
        IndexError,
    ) as error:  # the last where less is there than stated
        raise CheckpointError(f"checkpoint {prefix} cannot be read: {_why(error)}") from None
    for name, value in values.items():
        dtype = variables[name].dtype.base_dtype.as_numpy_dtype
        if value.dtype != dtype:
            problems.append(f"{name} is of type {value.dtype} in it, {np.dtype(dtype)} in the network")
        elif not np.isfinite(value).all():
            problems.append(f"{name} has values that are not finite")
    if problems:
        raise CheckpointError(
            "checkpoint {} does not fit the network: {}{}; train with the network settings that it was trained "
            "with".format(prefix, "; ".join(problems[:3]), " …" if len(problems) > 3 else "")
        )
    return values


def _differences(wanted: Dict[str, List[int]], stored: Dict[str, List[int]]) -> List[str]:
    problems = [f"{name} is missing in it" for name in sorted(set(wanted) - set(stored))]
    for name in sorted(set(wanted) & set(stored)):
        if list(stored[name]) != wanted[name]:
            problems.append(f"{name} is {list(stored[name])} in it, {wanted[name]} in the network")
    return problems


def _why(error: Exception) -> str:
    return reason(error) if isinstance(error, tf.errors.OpError) else str(error).split("\n")[0]


def _scaling_of(prefix: str) -> Path:
    return Path(prefix + ".scaling.json")
