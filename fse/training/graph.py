"""The training graph of one rank: input, network, objective and update.

    batches ─┬─> views ──> network ──> softmax ──> heatmaps ─┬─> alignment ─┐
             └─> cell points ────────────────────────────────┤              ├─> objective ─> Adam ─> weights
                                                             └─> diversity ─┘

Several ranks share each batch. Every rank computes the losses, the gradients and batch norm's statistics of its share;
these are averaged over the ranks before they are used, so all ranks keep the same weights.
"""

import math
from dataclasses import dataclass
from typing import Any, Dict, List, NamedTuple, Sequence, Tuple

from fse.config import Config
from fse.devices.base import Device
from fse.inputs import records
from fse.inputs.batches import Batch, batches
from fse.model import heatmaps, losses, network
from fse.model.heatmaps import Heatmaps
from fse.tf1 import tf
from fse.training import checkpoints
from fse.training.loss_table import LOSSES


class LossWeights(NamedTuple):
    """The weights of the objective that change while training: scalars, numbers or tensors."""

    diversity: Any  # of the diversity loss
    softargmax: Any  # of the distance of landmarks as soft-argmax reads them from local heatmaps


class Objective(NamedTuple):
    """The objective and its parts, as scalar tensors."""

    total: Any  # what the update minimizes
    align: Any  # the paper's alignment loss: distance plus variance, whatever the weight of the variance is
    diversity: Any  # of a pair of views, without its weight
    decay: Any  # L2 term of the kernels, with its weight


@dataclass(frozen=True)
class Graph:
    """The tensors and operations of a training that a session runs."""

    # Placeholder, int64 scalar: the first step of this session.
    first_step: Any
    # Operation that makes the input start at `first_step`.
    input_init: Any
    # Scalars in the order of `loss_table.LOSSES`, averaged over the ranks.
    losses: List[Any]
    # Scalar: the learning rate of the step.
    learning_rate: Any
    # Operation that takes a step.
    update: Any
    # int64 scalar: number of updates that changed the weights. It is less than the number of steps if loss scaling
    # skipped some. Run it apart from `update`, because nothing orders the two.
    updates_applied: Any
    # What TensorBoard shows of the first image: two views, float32 [2, view, view, 3], and the heatmaps of the first,
    # float32 [cells, K].
    summary_tensors: Tuple[Any, Any]
    # Variables by their names in checkpoints: the same on every device and for any number of ranks.
    checkpoint_variables: Dict[str, Any]
    # Variables of loss scaling by name, which differ between devices.
    loss_scale_variables: Dict[str, Any]


def build_graph(config: Config, data: records.Records, steps: int, device: Device) -> Graph:
    """Build the training graph of one rank in the current graph.

    Args:
      config: the experiment.
      data: its records.
      steps: number of steps of the training, the length of the schedules.
      device: of this rank.
    """
    first_step = tf.placeholder(tf.int64, [], "first_step")
    iterator = tf.data.make_initializable_iterator(batches(config, data, first_step, steps, device.rank, device.size))
    step = tf.train.create_global_step()
    rate = learning_rate(config, step, steps)
    batch = Batch(*iterator.get_next())
    maps = build_heatmaps(config, batch.views, device)
    objective = build_objective(config, maps, batch.cell_points, loss_weights(config, step, steps), device)
    averages, statistics = network.batch_norm_statistics()
    # One call averages the losses and the statistics over the ranks, as every collective operation has its latency.
    parts = [objective.align, objective.diversity, objective.decay]
    rank_means = device.average([*parts, *statistics])
    mean_losses, statistics = rank_means[: len(LOSSES)], rank_means[len(LOSSES) :]
    # The reference implementations use Adam with a beta1 of 0.5, the default of `train.beta1`.
    optimizer = tf.train.AdamOptimizer(rate, beta1=config.train.beta1)
    update, moving_averages = build_update(
        config, optimizer, objective.total, step, network.batch_norm_updates(averages, statistics), device
    )
    tf.add_to_collection(tf.GraphKeys.INIT_OP, tf.global_variables_initializer())
    stored = checkpoints.variables_by_name([*network.variables(), *optimizer.variables(), *moving_averages, step])
    # Only loss scaling creates other variables.
    others = checkpoints.variables_by_name(tf.global_variables())
    return Graph(
        first_step=first_step,
        input_init=iterator.initializer,
        losses=mean_losses,
        learning_rate=rate,
        update=update,
        updates_applied=step.read_value(),
        summary_tensors=(batch.views[:2], maps.full[0]),
        checkpoint_variables=stored,
        loss_scale_variables={name: variable for name, variable in others.items() if name not in stored},
    )


def build_heatmaps(config: Config, views: Any, device: Device) -> Heatmaps:
    """Build the network in the current graph for views [n, view, view, 3]."""
    settings = config.network
    # One network for all views: they share its weights, and one batch is faster than a tower per view.
    scores = network.score_maps(settings.name, views, settings.landmarks, training=True, seed=config.train.seed)
    # A softmax over some thousand cells needs float32: in half precision small probabilities vanish.
    with device.float32_scope():
        return heatmaps.from_scores(scores, settings.softargmax_radius, settings.softargmax_temperature)


def build_objective(
    config: Config, maps: Heatmaps, cell_points: Any, weights: LossWeights, device: Device
) -> Objective:
    """Build the objective: that of Thewlis et al. 2017, section 3, with two additions.

        align_weight * (distance + variance_weight * variance) + diversity_weight * diversity + weight decay
        + softargmax_weight * distance of landmarks as soft-argmax reads them

    The paper's objective has a variance weight of 1 and no soft-argmax term. With that weight, heatmaps are one-hot
    after some hundred steps, and the softmax then passes no gradient to a landmark in a wrong cell. A smaller weight
    keeps heatmaps wide for longer (docs/training.md has the trials).

    Args:
      config: the experiment.
      maps: heatmaps of n = images * views views.
      cell_points: float32 tensor [n, cells, 2] (see `batches.Batch`).
      weights: the weights of this step.
      device: of this rank.
    """
    side = len(network.cell_centers(config.network.name, config.network.view))
    settings, views = config.loss, config.augment.views
    with device.float32_scope():
        distance, variance = losses.alignment(maps.full, cell_points, views)
        # The reference implementations add the losses of the two views of a pair. Twice the mean is that sum, so the
        # weight keeps its meaning with any number of views.
        diversity = 2.0 * losses.diversity(maps.full, side, settings.diversity_window)
        decay = settings.weight_decay * losses.weight_decay(network.kernels())
        total = settings.align_weight * (distance + settings.variance_weight * variance)
        total = total + weights.diversity * diversity + decay
        if settings.softargmax_weight:
            # Of local heatmaps only the distance counts: their width is set by the radius and the temperature.
            total += weights.softargmax * losses.alignment(maps.local, cell_points, views)[0]
        return Objective(total, distance + variance, diversity, decay)


def build_update(
    config: Config, optimizer: Any, total: Any, step: Any, statistics_update: Any, device: Device
) -> Tuple[Any, List[Any]]:
    """Build the operation that takes one step, counts it, and updates the moving averages.

    Args:
      config: the experiment.
      optimizer: a TensorFlow optimizer; the device adds averaging over the ranks and loss scaling to it.
      total: scalar to minimize.
      step: the global step.
      statistics_update: the operation that updates batch norm's moving averages.
      device: of this rank.

    Returns:
      the operation, and the variables of the moving averages of the weights (none if `train.ema_decay` is 0).
    """
    # In this order: scale the loss, compute gradients, average them over the ranks, unscale, clip, and apply them
    # unless they overflowed. Clipping must come after unscaling, and every rank must clip by the same norm.
    wrapped = device.wrap_optimizer(optimizer)
    gradients, variables = zip(*wrapped.compute_gradients(total))
    if config.train.clip_norm:
        gradients = tuple(clip_gradients(gradients, config.train.clip_norm))
    with tf.control_dependencies([statistics_update]):
        update = wrapped.apply_gradients(list(zip(gradients, variables)), global_step=step)
    if not config.train.ema_decay:
        return update, []
    # The average follows the weights of this step, so it waits for the update. The number of updates makes the decay
    # smaller in the first steps, so that the average does not hold on to the initial weights.
    with tf.control_dependencies([update]):
        average = tf.train.ExponentialMovingAverage(config.train.ema_decay, step)
        update = average.apply(network.variables())
    return update, [average.average(variable) for variable in network.variables()]


def clip_gradients(gradients: Sequence[Any], norm: float) -> List[Any]:
    """Return the gradients, scaled down to a global norm if theirs is larger.

    `tf.clip_by_global_norm` also checks that they are finite, with an operation that an NPU does not support.
    """
    scale = norm / tf.maximum(tf.global_norm(gradients), norm)
    return [gradient * scale for gradient in gradients]


def learning_rate(config: Config, step: Any, steps: int) -> Any:
    """Return the learning rate at a step (integer tensor): a linear warm-up, then constant or half a cosine to zero."""
    settings = config.train
    rate = tf.constant(settings.learning_rate, tf.float32)
    if settings.schedule == "cosine":
        # A rate that falls to zero lets the weights settle, where a constant one keeps them moving.
        rate *= _half_cosine(step, steps)
    if settings.warmup:
        # The first step already moves: its factor is 1 / warmup and not 0.
        rate *= tf.minimum((tf.cast(step, tf.float32) + 1.0) / settings.warmup, 1.0)
    return rate


def loss_weights(config: Config, step: Any, steps: int) -> LossWeights:
    """Return the weights of the objective at a step (integer tensor), as scalar tensors.

    Early in training the diversity loss spreads the landmarks. Later its weight decays to `loss.diversity_end` of its
    initial value, and the weight of the soft-argmax term rises from zero: what then counts is where exactly landmarks
    are. Before the heatmaps have peaks, there is nothing to refine.
    """
    decaying, end = _half_cosine(step, steps), config.loss.diversity_end
    return LossWeights(
        diversity=config.loss.diversity_weight * (end + (1.0 - end) * decaying),
        softargmax=config.loss.softargmax_weight * (1.0 - decaying),
    )


def _half_cosine(step: Any, steps: int) -> Any:
    """Return a factor that falls from 1 at the first step to 0 at the last, slowly at both ends.

    It stays at 0 after the last step, where the cosine would rise again.
    """
    return 0.5 * (1.0 + tf.cos(math.pi * tf.minimum(tf.cast(step, tf.float32) / steps, 1.0)))
