"""The objective of factorized spatial embeddings: the alignment and the diversity loss.

Thewlis, Bilen and Vedaldi, "Unsupervised learning of object landmarks by factorized spatial embeddings", ICCV 2017,
section 3. A landmark detector is good if its landmarks are

  aligned   the same landmark of two warped views of an image lies at the same place of the image;
  diverse   different landmarks lie at different places. Without this, all landmarks could settle on one point.

Heatmaps are probabilities over the cells, [batch, cells, K]; cells are counted row by row.
"""

import itertools
from typing import Any, List, Tuple

from fse.geometry import CELLS_PER_HALF_WIDTH
from fse.tf1 import tf


def alignment(heatmaps: Any, cell_points: Any, views: int) -> Tuple[Any, Any]:
    """Return the probabilistic alignment loss (paper, eq. 5), averaged over all pairs of views of an image.

    For a landmark with heatmap p in one view and q in another, the loss is the expectation of |u - v|^2, where u is
    drawn from p and v from q, both as points of the image that the views show. The paper sums over all pairs of cells.
    This function computes the same number in time linear in the number of cells:

        E |u - v|^2  =  |E u - E v|^2  +  var u  +  var v

    The reference implementations expand it as E |u|^2 + E |v|^2 - 2 <E u, E v>. That form subtracts large numbers that
    are almost equal when the landmarks agree, so half precision loses whole units of the loss. Both terms above are
    positive, and they are small where the landmarks agree. The loss is zero only for equal maps with a single cell.

    Args:
      heatmaps: tensor [batch * views, cells, K], each map sums to 1; the views of an image follow one another.
      cell_points: tensor [batch * views, cells, 2], the point of the image that each cell of each view shows, in
        half-widths.
      views: number of views of each image, at least 2.

    Returns:
      distance, variance: scalars, |E u - E v|^2 and var u + var v, whose sum is the loss. Both are means over the pairs
        of views, the landmarks and the batch. The unit is a squared cell of 1/64 of the view's width.
    """
    means, variances = _moments(heatmaps, cell_points)
    landmarks = heatmaps.shape.as_list()[-1]
    # [batch * views, K, 2] -> one tensor [batch, K, 2] per view.
    means_by_view = tf.unstack(tf.reshape(means, [-1, views, landmarks, 2]), axis=1)
    distances = [tf.reduce_sum(tf.square(u - v), axis=-1) for u, v in itertools.combinations(means_by_view, 2)]
    distance = tf.add_n([tf.reduce_mean(distance) for distance in distances]) * (1.0 / len(distances))
    # Every view is in the same number of pairs, so the mean of var u + var v over the pairs is twice the mean variance.
    return CELLS_PER_HALF_WIDTH**2 * distance, CELLS_PER_HALF_WIDTH**2 * 2.0 * tf.reduce_mean(variances)


def diversity(heatmaps: Any, side: int, window: int) -> Any:
    """Return the pooled diversity loss of single views (paper, eq. 7).

    The loss is K minus the sum over windows of the largest probability that any landmark has in the window. It is zero
    if no two landmarks share a window, and K - 1 if all landmarks are in one window. Windows are `window` x `window`
    cells that do not overlap; the last row and column of windows may extend beyond the map.

    Pooling makes landmarks repel one another over the width of a window. Without it, two landmarks could sit in
    neighboring cells at no cost. alldbi and the ModelZoo port pool with stride 1 instead: the average over all phases
    of these windows, except that cells at the border count less.

    Args:
      heatmaps: float32 tensor [batch, side * side, K], each map sums to 1.
      side: number of cells along one side of a map.
      window: number of cells along one side of a window; M in the paper.

    Returns:
      scalar: mean over the batch, in landmarks.
    """
    landmarks = heatmaps.shape.as_list()[-1]
    maps = tf.reshape(heatmaps, [-1, side, side, landmarks])
    overhang = -side % window
    if overhang:
        # Cells that are added below and to the right have probability zero.
        maps = tf.pad(maps, [[0, 0], [0, overhang], [0, overhang], [0, 0]])
    size = [1, window, window, 1]
    # Sum pooling, as TensorFlow has average pooling only: [batch, windows, windows, K].
    sums = tf.nn.avg_pool(maps, size, size, "VALID") * float(window * window)
    return landmarks - tf.reduce_mean(tf.reduce_sum(tf.reduce_max(sums, axis=-1), axis=[1, 2]))


def weight_decay(kernels: List[Any]) -> Any:
    """Return the L2 term of the weights: the sum over kernels of |w|^2 / 2."""
    return tf.add_n([tf.nn.l2_loss(kernel) for kernel in kernels])


def _moments(heatmaps: Any, cell_points: Any) -> Tuple[Any, Any]:
    """Return the means [n, K, 2] of heatmaps [n, cells, K] and their variances [n, K]."""
    landmarks = heatmaps.shape.as_list()[-1]
    x, y = cell_points[..., :1], cell_points[..., 1:]  # [n, cells, 1] each
    # Tile explicitly: on TensorFlow 1.15 the gradients of a broadcast and of a batched matrix product have no static
    # shape, which an NPU needs.
    mean = [tf.reduce_sum(heatmaps * tf.tile(axis, [1, 1, landmarks]), axis=1) for axis in (x, y)]
    # The variance is smallest about the mean, so its derivative by the mean is zero and the gradient may stop here. The
    # squared distances then are constant weights of the probabilities.
    mean_x, mean_y = (tf.stop_gradient(axis)[:, None] for axis in mean)  # [n, 1, K] each
    squares = tf.stop_gradient(tf.square(x - mean_x) + tf.square(y - mean_y))  # [n, cells, K]
    return tf.stack(mean, axis=-1), tf.reduce_sum(heatmaps * squares, axis=1)
