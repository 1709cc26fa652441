"""Landmark detectors: layer stacks that turn pictures into K score maps, and where on the picture a map's cells lie.

A network is a function `(pictures, landmarks, training) -> score maps` and its `geometry`, registered in `NETWORKS`.
"""

import zlib
from typing import Any, Dict, List, NamedTuple, Tuple

import numpy as np

from fse.errors import ConfigError
from fse.tf1 import tf

# Filters of the last layer: as many as landmarks.
K = 0


class Layer(NamedTuple):
    """A convolution without bias, batch norm, ReLU, and possibly a 2 x 2 maximum pooling of stride 2.

    With `same` padding a strided layer has an even kernel: only then do the outputs sit in the middle of the inputs
    they replace, and a map's cells divide the view evenly.
    """

    kernel: int
    filters: int
    stride: int = 1
    dilation: int = 1
    pool: bool = False
    relu: bool = True


class Network(NamedTuple):
    """A stack of layers; with `same` only strides shrink the map.

    What `same` pads with is the map's own mirror image. Zeros would tell the network where the frame is, and landmarks
    that sit at a fixed distance from the frame are the easiest ones to find, and useless.
    """

    layers: List[Layer]
    same: bool
    deviation: float  # of the normal distribution of initial kernels; 0 means He et al. 2015, sqrt(2 / inputs)


# The detector of the replaced codes, layer by layer (CNN_tower): VALID padding, ReLU also before the softmax.
_REFERENCE = [Layer(5, 20, pool=True), *(Layer(5, filters) for filters in (48, 64, 80, 256, K))]

NETWORKS: Dict[str, Network] = {
    # Thewlis et al. 2017, section 4: six layers, 20-48-64-80-256-K filters, one pooling. Padding keeps landmarks near
    # the border within reach; no ReLU before the softmax, which would flatten every map below its mean.
    "paper": Network([*_REFERENCE[:-1], Layer(5, K, relu=False)], same=True, deviation=0.02),
    "reference": Network(_REFERENCE, same=False, deviation=0.02),
    # For processors without an accelerator: a map of a quarter of the view, a receptive field of 57 pixels.
    "compact": Network(
        [
            Layer(6, 20, stride=2),
            Layer(4, 48, stride=2),
            Layer(3, 64),
            Layer(3, 80, dilation=2),
            Layer(3, 128, dilation=2),
            Layer(1, K, relu=False),
        ],
        same=True,
        deviation=0.0,
    ),
}

# Decay of the moving averages of batch statistics, and the constant that keeps a variance from zero (replaced codes).
_DECAY = 0.9
_EPSILON = 1e-3


def find(name: str) -> Network:
    """The network of that name.

    Raises:
      ConfigError: there is none.
    """
    if name not in NETWORKS:
        raise ConfigError("network.name must be one of {}, got {!r}".format(", ".join(NETWORKS), name))
    return NETWORKS[name]


def cell_centres(name: str, view: int) -> np.ndarray:
    """Where the cells of a map lie along one side of the view: the centres of their receptive fields.

    Args:
      name: a network of `NETWORKS`.
      view: width and height of the view in pixels.

    Returns:
      [cells] float64 in (-1, 1). For a network with `same` padding exactly `geometry.centres(cells)`.

    Raises:
      ConfigError: the network cannot see a view of that size.
    """
    network = find(name)
    count, first, step = view, 0.0, 1  # the input pixel under output 0, and the pixels between outputs
    for layer in network.layers:
        convolution = (layer.dilation * (layer.kernel - 1), layer.stride, _padding(layer)[0] if network.same else 0)
        for reach, stride, before in [convolution] + [(1, 2, 0)] * layer.pool:
            if network.same and count % stride:
                total = int(np.prod([layer.stride * (1 + layer.pool) for layer in network.layers]))
                raise ConfigError(
                    "network.view must be a multiple of {} for network {!r}, got {}".format(total, name, view)
                )
            shrunk = count // stride if network.same else (count - reach - 1) // stride + 1
            first += step * (reach / 2.0 - before)
            count, step = shrunk, step * stride
    if count < 2:
        raise ConfigError("network.view ({} pixels) is too small for network {!r}".format(view, name))
    return (2.0 * (first + step * np.arange(count)) + 1.0) / view - 1.0


def score_maps(name: str, pictures: Any, landmarks: int, training: bool, seed: int = 0) -> Any:
    """Builds the network in the current graph. Call once a graph: variables are created, not reused.

    Args:
      name: a network of `NETWORKS`.
      pictures: float32 tensor [batch, view, view, 3] in [-1, 1].
      landmarks: K.
      training: normalise by the batch's statistics and add updates of their averages to UPDATE_OPS, or by the averages.
      seed: of the initial kernels, which are the same for every TensorFlow version.

    Returns:
      float32 tensor [batch, cells, cells, K] of scores.
    """
    network = find(name)
    maps = pictures
    for number, layer in enumerate(network.layers, 1):
        with tf.variable_scope("layer_{}".format(number)):
            maps = _convolution(maps, layer, layer.filters or landmarks, network, seed)
            maps = _batch_norm(maps, training)
            if layer.relu:
                maps = tf.nn.relu(maps)
            if layer.pool:
                maps = tf.nn.max_pool(maps, [1, 2, 2, 1], [1, 2, 2, 1], "VALID")
    return maps


def probabilities(scores: Any) -> Any:
    """Spatial softmax: score maps [batch, rows, columns, K] to float32 [batch, rows * columns, K], each map sums to 1."""
    _, rows, columns, landmarks = scores.shape.as_list()
    flat = tf.reshape(tf.cast(scores, tf.float32), [-1, rows * columns, landmarks])
    return tf.nn.softmax(flat, axis=1)


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


def _convolution(maps: Any, layer: Layer, filters: int, network: Network, seed: int) -> Any:
    shape = [layer.kernel, layer.kernel, maps.shape.as_list()[-1], filters]
    deviation = network.deviation or np.sqrt(2.0 / np.prod(shape[:3]))
    random = np.random.RandomState([seed, zlib.crc32(tf.get_variable_scope().name.encode())])
    initial = (deviation * random.standard_normal(shape)).astype(np.float32)
    kernel = tf.get_variable("kernel", shape, tf.float32, tf.constant_initializer(initial))
    if network.same:
        before, after = _padding(layer)
        maps = tf.pad(maps, [[0, 0], [before, after], [before, after], [0, 0]], "REFLECT")
    return tf.nn.convolution(
        maps,
        kernel,
        padding="VALID",
        strides=[layer.stride, layer.stride],
        dilation_rate=[layer.dilation, layer.dilation],
    )


def _padding(layer: Layer) -> Tuple[int, int]:
    """Pixels before and after a map with which a convolution shrinks it by its stride alone."""
    total = layer.dilation * (layer.kernel - 1) + 1 - layer.stride
    return total // 2, total - total // 2


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
        tf.add_to_collection(tf.GraphKeys.UPDATE_OPS, tf.assign_sub(average, (1.0 - _DECAY) * (average - value)))
    return normal
