"""The Train stage: it trains the detector on warped views of the training images.

`fse.training.graph` builds what a step computes, and `fse.training.loop` takes the steps. This module checks the settings,
starts a process for each rank if there are several, resumes an interrupted training, and writes its summary.

All randomness is a function of the seed and the step, so a training that was interrupted and resumed equals one that was
not.
"""

import dataclasses
import logging
import os
import sys
from pathlib import Path
from typing import Any, Dict, Tuple

import numpy as np

from fse import devices
from fse.config import Config, as_tables, redact_config
from fse.devices import npu
from fse.devices.base import Device
from fse.distributed import launcher, ranks
from fse.errors import ConfigError, TrainingError
from fse.inputs import augment, records
from fse.runtime import integrity
from fse.runtime.files import write_json
from fse.runtime.hashing import content_hash, hash_file
from fse.tf1 import error_message, tf
from fse.training import initial_state
from fse.training.graph import build_graph
from fse.training.loop import Recorder, run_steps
from fse.training.loss_table import LOSSES, Rows

log = logging.getLogger(__name__)

_CODE = Path(__file__).resolve().parents[1]

# Settings of the `train` section that may differ between hosts. The first host reads the weights of `init_from`.
_HOST_SETTINGS = ("threads", "rank_table", "init_from")

# `training.json` holds the means of this many last rows of the table of losses.
_AVERAGED_ROWS = 10


def train(config: Config, shards: Path, output: Path) -> None:
    """Train a detector on the training split of `shards`: the Train stage.

    Training resumes from the newest valid checkpoint in `output`. Otherwise it begins with random weights, or with those
    of `train.init_from`; step, learning rate, moving averages and the optimizer's state start anew in either case.

    Writes `checkpoints/`, `losses.csv`, `summaries/` (TensorBoard) and, last, `training.json`. With several ranks or on
    an NPU it trains in child processes, whose logs are in `logs/`. Prints the progress lines of the reference
    implementations on standard output.

    Raises:
      ConfigError: the configuration is invalid for these shards or for this host.
      RecordError: the shards are missing or invalid.
      CheckpointError: a checkpoint in `output` belongs to another network; or the one of `train.init_from` does, is
        broken, or does not exist.
      DeviceError: the configured device is not available, or was not used.
      TrainingError: a loss is not finite, a shard cannot be read, a checkpoint cannot be written, or a rank failed.
    """
    data, steps = _check_settings(config, shards)
    topology = ranks.topology(config.train)
    if topology.host_index:
        raise ConfigError(f"this is host {topology.host_index} of train.hosts; run `fse join` here")
    if topology.size == 1 and config.train.device != "npu":
        _train(config, data, devices.find(config), output, steps)
    else:
        _launch(config, topology, shards, data, output)


def join(config: Config, shards: Path, logs: Path) -> None:
    """Compute this host's ranks of a training that `train` runs on the first of `train.hosts`.

    Args:
      config: the same experiment.
      shards: the same records.
      logs: folder for the ranks' logs; created if necessary.

    Raises:
      ConfigError: settings, code or data differ from those of the first host.
      TrainingError: a rank failed, here or on another host.
    """
    data, _ = _check_settings(config, shards)
    topology = ranks.topology(config.train)
    if not topology.host_index:
        raise ConfigError(f"fse join: this host must be another than the first of train.hosts, got {topology.hosts}")
    logs.mkdir(parents=True, exist_ok=True)
    _launch(config, topology, shards, data, logs)


def rank(config: Config, shards: Path, output: Path) -> None:
    """Train as the rank that the environment assigns to this process.

    Rank 0 writes what `train` writes; the other ranks write nothing. The process exits with `launcher.LEFT_ALONE` if it
    failed only because another rank did.
    """
    this_rank = ranks.current_rank(config.train)
    data, steps = _check_settings(config, shards)
    try:
        _train(config, data, devices.find(config, this_rank), output, steps)
    except TrainingError as error:
        lost_connection = (tf.errors.UnavailableError, tf.errors.CancelledError, tf.errors.AbortedError)
        if not isinstance(error.__cause__, lost_connection):
            raise
        # Another rank failed first, and its error is the one to report.
        print(f"error: {error}", file=sys.stderr, flush=True)
        os._exit(launcher.LEFT_ALONE)


def total_steps(config: Config, data: records.Records) -> int:
    """Return the number of training steps, from `train.steps` or `train.epochs`.

    Raises:
      ConfigError: the configuration is invalid for these records: fewer images than a batch, another crop size, a batch
        or a number of steps that does not divide.
    """
    count, batch_size = data.images["train"], config.train.batch_size
    if count < batch_size:
        raise ConfigError(
            f"train.batch_size is {batch_size}, but there are only {count} training images; choose a smaller batch or "
            "add images"
        )
    if data.size != config.crop.size:
        raise ConfigError(
            f"crop.size is {config.crop.size}, but the images in {data.folder} have {data.size} pixels; "
            "run `fse convert` again"
        )
    rank_count = ranks.rank_count(config.train)
    if batch_size % rank_count:
        raise ConfigError(f"train.batch_size ({batch_size}) must be a multiple of the number of ranks, {rank_count}")
    # An epoch has complete batches only; the images that remain are shuffled into the next epoch.
    steps = config.train.steps or config.train.epochs * (count // batch_size)
    steps_per_call = config.npu.iterations_per_loop if config.train.device == "npu" else 1
    if steps % steps_per_call:
        raise ConfigError(f"{steps} steps is not a multiple of npu.iterations_per_loop, {steps_per_call}")
    return steps


def _check_settings(config: Config, shards: Path) -> Tuple[records.Records, int]:
    """Return the records and the number of steps. Raises ConfigError or RecordError before anything is computed."""
    data = records.read(shards)
    steps = total_steps(config, data)
    augment.check_jitter(config.augment)
    return data, steps


# Several ranks ------------------------------------------------------------------------------------------------------


def _launch(config: Config, topology: ranks.Topology, shards: Path, data: records.Records, output: Path) -> None:
    """Train in one process per rank of this host, which runs `rank`."""
    if config.train.device == "npu":
        npu.check(topology.devices)
    logs = output / "logs"
    logs.mkdir(parents=True, exist_ok=True)
    write_json(logs / "experiment.json", redact_config(config))
    command = [sys.executable, "-m", "fse", "rank", "--config", str(logs / "experiment.json")]
    command += ["--records", str(shards), "--output", str(output)]
    facts = _host_facts(config, shards, data) if topology.hosts else {}
    launcher.run(config.train, topology, command, logs, facts)


def _host_facts(config: Config, shards: Path, data: records.Records) -> Dict[str, Any]:
    """Return what must be the same on all hosts, by name: settings, code, training records and TensorFlow."""
    tables = as_tables(config)
    for name in _HOST_SETTINGS:
        del tables["train"][name]
    code = {str(path.relative_to(_CODE)): hash_file(path) for path in _CODE.rglob("*.py")}
    digests = integrity.checked_digests(shards)
    names = {Path(path).name for path in data.paths("train")}
    facts = {
        "the code of fse (sha256)": content_hash(_CODE, code, {}),
        "the records (sha256)": content_hash(shards, {name: digests[name] for name in names}, {}),
        "TensorFlow": tf.__version__,
    }
    for section in ("augment", "crop", "loss", "network", "npu", "train"):
        facts.update({f"{section}.{name}": value for name, value in tables[section].items()})
    return facts


# One rank -----------------------------------------------------------------------------------------------------------


def _train(config: Config, data: records.Records, device: Device, output: Path, steps: int) -> None:
    """Train as one rank; rank 0 writes the summary."""
    try:
        rows, numbers = _run_session(config, data, device, output, steps)
    except tf.errors.OpError as error:  # a full disk, a broken shard, a rank that has failed
        raise TrainingError(f"training stopped: {error_message(error)}") from error
    if device.rank == 0:
        _write_summary(config, data, output, rows, steps, numbers)


def _run_session(
    config: Config, data: records.Records, device: Device, output: Path, steps: int
) -> Tuple[Rows, Dict[str, Any]]:
    """Train to the last step.

    Returns:
      the rows of `losses.csv` (none except on rank 0), and further entries of `training.json`.
    """
    target, session_config = device.initialize(), device.session_config()
    with tf.Graph().as_default(), tf.Session(target, config=session_config) as session:
        graph = build_graph(config, data, steps, device)
        numbers: Dict[str, Any] = {
            "parameters": sum(int(np.prod(variable.shape.as_list())) for variable in tf.trainable_variables())
        }
        saver = tf.train.Saver(graph.checkpoint_variables, max_to_keep=config.train.keep_checkpoints)
        broadcast = initial_state.build_broadcast(graph, device)
        graph = dataclasses.replace(graph, update=device.repeat(session, graph.update))
        # From here on, an operation that is added by mistake is an error. It would make every step slower.
        tf.get_default_graph().finalize()
        # First the variables, new or restored, then the input, which begins at their step. An NPU needs separate runs.
        session.run(tf.get_collection(tf.GraphKeys.INIT_OP)[0])
        first = initial_state.restore(config, session, saver, graph, output, steps) if device.rank == 0 else 0
        if broadcast is not None:
            with ranks.time_limit(config.train.connect_timeout, "the first weights to go from rank 0 to all ranks"):
                first = broadcast(session, first)
        session.run(graph.input_init, {graph.first_step: first})
        if first < steps:
            log.info("%s: step %d of %d", launcher.STEPS_BEGIN, first, steps)
        results = run_steps(config, session, graph, device, first, steps)
        rows: Rows = []
        if device.rank == 0:
            recorder = Recorder(config, data, session, saver, graph, output)
            recorder.record(results, first, steps)
            rows = recorder.rows
        else:
            for _ in results:
                pass
        if device.loss_scale is not None:
            scale, updates = session.run([device.loss_scale, graph.updates_applied])
            numbers.update(loss_scale=float(scale), skipped_steps=steps - int(updates))
    device.shutdown()
    return rows, numbers


def _write_summary(
    config: Config, data: records.Records, output: Path, rows: Rows, steps: int, numbers: Dict[str, Any]
) -> None:
    """Write `training.json`. A complete training has this file."""
    settings = config.train
    summary = {
        "steps": steps,
        "epochs": round(steps * settings.batch_size / data.images["train"], 3),
        "train_images": data.images["train"],
        "batch_size": settings.batch_size,
        "device": settings.device,
        "ranks": ranks.rank_count(settings),
        "seconds": rows[-1]["seconds"],
        "pairs_per_second": round(steps * settings.batch_size / max(rows[-1]["seconds"], 1e-9), 2),
        **numbers,
        # Means, because the losses of single steps vary from batch to batch.
        **{name: float(np.mean([row[name] for row in rows[-_AVERAGED_ROWS:]])) for name in LOSSES},
    }
    write_json(output / "training.json", summary)
