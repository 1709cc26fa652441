"""From score maps to heatmaps, and from heatmaps to landmarks: spatial softmax and soft-argmax.

    score maps ─┬─> softmax over all cells ──────────────> heatmaps ───────> alignment and diversity loss
                └─> softmax around the largest score ────> local heatmaps ─> soft-argmax ─> landmarks

A landmark is the expected position under its heatmap (Thewlis et al. 2017, section 3), which is differentiable, unlike
the position of the largest score, and finer than a cell.

The alignment loss penalizes the variance of a heatmap, so trained heatmaps are nearly one-hot. A landmark then sits in
the middle of a cell, and the softmax hardly passes gradients. The scores around the largest one still say where between
the cells the landmark is, and a softmax over these cells alone, at a higher temperature, recovers that. Such a local
heatmap also ignores weak peaks elsewhere in the map, which would pull the expected position away. It lowers the
equivariance error by a third (docs/training.md).
"""

from typing import Any, NamedTuple

import numpy as np

from fse.tf1 import tf

# Subtracted from a map's largest score, this gives a probability of zero, in half precision too.
_EXCLUDED_SCORE = -1e4


class Heatmaps(NamedTuple):
    """The two kinds of heatmaps of a batch: float32 tensors [batch, cells, K], each map sums to 1."""

    full: Any  # softmax over all cells
    local: Any  # softmax over the cells around the largest score; soft-argmax reads landmarks from these


def spatial_softmax(scores: Any, radius: int = 0, temperature: float = 1.0) -> Any:
    """Return heatmaps: the softmax of score maps over their cells.

    Args:
      scores: tensor [batch, rows, columns, K].
      radius: cells that are more than this many rows or columns away from the map's largest score get probability zero;
        0 includes all cells.
      temperature: divides the scores; above 1 it widens the peaks.

    Returns:
      float32 tensor [batch, rows * columns, K], each map sums to 1.
    """
    _, rows, columns, landmarks = scores.shape.as_list()
    # Cells side by side in one axis, row by row: [batch, cells, K].
    flat = tf.reshape(tf.cast(scores, tf.float32), [-1, rows * columns, landmarks])
    if temperature != 1.0:  # on TensorFlow 1.15 a multiplication by 1 changes how later operations round
        flat *= 1.0 / temperature
    if radius:
        peak = tf.argmax(flat, axis=1, output_type=tf.int32)[:, None]  # [batch, 1, K], index of a cell
        cell_indices, peak_indices = np.divmod(np.arange(rows * columns), columns), (peak // columns, peak % columns)
        # Two masks [batch, cells, K]: rows close to the peak's row, columns close to its column.
        near = [
            tf.abs(tf.constant(cell[:, None], tf.int32) - center) <= radius
            for cell, center in zip(cell_indices, peak_indices)
        ]
        # A softmax does not change if a constant is subtracted, so no gradient is needed for the maximum. With the
        # maximum at zero, one constant excludes cells whatever the range of the scores.
        below_peak = flat - tf.stop_gradient(tf.reduce_max(flat, axis=1, keepdims=True))
        flat = tf.where(tf.logical_and(*near), below_peak, tf.zeros_like(below_peak) + _EXCLUDED_SCORE)
    return tf.nn.softmax(flat, axis=1)


def from_scores(scores: Any, radius: int, temperature: float) -> Heatmaps:
    """Return the heatmaps of score maps [batch, rows, columns, K].

    `radius` and `temperature` are those of the local heatmaps; see `spatial_softmax`.
    """
    full = spatial_softmax(scores)
    # Share the tensor if both are equal: with a second softmax in the graph, TensorFlow 1.15 rounds differently.
    if not radius and temperature == 1.0:
        return Heatmaps(full, full)
    return Heatmaps(full, spatial_softmax(scores, radius, temperature))


def soft_argmax(heatmaps: Any, cell_points: np.ndarray) -> Any:
    """Return landmarks: the expected position under each heatmap.

    Args:
      heatmaps: float32 tensor [batch, cells, K], each map sums to 1.
      cell_points: [cells, 2] points (x, y) of the cells.

    Returns:
      float32 tensor [batch, K, 2] of points (x, y).
    """
    transposed = tf.transpose(heatmaps, [0, 2, 1])
    _, landmarks, cells = transposed.shape.as_list()
    # One matrix product for all maps: [batch * K, cells] @ [cells, 2].
    positions = tf.matmul(tf.reshape(transposed, [-1, cells]), tf.constant(cell_points, tf.float32))
    return tf.reshape(positions, [-1, landmarks, 2])
