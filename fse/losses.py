"""The objective of factorized spatial embeddings (Thewlis et al. 2017, section 3): alignment and diversity.

Both take heat maps as probabilities [batch, cells, K]; cells are counted row by row.
"""

from typing import Any, List

from fse.geometry import CELLS_PER_HALF_WIDTH
from fse.tf1 import tf


def alignment(first: Any, second: Any, first_points: Any, second_points: Any) -> Any:
    """Probabilistic alignment loss in its linear-time form (paper, eq. 5 and the identity below it).

    E |u - v|^2 over u drawn from a map of the first view and v from the same landmark's map of the second, both carried
    to the picture they come from: E|u|^2 + E|v|^2 - 2 <E u, E v>. It is the squared distance of the two expected
    positions plus the variances of the two maps, and so zero only for equal, single-cell maps.

    Args:
      first, second: float32 tensors [batch, cells, K], each map sums to 1.
      first_points, second_points: float32 tensors [batch, cells, 2]: where each view's cells lie on the picture, in
        half-widths.

    Returns:
      scalar: mean over landmarks and batch, in squared cells of 1/64 of the view's width.
    """
    (mean_u, square_u), (mean_v, square_v) = _moments(first, first_points), _moments(second, second_points)
    product = tf.reduce_sum(mean_u * mean_v, axis=-1)
    return CELLS_PER_HALF_WIDTH**2 * tf.reduce_mean(square_u + square_v - 2.0 * product)


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


def _moments(maps: Any, points: Any) -> Any:
    """Expected positions [batch, K, 2] and expected squared distances from the origin [batch, K]."""
    landmarks = maps.shape.as_list()[-1]
    squares = tf.reduce_sum(points * points, axis=-1, keepdims=True)

    def expectation(values: Any) -> Any:
        # Tiled by hand: a broadcast, like a batched matrix product, has a gradient of unknown static shape on 1.15.
        return tf.reduce_sum(maps * tf.tile(values, [1, 1, landmarks]), axis=1)

    position = tf.stack([expectation(points[..., :1]), expectation(points[..., 1:])], axis=-1)
    return position, expectation(squares)
