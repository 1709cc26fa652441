"""Landmark detectors: layer stacks that turn images into K score maps, and where on the image a map's cells lie.

A network is a function `(layer, images, landmarks) -> score maps`, where `layer` makes one convolution, and an entry in
`NETWORKS`.
"""

import zlib
from typing import Any, Callable, Dict, List, NamedTuple, Tuple

import numpy as np

from fse.errors import ConfigError
from fse.tf1 import tf


class Network(NamedTuple):
    """A detector.

    Attributes:
      build: (layer, images [batch, view, view, 3], K) to score maps [batch, cells, cells, K].
      reduction: pixels of the view per cell of the map, along a side.
      multiple: what the view's side must be a multiple of.
      margin: pixels between the view's edge and the outermost cells: 0 with padding, else what VALID convolutions take.
      padding: `mirror` or `none`. Zeros would tell the network where the frame is, and landmarks that sit at a fixed
        distance from the frame are the easiest ones to find, and useless.
      deviation: of the normal distribution of initial kernels; 0 means He et al. 2015, sqrt(2 / inputs).
    """

    build: Callable[["Layers", Any, int], Any]
    reduction: int
    multiple: int
    margin: int
    padding: str
    deviation: float


class Heatmaps(NamedTuple):
    """float32 tensors [batch, cells, K], each map sums to 1: whole maps, and what landmarks are read from."""

    whole: Any
    read: Any


class Layers:
    """Makes the layers of one network in the current graph, numbered in the order in which they are made."""

    def __init__(self, network: Network, training: bool, seed: int):
        """`training`: normalize by the batch's statistics; `seed`: of the initial kernels."""
        self.network, self.training, self.seed = network, training, seed
        self.count = 0

    def __call__(
        self, maps: Any, kernel: int, filters: int, stride: int = 1, dilation: int = 1, relu: bool = True
    ) -> Any:
        """A convolution without bias, batch norm and, where wanted, ReLU.

        With mirror padding a strided layer wants an even kernel: only then do the outputs sit in the middle of the inputs
        they replace, and a map's cells divide the view evenly.
        """
        self.count += 1
        with tf.variable_scope(f"layer_{self.count}"):
            shape = [kernel, kernel, maps.shape.as_list()[-1], filters]
            weights = tf.get_variable("kernel", shape, tf.float32, tf.constant_initializer(self._initial(shape)))
            if self.network.padding == "mirror":
                total = dilation * (kernel - 1) + 1 - stride
                around = [total // 2, total - total // 2]
                maps = tf.pad(maps, [[0, 0], around, around, [0, 0]], "REFLECT")
            maps = tf.nn.convolution(
                maps, weights, padding="VALID", strides=[stride, stride], dilation_rate=[dilation, dilation]
            )
            maps = _batch_norm(maps, self.training)
        return tf.nn.relu(maps) if relu else maps

    def _initial(self, shape: List[int]) -> np.ndarray:
        """Drawn with NumPy, so that they are the same for every TensorFlow version."""
        deviation = self.network.deviation or np.sqrt(2.0 / np.prod(shape[:3]))
        random = np.random.RandomState([self.seed, zlib.crc32(tf.get_variable_scope().name.encode())])
        return (deviation * random.standard_normal(shape)).astype(np.float32)


def _paper(layer: Layers, maps: Any, landmarks: int) -> Any:
    """Thewlis et al. 2017, section 4: six layers, 20-48-64-80-256-K filters, one pooling.

    Padding keeps landmarks near the border within reach; no ReLU before the softmax, which would flatten every map below
    its mean.
    """
    maps = _pool(layer(maps, 5, 20))
    for filters in (48, 64, 80, 256):
        maps = layer(maps, 5, filters)
    return layer(maps, 5, landmarks, relu=False)


def _reference(layer: Layers, maps: Any, landmarks: int) -> Any:
    """The detector of the replaced codes, layer by layer (CNN_tower): VALID, ReLU also before the softmax."""
    maps = _pool(layer(maps, 5, 20))
    for filters in (48, 64, 80, 256, landmarks):
        maps = layer(maps, 5, filters)
    return maps


def _compact(layer: Layers, maps: Any, landmarks: int) -> Any:
    """For processors without an accelerator: a map of a quarter of the view, a receptive field of 57 pixels."""
    maps = layer(maps, 6, 20, stride=2)
    maps = layer(maps, 4, 48, stride=2)
    maps = layer(maps, 3, 64)
    maps = layer(maps, 3, 80, dilation=2)
    maps = layer(maps, 3, 128, dilation=2)
    return layer(maps, 1, landmarks, relu=False)


def _fine(layer: Layers, maps: Any, landmarks: int) -> Any:
    """As `_compact`, with a map of half the view: where a landmark is comes from near the image, which from afar.

    A third more work than `_compact` for cells of half the size. Coarse maps are enlarged by repeating cells.
    """
    near = layer(maps, 6, 20, stride=2)
    maps = layer(near, 4, 48, stride=2)
    maps = layer(maps, 3, 64)
    maps = layer(maps, 3, 80, dilation=2)
    maps = layer(maps, 3, 128, dilation=2)
    maps = layer(maps, 1, 32)
    maps = layer(tf.concat([_enlarged(maps), near], axis=-1), 3, 32)
    return layer(maps, 1, landmarks, relu=False)


def _deep(layer: Layers, maps: Any, landmarks: int) -> Any:
    """For accelerators: residual blocks (He et al., CVPR 2016) at three scales, brought together on the finest.

    A map of a quarter of the view, a receptive field of 189 pixels. Coarse maps are enlarged by repeating cells.
    """
    maps = layer(layer(maps, 6, 32, stride=2), 4, 64, stride=2)
    scales: List[Any] = []
    for filters in (64, 128, 192):
        if scales:
            maps = layer(maps, 4, filters, stride=2)
        for _ in range(2):
            maps = tf.nn.relu(maps + layer(layer(maps, 3, filters), 3, filters, relu=False))
        scales.append(maps)
    for fine in (scales[1], scales[0]):
        filters = fine.shape.as_list()[-1]
        coarse = _enlarged(layer(maps, 1, filters, relu=False))
        maps = tf.nn.relu(layer(fine, 1, filters, relu=False) + coarse)
        maps = layer(maps, 3, filters)
    return layer(maps, 1, landmarks, relu=False)


def _enlarged(maps: Any) -> Any:
    """Every cell twice in each direction."""
    side = maps.shape.as_list()[1]
    return tf.image.resize_nearest_neighbor(maps, [2 * side, 2 * side])


def _pool(maps: Any) -> Any:
    return tf.nn.max_pool(maps, [1, 2, 2, 1], [1, 2, 2, 1], "VALID")


NETWORKS: Dict[str, Network] = {
    "paper": Network(_paper, 2, 2, 0, "mirror", 0.02),
    "reference": Network(_reference, 2, 1, 22, "none", 0.02),
    "compact": Network(_compact, 4, 4, 0, "mirror", 0.0),
    "fine": Network(_fine, 2, 4, 0, "mirror", 0.0),
    "deep": Network(_deep, 4, 16, 0, "mirror", 0.0),
}

# Decay of the moving averages of batch statistics, and the constant that keeps a variance from zero (replaced codes).
_DECAY = 0.9
_EPSILON = 1e-3

# A score, compared with a map's largest, of probability zero, in half precision too.
_NOTHING = -1e4

# The graph collection of (moving average, what it follows).
_STATISTICS = "batch_statistics"


def find(name: str) -> Network:
    """The network of that name.

    Raises:
      ConfigError: there is none.
    """
    if name not in NETWORKS:
        raise ConfigError("network.name must be one of {}, got {!r}".format(", ".join(NETWORKS), name))
    return NETWORKS[name]


def cell_centers(name: str, view: int) -> np.ndarray:
    """Where the cells of a map lie along one side of the view: the centers of their receptive fields.

    Args:
      name: a network of `NETWORKS`.
      view: width and height of the view in pixels.

    Returns:
      [cells] float64 in (-1, 1). For a padded network exactly `geometry.centers(cells)`.

    Raises:
      ConfigError: the network cannot see a view of that size.
    """
    network = find(name)
    if view % network.multiple:
        raise ConfigError(f"network.view must be a multiple of {network.multiple} for network {name!r}, got {view}")
    count = (view - 2 * network.margin) // network.reduction
    if count < 2:
        raise ConfigError(f"network.view ({view} pixels) is too small for network {name!r}")
    return 2.0 * (network.margin + network.reduction * (np.arange(count) + 0.5)) / view - 1.0


def score_maps(name: str, images: Any, landmarks: int, training: bool, seed: int = 0) -> Any:
    """Builds the network in the current graph. Call once a graph: variables are created, not reused.

    Args:
      name: a network of `NETWORKS`.
      images: float32 tensor [batch, view, view, 3] in [-1, 1].
      landmarks: K.
      training: normalize by the batch's statistics, which `statistics` then returns, or by their averages.
      seed: of the initial kernels, which are the same for every TensorFlow version.

    Returns:
      float32 tensor [batch, cells, cells, K] of scores.
    """
    network = find(name)
    return network.build(Layers(network, training, seed), images, landmarks)


def probabilities(scores: Any, radius: int = 0, temperature: float = 1.0) -> Any:
    """Spatial softmax.

    Args:
      scores: tensor [batch, rows, columns, K].
      radius: cells farther from a map's largest than this, along either axis, count for nothing; 0: all count. Where maps
        are nearly one-hot, what lies around the largest, at a high temperature, says where between the cells a landmark is.
      temperature: what scores are divided by.

    Returns:
      float32 tensor [batch, rows * columns, K], each map sums to 1.
    """
    _, rows, columns, landmarks = scores.shape.as_list()
    flat = tf.reshape(tf.cast(scores, tf.float32), [-1, rows * columns, landmarks])
    if temperature != 1.0:  # on 1.15 a product by 1 would change how the rest is rounded
        flat *= 1.0 / temperature
    if radius:
        largest = tf.argmax(flat, axis=1, output_type=tf.int32)[:, None]
        places, centers = np.divmod(np.arange(rows * columns), columns), (largest // columns, largest % columns)
        near = [tf.abs(tf.constant(a[:, None], tf.int32) - b) <= radius for a, b in zip(places, centers)]
        below = flat - tf.stop_gradient(tf.reduce_max(flat, axis=1, keepdims=True))
        flat = tf.where(tf.logical_and(*near), below, tf.zeros_like(below) + _NOTHING)
    return tf.nn.softmax(flat, axis=1)


def heatmaps(scores: Any, radius: int, temperature: float) -> Heatmaps:
    """The heatmaps of scores [batch, rows, columns, K], and what landmarks are read from; see `probabilities`."""
    whole = probabilities(scores)
    # Not built again where it is the same: TensorFlow 1.15 rounds otherwise in a graph that has both.
    if not radius and temperature == 1.0:
        return Heatmaps(whole, whole)
    return Heatmaps(whole, probabilities(scores, radius, temperature))


def expectations(maps: Any, points: Any) -> Any:
    """Landmarks as expected positions.

    Args:
      maps: float32 tensor [batch, cells, K], each map sums to 1.
      points: float32 [cells, 2], or a tensor [batch, cells, 2]: where the cells are.

    Returns:
      float32 tensor [batch, K, 2] of points (x, y).
    """
    transposed = tf.transpose(maps, [0, 2, 1])
    if len(points.shape) == 3:
        return tf.matmul(transposed, points)
    _, landmarks, cells = transposed.shape.as_list()
    flat = tf.matmul(tf.reshape(transposed, [-1, cells]), tf.constant(points, tf.float32))
    return tf.reshape(flat, [-1, landmarks, 2])


def kernels() -> List[Any]:
    """The convolution kernels of the current graph, the variables that weight decay acts on."""
    return [variable for variable in tf.trainable_variables() if variable.op.name.endswith("/kernel")]


def variables() -> List[Any]:
    """All that the network of the current graph computes with: trained variables and batch norm's averages."""
    statistics = [variable for variable in tf.global_variables() if variable.op.name.endswith(("/mean", "/variance"))]
    return tf.trainable_variables() + statistics


def statistics() -> Tuple[List[Any], List[Any]]:
    """Batch norm's moving averages in the current graph, and the batch's statistics that they follow."""
    pairs = tf.get_collection(_STATISTICS)
    return [average for average, _ in pairs], [value for _, value in pairs]


def batch_norm_updates(averages: List[Any], values: List[Any]) -> Any:
    """The operation that takes moving averages a step towards what they follow."""
    steps = [tf.assign_sub(mean, (1.0 - _DECAY) * (mean - value)) for mean, value in zip(averages, values)]
    return tf.group(*steps)


def _batch_norm(maps: Any, training: bool) -> Any:
    channels = maps.shape.as_list()[-1:]
    scale = tf.get_variable("scale", channels, tf.float32, tf.ones_initializer())
    offset = tf.get_variable("offset", channels, tf.float32, tf.zeros_initializer())
    mean = tf.get_variable("mean", channels, tf.float32, tf.zeros_initializer(), trainable=False)
    variance = tf.get_variable("variance", channels, tf.float32, tf.ones_initializer(), trainable=False)
    if not training:
        normal, _, _ = tf.nn.fused_batch_norm(maps, scale, offset, mean, variance, epsilon=_EPSILON, is_training=False)
        return normal
    normal, batch_mean, batch_variance = tf.nn.fused_batch_norm(maps, scale, offset, epsilon=_EPSILON)
    for average, value in ((mean, batch_mean), (variance, batch_variance)):
        tf.add_to_collection(_STATISTICS, (average, value))
    return normal
