"""Training the detector on warped pairs of views.

    records ──> pictures ─┬─> render ──> views ──> network ──> softmax ──> heat maps ─┬─> alignment ─┐
    draws (seed, step) ───┴─> cells' places on the picture ───────────────────────────┴─> diversity ─┴─> Adam

Everything random is a function of the seed and the step, so that a run that was stopped and resumed equals one that was
not.
"""

import csv
import json
import logging
import math
import os
import sys
import time
from pathlib import Path
from typing import Any, Dict, Iterator, List, NamedTuple, Tuple

import numpy as np

from fse import augment, checkpoints, devices, geometry, losses, network, records, summaries
from fse.config import Config
from fse.errors import ConfigError, TrainingError
from fse.progress import bar
from fse.tf1 import reason, tf

log = logging.getLogger(__name__)

LOSSES = ("loss_align", "loss_diversity", "loss_decay")
COLUMNS = ("step", *LOSSES, "learning_rate", "pairs_per_second", "seconds")


class Batch(NamedTuple):
    """A training batch, as tensors: n = batch size x views; the views of a picture follow one another.

    views:  float32 [n, view, view, 3] in [-1, 1].
    points: float32 [n, cells, 2], where the cells of each view's maps lie on the picture, in half-widths.
    """

    views: Any
    points: Any


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

    `shown` are the first pair's two views, float32 [2, view, view, 3], and the first one's maps, float32 [cells, K].
    """

    first_step: Any
    begin: Any
    objective: Objective
    rate: Any
    update: Any
    shown: Tuple[Any, Any]


def train(config: Config, shards: Path, output: Path) -> None:
    """Trains a detector on the training split of `shards`, going on from the newest valid checkpoint in `output`.

    Writes `checkpoints/`, `losses.csv`, `summaries/` (TensorBoard) and, last, `training.json`. Prints the replaced
    codes' progress lines on standard output.

    Raises:
      ConfigError, RecordError: the configuration and the shards do not go together.
      CheckpointError: a checkpoint in `output` belongs to another network.
      DeviceError: the configured device is not there.
      TrainingError: a loss is not finite; a shard cannot be read or a checkpoint cannot be written.
    """
    data = records.read(shards)
    steps = total_steps(config, data)
    augment.check(config.augment)
    session_config = devices.session_config(config.train.device, config.train.threads)
    try:
        rows, parameters = _run(config, data, session_config, output, steps)
    except tf.errors.OpError as error:  # a full disk, a broken shard
        raise TrainingError("training stopped: {}".format(reason(error))) from error
    _finish(config, data, output, rows, steps, parameters)


def _run(
    config: Config, data: records.Records, session_config: Any, output: Path, steps: int
) -> Tuple[List[Dict[str, float]], int]:
    """Trains to the last step. Returns the rows of `losses.csv` and the number of trained parameters."""
    folder = output / "checkpoints"
    folder.mkdir(parents=True, exist_ok=True)
    with tf.Graph().as_default(), tf.Session(config=session_config) as session:
        graph = build(config, data, steps)
        variables = checkpoints.names_of(tf.global_variables())
        parameters = sum(int(np.prod(variable.shape.as_list())) for variable in tf.trainable_variables())
        saver = tf.train.Saver(variables, max_to_keep=config.train.keep_checkpoints)
        tf.get_default_graph().finalize()
        # Weights first, new or restored, then the input, which begins where they left off: an NPU needs separate runs.
        session.run(tf.get_collection(tf.GraphKeys.INIT_OP)[0])
        resumed = checkpoints.restore_newest(session, saver, variables, folder)
        reached = checkpoints.step_of(resumed) if resumed else 0
        readable = [prefix for prefix in checkpoints.found(folder) if checkpoints.step_of(prefix) <= reached]
        kept = readable[: config.train.keep_checkpoints]
        checkpoints.tidy(folder, kept)
        saver.recover_last_checkpoints(kept[::-1])
        if resumed:
            log.info("going on from step %d of %d (%s)", reached, steps, resumed)
        session.run(graph.begin, {graph.first_step: reached})
        rows = _loop(config, data, session, graph, saver, output, reached, steps)
    return rows, parameters


def build(config: Config, data: records.Records, steps: int) -> Graph:
    """Builds the training graph: input, network, objective, update."""
    first_step = tf.placeholder(tf.int64, [], "first_step")
    iterator = tf.data.make_initializable_iterator(batches(config, data, first_step, steps))
    step = tf.train.create_global_step()
    rate = learning_rate(config, step, steps)
    batch = Batch(*iterator.get_next())
    maps = heat_maps(config, batch.views)
    objective = build_objective(config, maps, batch.points, diversity_weight(config, step, steps))
    update = build_update(config, objective.total, rate, step)
    tf.add_to_collection(tf.GraphKeys.INIT_OP, tf.global_variables_initializer())
    return Graph(first_step, iterator.initializer, objective, rate, update, (batch.views[:2], maps[0]))


def total_steps(config: Config, data: records.Records) -> int:
    """The number of training steps, from `train.steps` or `train.epochs`.

    Raises:
      ConfigError: the shards do not go with the configuration: fewer pictures than a batch, another size.
    """
    count, batch = data.pictures["train"], config.train.batch_size
    if count < batch:
        raise ConfigError(
            "train.batch_size is {}, but there are only {} training pictures; choose a smaller batch or add "
            "pictures".format(batch, count)
        )
    if data.size != config.crop.size:
        raise ConfigError(
            "crop.size is {}, but the pictures in {} have {} pixels; convert again".format(
                config.crop.size, data.folder, data.size
            )
        )
    return config.train.steps or config.train.epochs * (count // batch)


def batches(config: Config, data: records.Records, first_step: Any, steps: int) -> Any:
    """The input pipeline: a tf.data set of `Batch` from step `first_step` (int64 scalar tensor) to the last.

    It runs on the host, in parallel with the computing; all shapes are static.
    """
    settings, view, batch = config.augment, config.network.view, config.train.batch_size
    views, controls = settings.views, settings.control_points**2
    pixels = augment.pixel_basis(settings, view)
    cells = cell_basis(config)
    pictures = records.endless(data, batch, config.train.seed, config.train.shuffle_buffer, first_step)

    def sampled(first: int) -> Iterator[augment.Draw]:
        return augment.draws(settings, config.train.seed, batch, views, first, steps)

    shapes = ((batch, views, controls, 2), (batch, views, 3), (batch, views, 3))
    draws = tf.data.Dataset.from_generator(sampled, (tf.float32,) * 3, shapes, args=(first_step,))

    def seen(taken: Any, targets: Any, gains: Any, offsets: Any) -> Batch:
        rendered = augment.render(taken, augment.Draw(targets, gains, offsets), pixels, view)
        return Batch(rendered, augment.apply_basis(cells, tf.reshape(targets, [batch * views, controls, 2])))

    together = tf.data.Dataset.zip((pictures, draws))
    return together.map(lambda taken, drawn: seen(taken, *drawn), num_parallel_calls=2).prefetch(2)


def cell_basis(config: Config) -> np.ndarray:
    """float32 [cells, C]: the spline basis at the centres of the network's map cells, row by row."""
    ticks = network.cell_centres(config.network.name, config.network.view)
    basis = geometry.spline_basis(geometry.grid(ticks, ticks), config.augment.control_points)
    return basis.astype(np.float32)


def heat_maps(config: Config, views: Any) -> Any:
    """Builds the network in the current graph: views [n, view, view, 3] to maps [n, cells, K], each sums to 1."""
    settings = config.network
    scores = network.score_maps(settings.name, views, settings.landmarks, True, config.train.seed)
    return network.probabilities(scores)


def build_objective(config: Config, maps: Any, points: Any, diversity_weight: Any) -> Objective:
    """Builds the losses of heat maps [n, cells, K] whose cells lie at `points` [n, cells, 2]; see `Batch`.

    `diversity_weight` is a scalar, a number or a tensor.
    """
    side = len(network.cell_centres(config.network.name, config.network.view))
    distance, variance = losses.alignment(maps, points, config.augment.views)
    diversity = 2.0 * losses.diversity(maps, side, config.loss.diversity_window)
    weights = config.loss
    decay = weights.weight_decay * losses.decay(network.kernels())
    aligned = weights.align_weight * (distance + weights.variance_weight * variance)
    total = aligned + diversity_weight * diversity + decay
    return Objective(total, distance + variance, diversity, decay)


def build_update(config: Config, total: Any, rate: Any, step: Any) -> Any:
    """The operation that takes one step of Adam, counts it, and updates batch norm's averages and the weights'."""
    optimizer = tf.train.AdamOptimizer(rate, beta1=config.train.beta1)
    gradients = optimizer.compute_gradients(total)
    with tf.control_dependencies(tf.get_collection(tf.GraphKeys.UPDATE_OPS)):
        update = optimizer.apply_gradients(gradients, global_step=step)
    if not config.train.average:
        return update
    with tf.control_dependencies([update]):
        return tf.train.ExponentialMovingAverage(config.train.average, step).apply(network.variables())


def learning_rate(config: Config, step: Any, steps: int) -> Any:
    """The learning rate at a step (integer tensor): linear warm-up, then constant or down a half cosine to zero."""
    settings = config.train
    rate = tf.constant(settings.learning_rate, tf.float32)
    if settings.schedule == "cosine":
        rate *= _half_cosine(step, steps)
    if settings.warmup:
        rate *= tf.minimum((tf.cast(step, tf.float32) + 1.0) / settings.warmup, 1.0)
    return rate


def diversity_weight(config: Config, step: Any, steps: int) -> Any:
    """The weight of the diversity loss at a step (integer tensor), a scalar tensor.

    Landmarks part in the beginning. Once they have, the weight may fall: what then counts is where exactly they are.
    """
    end = config.loss.diversity_end
    return config.loss.diversity_weight * (end + (1.0 - end) * _half_cosine(step, steps))


def _half_cosine(step: Any, steps: int) -> Any:
    """From 1 at the first step to 0 at the last, slowly at both ends."""
    return 0.5 * (1.0 + tf.cos(math.pi * tf.minimum(tf.cast(step, tf.float32) / steps, 1.0)))


def _loop(
    config: Config,
    data: records.Records,
    session: Any,
    graph: Graph,
    saver: Any,
    output: Path,
    first: int,
    last: int,
) -> List[Dict[str, float]]:
    """Takes steps `first` + 1 … `last`, logs and saves. Returns the rows of `losses.csv`, earlier sessions' included."""
    settings = config.train
    fetches = [(*graph.objective[1:], graph.rate), graph.update]
    ticks = network.cell_centres(config.network.name, config.network.view)
    rows = _read_rows(output, first)
    writer = tf.summary.FileWriter(str(output / "summaries"))
    progress = bar(total=last * settings.batch_size, initial=first * settings.batch_size, unit="pairs", desc="train")
    window: List[List[float]] = []
    began = time.monotonic()
    with progress, open(str(output / "losses.csv.new"), "w", newline="") as stream:
        table = csv.DictWriter(stream, COLUMNS)
        table.writeheader()
        table.writerows(rows)
        stream.flush()
        # Only now: a stop at any moment leaves the earlier sessions' rows.
        os.replace(str(output / "losses.csv.new"), str(output / "losses.csv"))
        for number in range(first + 1, last + 1):
            save = number % settings.save_freq == 0 or number == last
            values, _, *shown = session.run([*fetches, graph.shown] if save else fetches)
            window.append(values)
            if not np.isfinite(window[-1]).all():
                raise TrainingError(_not_finite(number, window[-1], settings.learning_rate))
            progress.update(settings.batch_size)
            if save or number % settings.summary_freq == 0:
                rows.append(_row(number, window, time.monotonic() - began, rows, settings.batch_size))
                table.writerow(rows[-1])
                stream.flush()
                writer.add_summary(summaries.scalars({name: rows[-1][name] for name in COLUMNS[1:-1]}), number)
                _print_progress(rows[-1], last, data.pictures["train"] // settings.batch_size, settings.batch_size)
                window, began = [], time.monotonic()
            if save:
                views, maps = shown[0]
                writer.add_summary(summaries.pair(views, maps, ticks), number)
                saver.save(session, str(output / "checkpoints" / checkpoints.PREFIX), number, write_meta_graph=False)
    writer.close()
    return rows


def _row(
    step: int, window: List[List[float]], seconds: float, rows: List[Dict[str, float]], batch: int
) -> Dict[str, float]:
    """One line of `losses.csv`: means over the steps since the line before."""
    means = [float(value) for value in np.mean(window, axis=0)]
    speed = len(window) * batch / max(seconds, 1e-9)
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
    parts = ", ".join("{} {}".format(name, value) for name, value in zip(LOSSES, values))
    return "step {}: a loss is not finite ({}); lower train.learning_rate (now {})".format(step, parts, rate)


def _finish(
    config: Config, data: records.Records, output: Path, rows: List[Dict[str, float]], steps: int, parameters: int
) -> None:
    """Writes `training.json`. Losses are the means of the last ten rows of `losses.csv`."""
    settings = config.train
    summary = {
        "steps": steps,
        "epochs": round(steps * settings.batch_size / data.pictures["train"], 3),
        "train_images": data.pictures["train"],
        "batch_size": settings.batch_size,
        "parameters": parameters,
        "device": settings.device,
        "seconds": rows[-1]["seconds"],
        "pairs_per_second": round(steps * settings.batch_size / max(rows[-1]["seconds"], 1e-9), 2),
    }
    summary.update({name: float(np.mean([row[name] for row in rows[-10:]])) for name in LOSSES})
    (output / "training.json").write_text(json.dumps(summary, indent=2) + "\n")
