"""The input pipeline of training: batches of warped views, with the points of the image that their heatmap cells show.

    records ──> images [n, size, size, 3] ──┐
                                            ├──> rendered views and cell points
    seed, step ──> warps and colors ────────┘

It runs on the host in parallel with the training step. Batch i depends on the seed and on i alone, so a resumed training
sees the batches that an uninterrupted one would.
"""

from typing import Any, NamedTuple, Tuple

import numpy as np

from fse import geometry
from fse.config import Config
from fse.inputs import augment, records, rendering
from fse.model import network
from fse.tf1 import tf, without_autograph


class Batch(NamedTuple):
    """The tensors of a training batch of n = images * views views; the views of an image follow one another."""

    views: Any  # float32 [n, view, view, 3] in [-1, 1]
    cell_points: Any  # float32 [n, cells, 2], the points of the image that the heatmap cells show, in half-widths


def batches(config: Config, data: records.Records, first_step: Any, steps: int, rank: int = 0, ranks: int = 1) -> Any:
    """Return the batches of a training, or one rank's share of them.

    All shapes are static, because an NPU compiles the graph for fixed shapes.

    Args:
      config: the experiment.
      data: its records.
      first_step: int64 scalar tensor, the step of the first batch.
      steps: number of steps of the training; the data set ends after them.
      rank: this rank, which gets images `rank`, `rank + ranks`, … of each batch.
      ranks: number of ranks that share the batch.

    Returns:
      tf.data set of `Batch`.
    """
    settings, view, batch_size = config.augment, config.network.view, config.train.batch_size
    count, controls = batch_size // ranks * settings.views, settings.control_points**2
    basis = cell_basis(config)

    def render(images: np.ndarray, step: np.ndarray) -> Tuple[np.ndarray, np.ndarray]:
        samples = augment.sample_step(settings, config.train.seed, int(step), batch_size, settings.views, rank, ranks)
        # [images, views, C, 2] -> [n, C, 2]
        return rendering.render(images, samples, view), samples.destinations.reshape(count, controls, 2)

    def make_batch(images: Any, step: Any) -> Batch:
        views, destinations = tf.numpy_function(render, (images, step), (tf.float32, tf.float32))
        views.set_shape([count, view, view, 3])
        destinations.set_shape([count, controls, 2])
        return Batch(views, apply_basis(basis, destinations))

    images = records.repeated_batches(
        data, batch_size, config.train.seed, config.train.shuffle_buffer, first_step, rank, ranks
    )
    images_and_steps = tf.data.Dataset.zip((images, tf.data.Dataset.range(first_step, steps)))
    # tf.data chooses the number of batches that are rendered at once. Their order does not change.
    return images_and_steps.map(
        without_autograph(make_batch), num_parallel_calls=tf.data.experimental.AUTOTUNE
    ).prefetch(2)


def cell_basis(config: Config) -> np.ndarray:
    """Return the thin-plate-spline basis at the centers of the heatmap cells.

    Returns:
      float32 [cells, C], cells row by row; `basis @ destinations` are the points of the image that the cells show.
    """
    ticks = network.cell_centers(config.network.name, config.network.view)
    basis = geometry.spline_basis(geometry.grid(ticks, ticks), config.augment.control_points)
    return basis.astype(np.float32)


def apply_basis(basis: np.ndarray, destinations: Any) -> Any:
    """Evaluate warps at fixed points of the view.

    Args:
      basis: float32 [points, C], the spline basis at these points.
      destinations: float32 tensor [warps, C, 2], where each warp sends the control points.

    Returns:
      float32 tensor [warps, points, 2].
    """
    count, controls, _ = destinations.shape.as_list()
    # One matrix product serves all warps. Its rows are first the x and then the y coordinates of all of them:
    # [2 * warps, C] @ [C, points].
    rows = tf.reshape(tf.transpose(destinations, [2, 0, 1]), [2 * count, controls])
    x, y = tf.unstack(tf.reshape(tf.matmul(rows, tf.constant(basis.T, tf.float32)), [2, count, len(basis)]))
    # Interleave x and y by reading complex numbers x + iy as pairs of floats. TensorFlow's operations that stack or
    # transpose take several times as long.
    return tf.bitcast(tf.complex(x, y), tf.float32)
