"""The objective of factorized spatial embeddings (Thewlis et al. 2017, section 3): alignment and diversity.

Both take heatmaps as probabilities [batch, cells, K]; cells are counted row by row.
"""

import itertools
from typing import Any, List, Tuple

from fse.geometry import CELLS_PER_HALF_WIDTH
from fse.tf1 import tf


def alignment(maps: Any, points: Any, views: int) -> Tuple[Any, Any]:
    """Probabilistic alignment loss in its linear-time form (paper, eq. 5), for every pair of an image's views.

    E |u - v|^2 over u drawn from a landmark's map in one view and v from its map in another, both carried to the
    image they come from. That is the squared distance of the two expected positions plus the variances of the two
    maps, and so zero only for equal, single-cell maps. In these two parts, and not as E|u|^2 + E|v|^2 - 2 <E u, E v>,
    its terms are positive and small where the landmarks agree: nothing cancels, in half precision either.

    Args:
      maps: tensor [batch * views, cells, K], each map sums to 1; an image's views follow one another.
      points: tensor [batch * views, cells, 2]: where each view's cells lie on the image, in half-widths.
      views: how many views of each image there are, at least 2.

    Returns:
      distance, variance: scalars whose sum is the loss, means over pairs of views, landmarks and batch, in squared cells
        of 1/64 of the view's width.
    """
    positions, variances = _moments(maps, points)
    landmarks = maps.shape.as_list()[-1]
    seen = tf.unstack(tf.reshape(positions, [-1, views, landmarks, 2]), axis=1)
    distances = [tf.reduce_sum(tf.square(u - v), axis=-1) for u, v in itertools.combinations(seen, 2)]
    distance = tf.add_n([tf.reduce_mean(distance) for distance in distances]) * (1.0 / len(distances))
    return CELLS_PER_HALF_WIDTH**2 * distance, CELLS_PER_HALF_WIDTH**2 * 2.0 * tf.reduce_mean(variances)


def diversity(maps: Any, side: int, window: int) -> Any:
    """Pooled diversity loss of one view (paper, eq. 7): K minus the sum over windows of the largest landmark's share.

    Maps are summed over windows of `window` x `window` cells side by side (the last ones may hang over the edge). Zero
    when no two landmarks share a window, K - 1 when all landmarks are in one.

    Args:
      maps: float32 tensor [batch, side * side, K], each map sums to 1.
      side: cells along one side of a map.
      window: M.

    Returns:
      scalar: mean over the batch, in landmarks.
    """
    landmarks = maps.shape.as_list()[-1]
    images = tf.reshape(maps, [-1, side, side, landmarks])
    over = -side % window
    if over:
        images = tf.pad(images, [[0, 0], [0, over], [0, over], [0, 0]])
    size = [1, window, window, 1]
    shares = tf.nn.avg_pool(images, size, size, "VALID") * float(window * window)
    return landmarks - tf.reduce_mean(tf.reduce_sum(tf.reduce_max(shares, axis=-1), axis=[1, 2]))


def decay(kernels: List[Any]) -> Any:
    """L2 term of the weights: the sum over kernels of |w|^2 / 2."""
    return tf.add_n([tf.nn.l2_loss(kernel) for kernel in kernels])


def _moments(maps: Any, points: Any) -> Tuple[Any, Any]:
    """Expected positions [n, K, 2] of maps [n, cells, K] and the variances [n, K] about them."""
    landmarks = maps.shape.as_list()[-1]
    across, down = points[..., :1], points[..., 1:]
    # Tiled by hand: a broadcast, like a batched matrix product, has a gradient of unknown static shape on 1.15.
    position = [tf.reduce_sum(maps * tf.tile(axis, [1, 1, landmarks]), axis=1) for axis in (across, down)]
    # The variance is least about the mean, so the mean's own share in its gradient is zero: the distances are weights.
    x, y = (tf.stop_gradient(axis)[:, None] for axis in position)
    squares = tf.stop_gradient(tf.square(across - x) + tf.square(down - y))
    return tf.stack(position, axis=-1), tf.reduce_sum(maps * squares, axis=1)
