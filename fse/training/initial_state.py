"""The variables with which a session of training begins: from a checkpoint, from another training, or random.

Only rank 0 reads checkpoints. The other ranks then receive its variables, so they need no shared file system.
"""

import logging
from pathlib import Path
from typing import Any, Callable, Optional

from fse.config import Config
from fse.devices.base import Device
from fse.errors import CheckpointError
from fse.model import network
from fse.tf1 import tf
from fse.training import checkpoint_paths, checkpoints
from fse.training.graph import Graph

log = logging.getLogger(__name__)

# Numbers are sent to other ranks as float32, which represents integers below 2^24 exactly. Larger ones go in two parts.
_PART_BITS = 20


def restore(config: Config, session: Any, saver: Any, graph: Graph, output: Path, steps: int) -> int:
    """Restore the newest valid checkpoint in `output`, or begin with random weights or those of `train.init_from`.

    Also removes broken and surplus checkpoints. All variables must be initialized before.

    Args:
      config: the experiment.
      session: the session of rank 0.
      saver: of `graph.checkpoint_variables`.
      graph: the training graph.
      output: folder of the training.
      steps: number of steps of the training, for the log.

    Returns:
      the step of the checkpoint; 0 if there is none.

    Raises:
      CheckpointError: the checkpoint does not fit the network, or the one of `train.init_from` cannot be used.
    """
    step = _restore_newest(config, session, saver, graph, output / "checkpoints", steps)
    if not step and config.train.init_from:
        _load_init_from(config, session, graph)
    return step


def _restore_newest(config: Config, session: Any, saver: Any, graph: Graph, folder: Path, steps: int) -> int:
    folder.mkdir(parents=True, exist_ok=True)
    prefix = checkpoints.restore_newest(session, saver, graph.checkpoint_variables, folder)
    step = checkpoint_paths.step_of(prefix) if prefix else 0
    if prefix and not checkpoints.restore_loss_scale(session, graph.loss_scale_variables, prefix):
        log.info("the loss scale starts from its initial value: %s was saved without one", prefix)
    valid = [other for other in checkpoint_paths.list_checkpoints(folder) if checkpoint_paths.step_of(other) <= step]
    kept = valid[: config.train.keep_checkpoints]
    checkpoints.delete_all_but(folder, kept)
    # The saver deletes the oldest of these, first in its list, when it has saved new ones.
    saver.recover_last_checkpoints(kept[::-1])
    if prefix:
        log.info("resuming from step %d of %d (%s)", step, steps, prefix)
    return step


def _load_init_from(config: Config, session: Any, graph: Graph) -> None:
    """Assign the weights of the checkpoint `train.init_from` to the network and, if there are any, to their averages.

    The optimizer's state, the step and the learning rate start anew: this is another training.

    Raises:
      CheckpointError: there is no checkpoint, or it is broken or of another network.
    """
    prefix = checkpoint_paths.resolve_checkpoint(config.train.init_from)
    if prefix is None:
        raise CheckpointError(checkpoint_paths.missing_message(config.train.init_from))
    name = checkpoint_paths.network_name(prefix)
    if name not in ("", config.network.name):
        raise CheckpointError(
            f"train.init_from {config.train.init_from}: its network.name is {name!r}, but this experiment's is "
            f"{config.network.name!r}; use the same network"
        )
    values = checkpoints.read_weights(prefix, checkpoints.variables_by_name(network.variables()))
    # Feed the values into the variables' initializers: the graph is complete, and no operation can be added to it.
    initializers = {
        graph.checkpoint_variables[name + suffix].initializer: value
        for name, value in values.items()
        for suffix in ("", checkpoints.EMA_SUFFIX)
        if name + suffix in graph.checkpoint_variables
    }
    session.run(list(initializers), {operation.inputs[1]: value for operation, value in initializers.items()})
    log.info("starting from the weights of %s", prefix)


def build_broadcast(graph: Graph, device: Device) -> Optional[Callable[[Any, int], int]]:
    """Build the operations that give all ranks the variables and the step of rank 0.

    Returns:
      a function (session, step) that every rank must call at the same time, with its own step, and that returns the step
      of rank 0; None for a single rank.
    """
    if device.size == 1:
        return None
    variables = [
        variable for variable in graph.checkpoint_variables.values() if variable.dtype.base_dtype == tf.float32
    ]
    # Loss scaling counts steps, to numbers far below 2^24.
    variables += graph.loss_scale_variables.values()
    # The step and the number of updates, in two parts each: high, low, high, low.
    counts = tf.placeholder(tf.float32, [4], "counts")
    *values, shared_counts = device.broadcast(
        [*(tf.cast(variable.read_value(), tf.float32) for variable in variables), counts]
    )
    assign = tf.group(
        *(tf.assign(variable, tf.cast(value, variable.dtype.base_dtype)) for variable, value in zip(variables, values))
    )
    updates_applied = tf.placeholder(tf.int64, [], "taken")
    assign_updates_applied = tf.assign(tf.train.get_global_step(), updates_applied)

    def broadcast(session: Any, step: int) -> int:
        numbers = (step, session.run(graph.updates_applied))
        parts = [part for number in numbers for part in divmod(int(number), 1 << _PART_BITS)]
        received, _ = session.run([shared_counts, assign], {counts: parts})
        step, updates = (int(high) << _PART_BITS | int(low) for high, low in (received[:2], received[2:]))
        session.run(assign_updates_applied, {updates_applied: updates})
        return step

    return broadcast
