"""Training the detector on warped pairs of views.

    records ──> images ─┬─> render ──> views ──> network ──> softmax ──> heatmaps ─┬─> alignment ─┐
    draws (seed, step) ───┴─> cells' places on the image ───────────────────────────┴─> diversity ─┴─> Adam

Everything random is a function of the seed and the step, so that a run that was stopped and resumed equals one that was
not. Several ranks share each batch: every one takes its part of the same images and draws, and gradients, losses and
batch statistics are averaged over them before they are used.
"""

import contextlib
import csv
import json
import logging
import math
import os
import sys
import time
from pathlib import Path
from typing import Any, Dict, Iterator, List, NamedTuple, Sequence, Tuple

import numpy as np

from fse import devices, geometry
from fse.config import Config, as_tables, redact_config
from fse.devices import npu
from fse.distributed import launcher, ranks
from fse.errors import CheckpointError, ConfigError, TrainingError
from fse.inputs import augment, records, rendering
from fse.model import losses, network
from fse.runtime import outputs
from fse.runtime.progress import progress_bar
from fse.tf1 import as_written, reason, tf
from fse.training import checkpoint_paths, checkpoints, summaries

log = logging.getLogger(__name__)

_CODE = Path(__file__).resolve().parents[1]

LOSSES = ("loss_align", "loss_diversity", "loss_decay")
COLUMNS = ("step", *LOSSES, "learning_rate", "pairs_per_second", "seconds")


class Batch(NamedTuple):
    """A training batch, as tensors: n = batch size x views; the views of an image follow one another.

    views:  float32 [n, view, view, 3] in [-1, 1].
    points: float32 [n, cells, 2], where the cells of each view's maps lie on the image, in half-widths.
    """

    views: Any
    points: Any


class Weights(NamedTuple):
    """Weights of the objective that change while training: scalars, numbers or tensors."""

    diversity: Any
    reading: Any


class Objective(NamedTuple):
    """Scalar tensors: the objective and its parts. Alignment is the paper's, whatever the weight of its variance is;
    diversity is that of a pair of views; decay has its weight.
    """

    total: Any
    align: Any
    diversity: Any
    decay: Any


class Graph(NamedTuple):
    """What a session runs: `update` takes a step; `begin` starts the input at the step fed to `first_step`.

    `losses` are the objective's parts, averaged over the ranks. `shown` are the first pair's two views, float32
    [2, view, view, 3], and the first one's maps, float32 [cells, K]. `taken` counts the updates that were made, int64
    scalar: fewer than steps if loss scaling skipped some; not to be run together with `update`. `stored` are the
    variables of checkpoints, by their names: the same on every device and for any number of ranks. `scaling` are those
    of loss scaling, which are the device's own.
    """

    first_step: Any
    begin: Any
    losses: List[Any]
    rate: Any
    update: Any
    taken: Any
    shown: Tuple[Any, Any]
    stored: Dict[str, Any]
    scaling: Dict[str, Any]


class Step(NamedTuple):
    """What a step, or several in one call, left: losses and learning rate of the last one.

    shown: where a checkpoint is due, values of `Graph.shown`. scaling: in mixed precision, where a line of the log is
    due, the loss scale and the number of steps that were skipped so far.
    """

    number: int
    values: List[float]
    shown: Any = None
    scaling: Tuple[float, ...] = ()


def train(config: Config, shards: Path, output: Path) -> None:
    """Trains a detector on the training split of `shards`, going on from the newest valid checkpoint in `output`.

    Without one it begins with random weights, or with those that `train.init_from` means; steps, learning rate, moving
    averages and the optimizer's state begin anew either way.

    Writes `checkpoints/`, `losses.csv`, `summaries/` (TensorBoard) and, last, `training.json`; with several ranks, or on
    an NPU, in processes of their own, whose logs are in `logs/`. Prints the replaced codes' progress lines on standard
    output.

    Raises:
      ConfigError, RecordError: the configuration and the shards do not go together.
      CheckpointError: a checkpoint in `output`, or the one to start from, belongs to another network; the latter is not
        there or broken.
      DeviceError: the configured device is not there, or was not used.
      TrainingError: a loss is not finite; a shard cannot be read or a checkpoint cannot be written; a rank failed.
    """
    data, steps = _checked(config, shards)
    team = ranks.team(config.train)
    if team.here:
        raise ConfigError(f"this is host {team.here} of train.hosts; run `fse join` here")
    if team.size == 1 and config.train.device != "npu":
        _train(config, data, devices.find(config), output, steps)
    else:
        _launch(config, team, shards, data, output)


def join(config: Config, shards: Path, logs: Path) -> None:
    """Computes this host's ranks of a training that `train` runs on the first of `train.hosts`.

    Args:
      config: the same experiment.
      shards: the same records.
      logs: folder for the ranks' logs; made if it is not there.

    Raises:
      ConfigError: settings, code or data are not those of the first host.
      TrainingError: a rank failed, here or on another host.
    """
    data, _ = _checked(config, shards)
    team = ranks.team(config.train)
    if not team.here:
        raise ConfigError(f"fse join: this host must be another than the first of train.hosts, got {team.hosts}")
    logs.mkdir(parents=True, exist_ok=True)
    _launch(config, team, shards, data, logs)


def rank(config: Config, shards: Path, output: Path) -> None:
    """Trains as the rank that the environment says this process is; rank 0 writes as `train` does, others nothing."""
    place = ranks.current(config.train)
    data, steps = _checked(config, shards)
    try:
        _train(config, data, devices.find(config, place), output, steps)
    except TrainingError as error:
        if not isinstance(
            error.__cause__, (tf.errors.UnavailableError, tf.errors.CanceledError, tf.errors.AbortedError)
        ):
            raise
        # Another rank is gone, and what it says matters more.
        print(f"error: {error}", file=sys.stderr, flush=True)
        os._exit(launcher.LEFT_ALONE)


def _checked(config: Config, shards: Path) -> Tuple[records.Records, int]:
    """The shards and the number of steps, if the configuration goes with them."""
    data = records.read(shards)
    steps = total_steps(config, data)
    augment.check(config.augment)
    return data, steps


def _launch(config: Config, team: ranks.Team, shards: Path, data: records.Records, output: Path) -> None:
    """Trains in a process for each rank of this host."""
    if config.train.device == "npu":
        npu.check(team.devices)
    logs = output / "logs"
    logs.mkdir(parents=True, exist_ok=True)
    outputs.write_json(logs / "experiment.json", redact_config(config))
    command = [sys.executable, "-m", "fse", "rank", "--config", str(logs / "experiment.json")]
    facts = _facts(config, shards, data) if team.hosts else {}
    launcher.run(config.train, team, [*command, "--records", str(shards), "--output", str(output)], logs, facts)


def _facts(config: Config, shards: Path, data: records.Records) -> Dict[str, Any]:
    """What must be the same on all hosts, by name."""
    tables = as_tables(config)
    for name in ("threads", "rank_table", "init_from"):  # a host's own business; the first one has the weights
        del tables["train"][name]
    code = {str(path.relative_to(_CODE)): outputs.hash_file(path) for path in _CODE.rglob("*.py")}
    found, names = outputs.digests(shards), {Path(path).name for path in data.paths("train")}
    facts = {
        "the code of fse (sha256)": outputs.content_hash(_CODE, code, {}),
        "the records (sha256)": outputs.content_hash(shards, {name: found[name] for name in names}, {}),
        "TensorFlow": tf.__version__,
    }
    for section in ("augment", "crop", "loss", "network", "npu", "train"):
        facts.update({f"{section}.{name}": value for name, value in tables[section].items()})
    return facts


def _train(config: Config, data: records.Records, device: Any, output: Path, steps: int) -> None:
    """Trains as one rank."""
    try:
        rows, numbers = _run(config, data, device, output, steps)
    except tf.errors.OpError as error:  # a full disk, a broken shard, a rank that is gone
        raise TrainingError(f"training stopped: {reason(error)}") from error
    if device.rank == 0:
        _finish(config, data, output, rows, steps, numbers)


def _run(
    config: Config, data: records.Records, device: Any, output: Path, steps: int
) -> Tuple[List[Dict[str, float]], Dict[str, Any]]:
    """Trains to the last step. Returns the rows of `losses.csv` and further entries of `training.json`."""
    target, session_config = device.initialize(), device.session_config()
    with tf.Graph().as_default(), tf.Session(target, config=session_config) as session:
        graph = build(config, data, steps, device)
        numbers: Dict[str, Any] = {
            "parameters": sum(int(np.prod(variable.shape.as_list())) for variable in tf.trainable_variables())
        }
        saver = tf.train.Saver(graph.stored, max_to_keep=config.train.keep_checkpoints)
        agree = _agreement(graph, device)
        graph = graph._replace(update=device.repeat(session, graph.update))
        tf.get_default_graph().finalize()
        # Weights first, new or restored, then the input, which begins where they left off: an NPU needs separate runs.
        session.run(tf.get_collection(tf.GraphKeys.INIT_OP)[0])
        reached = _restore(config, session, saver, graph, output, steps) if device.rank == 0 else 0
        if device.rank == 0 and not reached and config.train.init_from:
            _start(config, session, graph)
        if device.size > 1:
            with ranks.bounded(config.train.connect_timeout, "the first weights to go from rank 0 to all ranks"):
                reached = agree(session, reached)
        session.run(graph.begin, {graph.first_step: reached})
        if reached < steps:
            log.info("%s: step %d of %d", launcher.STEPS_BEGIN, reached, steps)
        each = _steps(config, session, graph, device, reached, steps)
        if device.rank == 0:
            rows = _record(config, data, session, graph, saver, output, each, reached, steps)
        else:
            rows = [{} for _ in each]
        if device.loss_scale is not None:
            scale, taken = session.run([device.loss_scale, graph.taken])
            numbers.update(loss_scale=float(scale), skipped_steps=steps - int(taken))
    device.shutdown()
    return rows, numbers


def _restore(config: Config, session: Any, saver: Any, graph: Graph, output: Path, steps: int) -> int:
    """Restores the newest checkpoint that can be read and removes what else is there; returns its step, or 0."""
    folder = output / "checkpoints"
    folder.mkdir(parents=True, exist_ok=True)
    resumed = checkpoints.restore_newest(session, saver, graph.stored, folder)
    reached = checkpoint_paths.step_of(resumed) if resumed else 0
    if resumed and not checkpoints.restore_scaling(session, graph.scaling, resumed):
        log.info("the loss scale is looked for anew: %s was saved without one", resumed)
    readable = [prefix for prefix in checkpoint_paths.found(folder) if checkpoint_paths.step_of(prefix) <= reached]
    kept = readable[: config.train.keep_checkpoints]
    checkpoints.tidy(folder, kept)
    saver.recover_last_checkpoints(kept[::-1])
    if resumed:
        log.info("going on from step %d of %d (%s)", reached, steps, resumed)
    return reached


def _start(config: Config, session: Any, graph: Graph) -> None:
    """Gives the network the weights that `train.init_from` means, and their moving averages, if it has such, as well.

    Raises:
      CheckpointError: there is no checkpoint, or it is broken or of another network.
    """
    prefix = checkpoint_paths.resolve_checkpoint(config.train.init_from)
    if prefix is None:
        raise CheckpointError(checkpoint_paths.missing(config.train.init_from))
    name = checkpoint_paths.network_of(prefix)
    if name not in ("", config.network.name):
        raise CheckpointError(
            f"train.init_from {config.train.init_from}: its network.name is {name!r}, and here it is {config.network.name!r}; they must be the same"
        )
    values = checkpoints.weights(prefix, checkpoints.names_of(network.variables()))
    initializers = {
        graph.stored[name + kind].initializer: value
        for name, value in values.items()
        for kind in ("", checkpoints.AVERAGED)
        if name + kind in graph.stored
    }
    session.run(list(initializers), {operation.inputs[1]: value for operation, value in initializers.items()})
    log.info("starting from the weights of %s", prefix)


def _agreement(graph: Graph, device: Any) -> Any:
    """A function (session, step) that gives all ranks the variables and the step of rank 0, and returns that step."""
    if device.size == 1:
        return None
    shared = [variable for variable in graph.stored.values() if variable.dtype.base_dtype == tf.float32]
    # Collectives carry float32, in which whole numbers are exact below 2^24, as loss scaling's counts are; the step and
    # the number of updates go in two parts each.
    shared += graph.scaling.values()
    counts = tf.placeholder(tf.float32, [4], "counts")
    *values, counted = device.broadcast([*(tf.cast(each.read_value(), tf.float32) for each in shared), counts])
    assigned = tf.group(*(tf.assign(one, tf.cast(value, one.dtype.base_dtype)) for one, value in zip(shared, values)))
    taken = tf.placeholder(tf.int64, [], "taken")
    counter = tf.assign(tf.train.get_global_step(), taken)

    def agree(session: Any, step: int) -> int:
        mine = [part for number in (step, session.run(graph.taken)) for part in divmod(int(number), 1 << 20)]
        sent, _ = session.run([counted, assigned], {counts: mine})
        step, done = (int(high) << 20 | int(low) for high, low in (sent[:2], sent[2:]))
        session.run(counter, {taken: done})
        return step

    return agree


def build(config: Config, data: records.Records, steps: int, device: Any) -> Graph:
    """Builds the training graph of one rank: input, network, objective, update."""
    first_step = tf.placeholder(tf.int64, [], "first_step")
    iterator = tf.data.make_initializable_iterator(batches(config, data, first_step, steps, device.rank, device.size))
    step = tf.train.create_global_step()
    rate = learning_rate(config, step, steps)
    batch = Batch(*iterator.get_next())
    maps = heatmaps(config, batch.views, device)
    objective = build_objective(config, maps, batch.points, weights(config, step, steps), device)
    averages, values = network.statistics()
    means = device.average([*objective[1:], *values])
    shown, values = means[: len(LOSSES)], means[len(LOSSES) :]
    optimizer = tf.train.AdamOptimizer(rate, beta1=config.train.beta1)
    update, shadows = build_update(
        config, optimizer, objective.total, step, network.batch_norm_updates(averages, values), device
    )
    tf.add_to_collection(tf.GraphKeys.INIT_OP, tf.global_variables_initializer())
    stored = checkpoints.names_of([*network.variables(), *optimizer.variables(), *shadows, step])
    others = checkpoints.names_of(tf.global_variables())
    scaling = {name: variable for name, variable in others.items() if name not in stored}
    first = (batch.views[:2], maps.whole[0])
    return Graph(first_step, iterator.initializer, shown, rate, update, step.read_value(), first, stored, scaling)


def total_steps(config: Config, data: records.Records) -> int:
    """The number of training steps, from `train.steps` or `train.epochs`.

    Raises:
      ConfigError: the shards do not go with the configuration: fewer images than a batch, another size.
    """
    count, batch = data.images["train"], config.train.batch_size
    if count < batch:
        raise ConfigError(
            f"train.batch_size is {batch}, but there are only {count} training images; choose a smaller batch or add "
            "images"
        )
    if data.size != config.crop.size:
        raise ConfigError(
            f"crop.size is {config.crop.size}, but the images in {data.folder} have {data.size} pixels; convert again"
        )
    size, each = ranks.size(config.train), config.npu.iterations_per_loop if config.train.device == "npu" else 1
    if batch % size:
        raise ConfigError(f"train.batch_size ({batch}) must be a multiple of the number of ranks, {size}")
    steps = config.train.steps or config.train.epochs * (count // batch)
    if steps % each:
        raise ConfigError(f"{steps} steps are no multiple of npu.iterations_per_loop, {each}")
    return steps


def batches(config: Config, data: records.Records, first_step: Any, steps: int, part: int = 0, parts: int = 1) -> Any:
    """The input pipeline: a tf.data set of `Batch` from step `first_step` (int64 scalar tensor) to the last.

    It runs on the host, in parallel with the computing; all shapes are static. `part` of `parts`: see `records.repeated_batches`.
    """
    settings, view, batch = config.augment, config.network.view, config.train.batch_size
    share, views, controls = batch // parts, settings.views, settings.control_points**2
    cells = cell_basis(config)

    def seen(taken: np.ndarray, step: np.ndarray) -> Tuple[np.ndarray, np.ndarray]:
        drawn = augment.draw_step(settings, config.train.seed, int(step), batch, views, part, parts)
        return rendering.render(taken, drawn, view), drawn.targets.reshape(share * views, controls, 2)

    def batch_of(taken: Any, step: Any) -> Batch:
        rendered, targets = tf.numpy_function(seen, (taken, step), (tf.float32, tf.float32))
        rendered.set_shape([share * views, view, view, 3])
        targets.set_shape([share * views, controls, 2])
        return Batch(rendered, apply_basis(cells, targets))

    images = records.repeated_batches(
        data, batch, config.train.seed, config.train.shuffle_buffer, first_step, part, parts
    )
    together = tf.data.Dataset.zip((images, tf.data.Dataset.range(first_step, steps)))
    parallel = tf.data.experimental.AUTOTUNE  # as many as keep up, in the same order
    return together.map(as_written(batch_of), num_parallel_calls=parallel).prefetch(2)


def cell_basis(config: Config) -> np.ndarray:
    """float32 [cells, C]: the spline basis at the centers of the network's map cells, row by row."""
    ticks = network.cell_centers(config.network.name, config.network.view)
    basis = geometry.spline_basis(geometry.grid(ticks, ticks), config.augment.control_points)
    return basis.astype(np.float32)


def apply_basis(basis: np.ndarray, targets: Any) -> Any:
    """Evaluates warps: [points, C] basis and float32 tensor [count, C, 2] targets to a tensor [count, points, 2]."""
    count, controls, _ = targets.shape.as_list()
    # One matrix product serves the whole batch. To put x beside y afterwards, take them for the parts of complex numbers:
    # of TensorFlow's operations those that stack or transpose are many times as slow.
    rows = tf.reshape(tf.transpose(targets, [2, 0, 1]), [2 * count, controls])
    x, y = tf.unstack(tf.reshape(tf.matmul(rows, tf.constant(basis.T, tf.float32)), [2, count, len(basis)]))
    return tf.bitcast(tf.complex(x, y), tf.float32)


def heatmaps(config: Config, views: Any, device: Any) -> network.Heatmaps:
    """Builds the network in the current graph for views [n, view, view, 3]."""
    settings = config.network
    scores = network.score_maps(settings.name, views, settings.landmarks, True, config.train.seed)
    with device.float32_scope():
        return network.heatmaps(scores, settings.softargmax_radius, settings.softargmax_temperature)


def build_objective(config: Config, maps: network.Heatmaps, points: Any, now: Weights, device: Any) -> Objective:
    """Builds the losses of heatmaps whose cells lie at `points` [n, cells, 2] (see `Batch`), with their weights now."""
    side = len(network.cell_centers(config.network.name, config.network.view))
    fixed, views = config.loss, config.augment.views
    with device.float32_scope():
        distance, variance = losses.alignment(maps.whole, points, views)
        diversity = 2.0 * losses.diversity(maps.whole, side, fixed.diversity_window)
        decay = fixed.weight_decay * losses.decay(network.kernels())
        aligned = fixed.align_weight * (distance + fixed.variance_weight * variance)
        total = aligned + now.diversity * diversity + decay
        if fixed.softargmax_weight:
            total += now.reading * losses.alignment(maps.read, points, views)[0]
        return Objective(total, distance + variance, diversity, decay)


def build_update(
    config: Config, optimizer: Any, total: Any, step: Any, statistics: Any, device: Any
) -> Tuple[Any, List[Any]]:
    """The operation that takes one step, counts it, and updates batch norm's averages and the weights'.

    Args:
      config: the experiment.
      optimizer: TensorFlow's, not yet the device's.
      total: what to minimize.
      step: the global step.
      statistics: the operation that updates batch norm's averages.
      device: of this rank.

    Returns:
      the operation, and the variables of the weights' moving averages.
    """
    # Scaled, made, averaged, unscaled; then clipped; then applied, unless they overflowed.
    wrapped = device.wrap_optimizer(optimizer)
    pairs = wrapped.compute_gradients(total)
    if config.train.clip_norm:
        pairs = list(
            zip(clipped([gradient for gradient, _ in pairs], config.train.clip_norm), (pair[1] for pair in pairs))
        )
    with tf.control_dependencies([statistics]):
        update = wrapped.apply_gradients(pairs, global_step=step)
    if not config.train.ema_decay:
        return update, []
    with tf.control_dependencies([update]):
        average = tf.train.ExponentialMovingAverage(config.train.ema_decay, step)
        update = average.apply(network.variables())
    return update, [average.average(variable) for variable in network.variables()]


def clipped(gradients: Sequence[Any], norm: float) -> List[Any]:
    """Gradients scaled down to a global norm if theirs is larger.

    tf.clip_by_global_norm asks whether they are finite, an operation that NPUs lack.
    """
    scale = norm / tf.maximum(tf.global_norm(gradients), norm)
    return [gradient * scale for gradient in gradients]


def learning_rate(config: Config, step: Any, steps: int) -> Any:
    """The learning rate at a step (integer tensor): linear warm-up, then constant or down a half cosine to zero."""
    settings = config.train
    rate = tf.constant(settings.learning_rate, tf.float32)
    if settings.schedule == "cosine":
        rate *= _half_cosine(step, steps)
    if settings.warmup:
        rate *= tf.minimum((tf.cast(step, tf.float32) + 1.0) / settings.warmup, 1.0)
    return rate


def weights(config: Config, step: Any, steps: int) -> Weights:
    """The weights at a step (integer tensor), scalar tensors.

    Landmarks part in the beginning. Once they have, diversity may count for less: what then counts is where exactly
    landmarks are, as they are read.
    """
    left, end = _half_cosine(step, steps), config.loss.diversity_end
    return Weights(
        config.loss.diversity_weight * (end + (1.0 - end) * left), config.loss.softargmax_weight * (1.0 - left)
    )


def _half_cosine(step: Any, steps: int) -> Any:
    """From 1 at the first step to 0 at the last, slowly at both ends."""
    return 0.5 * (1.0 + tf.cos(math.pi * tf.minimum(tf.cast(step, tf.float32) / steps, 1.0)))


def _steps(config: Config, session: Any, graph: Graph, device: Any, first: int, last: int) -> Iterator[Step]:
    """Takes steps `first` + 1 … `last`, as all ranks do: an NPU wants the same fetches on all."""
    settings = config.train
    fetches = [(*graph.losses, graph.rate), graph.update]
    each = device.steps_per_call
    together = f", which all {device.size} ranks take together" if device.size > 1 else ""
    own_process = device.size > 1 or settings.device == "npu"  # which may be ended if it hangs
    if first % each:
        raise ConfigError(f"step {first} is no multiple of npu.iterations_per_loop, {each}")
    for number in range(first + each, last + 1, each):
        save = number % settings.save_freq == 0 or number == last
        with contextlib.ExitStack() as stack:
            if own_process:
                what = f"step {number}{together}"
                stack.enter_context(ranks.bounded(settings.step_timeout, what))
            values, _, *shown = session.run([*fetches, graph.shown] if save else fetches)
        if not np.isfinite(values).all():
            raise TrainingError(_not_finite(number, values, settings.learning_rate))
        scaling: Tuple[float, ...] = ()
        if device.loss_scale is not None and (save or number % settings.summary_freq == 0):
            scale, taken = session.run([device.loss_scale, graph.taken])
            scaling = (float(scale), number - int(taken))
        yield Step(number, values, shown[0] if save else None, scaling)


def _record(
    config: Config,
    data: records.Records,
    session: Any,
    graph: Graph,
    saver: Any,
    output: Path,
    steps: Iterator[Step],
    first: int,
    last: int,
) -> List[Dict[str, float]]:
    """Logs and saves the steps after `first`. Returns the rows of `losses.csv`, earlier sessions' included."""
    settings = config.train
    ticks = network.cell_centers(config.network.name, config.network.view)
    rows = _read_rows(output, first)
    writer = tf.summary.FileWriter(str(output / "summaries"))
    progress = progress_bar(
        total=last * settings.batch_size, initial=first * settings.batch_size, unit="pairs", desc="train"
    )
    window: List[List[float]] = []
    told, began = first, time.monotonic()
    with progress, open(str(output / "losses.csv.new"), "w", newline="") as stream:
        table = csv.DictWriter(stream, COLUMNS)
        table.writeheader()
        table.writerows(rows)
        stream.flush()
        # Only now: a stop at any moment leaves the earlier sessions' rows.
        os.replace(str(output / "losses.csv.new"), str(output / "losses.csv"))
        for number, values, shown, scaling in steps:
            window.append(values)
            progress.update(number * settings.batch_size - progress.n)
            if shown or number % settings.summary_freq == 0:
                seconds, pairs = time.monotonic() - began, (number - told) * settings.batch_size
                rows.append(_row(number, window, seconds, rows, pairs))
                table.writerow(rows[-1])
                stream.flush()
                writer.add_summary(summaries.scalars({name: rows[-1][name] for name in COLUMNS[1:-1]}), number)
                _print_progress(rows[-1], last, data.images["train"] // settings.batch_size, settings.batch_size)
                if scaling:
                    log.info("loss scale %g, %d of %d steps skipped", *scaling, number)
                window, told, began = [], number, time.monotonic()
            if shown:
                views, maps = shown
                writer.add_summary(summaries.pair(views, maps, ticks), number)
                checkpoints.save(session, saver, graph.scaling, output / "checkpoints", number)
    writer.close()
    return rows


def _row(
    step: int, window: List[List[float]], seconds: float, rows: List[Dict[str, float]], pairs: int
) -> Dict[str, float]:
    """One line of `losses.csv`: means over the steps since the line before, which had that many pairs of all ranks."""
    means = [float(value) for value in np.mean(window, axis=0)]
    speed = pairs / max(seconds, 1e-9)
    spent = seconds + (rows[-1]["seconds"] if rows else 0.0)
    return dict(zip(COLUMNS, [step, *means, round(speed, 2), round(spent, 3)]))


def _read_rows(output: Path, step: int) -> List[Dict[str, float]]:
    """The lines that an earlier session wrote up to `step`."""
    try:
        with open(str(output / "losses.csv"), newline="") as stream:
            rows = [{key: float(value) for key, value in row.items()} for row in csv.DictReader(stream)]
    except (OSError, ValueError, TypeError):
        return []
    kept = [row for row in rows if row["step"] <= step]
    for row in kept:
        row["step"] = int(row["step"])
    return kept


def _print_progress(row: Dict[str, float], last: int, steps_per_epoch: int, batch: int) -> None:
    """The progress lines of the replaced codes, word for word: people's scripts read them."""
    step = int(row["step"])
    epoch, within = math.ceil(step / steps_per_epoch), (step - 1) % steps_per_epoch + 1
    rate = step * batch / max(row["seconds"], 1e-9)
    remaining = (last - step) * batch / rate / 60.0
    print("progress  epoch %d  step %d  image/sec %0.1f  remaining %dm" % (epoch, within, rate, remaining))
    for name in LOSSES:
        print(name, row[name])
    sys.stdout.flush()


def _not_finite(step: int, values: List[float], rate: float) -> str:
    parts = ", ".join(f"{name} {value}" for name, value in zip(LOSSES, values))
    return f"step {step}: a loss is not finite ({parts}); lower train.learning_rate (now {rate})"


def _finish(
    config: Config, data: records.Records, output: Path, rows: List[Dict[str, float]], steps: int, more: Dict[str, Any]
) -> None:
    """Writes `training.json`. Losses are the means of the last ten rows of `losses.csv`."""
    settings = config.train
    summary = {
        "steps": steps,
        "epochs": round(steps * settings.batch_size / data.images["train"], 3),
        "train_images": data.images["train"],
        "batch_size": settings.batch_size,
        "device": settings.device,
        "ranks": ranks.size(settings),
        "seconds": rows[-1]["seconds"],
        "pairs_per_second": round(steps * settings.batch_size / max(rows[-1]["seconds"], 1e-9), 2),
    }
    summary.update(more)
    summary.update({name: float(np.mean([row[name] for row in rows[-10:]])) for name in LOSSES})
    (output / "training.json").write_text(json.dumps(summary, indent=2) + "\n")
