"""Landmark detectors: fully convolutional networks that turn images into one score map per landmark.

A network is an entry of `NETWORKS`. Its `build` function stacks layers with a `LayerBuilder`, and the other fields say
where the cells of its score maps lie in the view. To add a network, write such a function and add an entry; everything
else (losses, training, export, evaluation) takes the geometry from `cell_centers`.

All tensors of images and maps have the axis order [batch, rows, columns, channels].
"""

import zlib
from dataclasses import dataclass
from typing import Any, Callable, Dict, List, Tuple

import numpy as np

from fse.errors import ConfigError
from fse.tf1 import tf

# Decay of batch norm's moving averages, and the constant that keeps a variance from zero. Both are the values of alldbi
# and of the ModelZoo port, so the `reference` network equals theirs.
_BATCH_NORM_DECAY = 0.9
_BATCH_NORM_EPSILON = 1e-3

# The graph collection with a pair per batch norm variable: the moving average and the statistic of the batch.
_STATISTICS = "batch_statistics"


@dataclass(frozen=True)
class Network:
    """The layers of a detector and the geometry of its score maps."""

    # (layer builder, images [batch, view, view, 3], K) -> score maps [batch, cells, cells, K].
    build: Callable[["LayerBuilder", Any, int], Any]
    # Pixels of the view per cell, along one side.
    reduction: int
    # The view's side must be a multiple of this number of pixels, so that all strides divide it.
    multiple: int
    # Pixels between the edge of the view and the outermost cells: 0 with padding. Without padding, it is what the VALID
    # convolutions cut off, and landmarks cannot lie there.
    margin: int
    # "mirror" or "none". Zero padding would tell the network where the frame is. Landmarks then settle at fixed
    # distances from the frame: these are the easiest ones to detect, and they say nothing about the object.
    padding: str
    # Standard deviation of the initial kernels. 0 means sqrt(2 / inputs), which keeps the scale of activations from layer
    # to layer (He et al., "Delving deep into rectifiers", ICCV 2015).
    kernel_stddev: float


class LayerBuilder:
    """A builder of convolution layers in the current graph; it numbers the layers in the order of the calls."""

    def __init__(self, network: Network, training: bool, seed: int):
        """Begin with layer 1.

        Args:
          network: sets the padding and the initial kernels.
          training: normalize by the statistics of the batch; otherwise by their moving averages.
          seed: seed of the initial kernels.
        """
        self.network, self.training, self.seed = network, training, seed
        self.count = 0

    def __call__(
        self, maps: Any, kernel: int, filters: int, stride: int = 1, dilation: int = 1, relu: bool = True
    ) -> Any:
        """Add a convolution without bias, batch norm and an optional ReLU. Batch norm's offset replaces the bias.

        A strided layer with mirror padding needs an even kernel. Only then is an output centered on the inputs that it
        replaces, so that the cells of the maps divide the view evenly.

        Args:
          maps: tensor [batch, rows, columns, channels].
          kernel: rows and columns of the kernel.
          filters: number of output channels.
          stride: cells between neighboring outputs.
          dilation: cells between neighboring taps of the kernel.
          relu: whether a ReLU follows.

        Returns:
          tensor [batch, rows / stride, columns / stride, filters] with mirror padding; smaller without padding.
        """
        self.count += 1
        with tf.variable_scope(f"layer_{self.count}"):
            shape = [kernel, kernel, maps.shape.as_list()[-1], filters]
            weights = tf.get_variable("kernel", shape, tf.float32, tf.constant_initializer(self._initial_kernel(shape)))
            if self.network.padding == "mirror":
                # A dilated kernel spans dilation * (kernel - 1) + 1 cells. This padding leaves rows / stride outputs.
                total = dilation * (kernel - 1) + 1 - stride
                before_after = [total // 2, total - total // 2]
                maps = tf.pad(maps, [[0, 0], before_after, before_after, [0, 0]], "REFLECT")
            maps = tf.nn.convolution(
                maps, weights, padding="VALID", strides=[stride, stride], dilation_rate=[dilation, dilation]
            )
            maps = _batch_norm(maps, self.training)
        return tf.nn.relu(maps) if relu else maps

    def _initial_kernel(self, shape: List[int]) -> np.ndarray:
        """Return normally distributed float32 weights that depend only on the seed and the layer's name.

        NumPy draws them, because the generators of TensorFlow differ between its versions.
        """
        inputs = np.prod(shape[:3])
        stddev = self.network.kernel_stddev or np.sqrt(2.0 / inputs)
        # CRC-32 is stable between processes, unlike Python's hash of a string.
        random = np.random.RandomState([self.seed, zlib.crc32(tf.get_variable_scope().name.encode())])
        return (stddev * random.standard_normal(shape)).astype(np.float32)


# Layer stacks ------------------------------------------------------------------------------------------------------


def _paper(layer: LayerBuilder, maps: Any, landmarks: int) -> Any:
    """Build the network of Thewlis et al. 2017, section 4: six layers of 20-48-64-80-256-K filters, one pooling.

    Padding keeps landmarks near the border within reach. The last layer has no ReLU: it would clip the scores below
    batch norm's mean to zero, and the softmax could not tell these cells apart.
    """
    maps = _max_pool(layer(maps, 5, 20))  # cells of 2 x 2 pixels from here on
    for filters in (48, 64, 80, 256):
        maps = layer(maps, 5, filters)
    return layer(maps, 5, landmarks, relu=False)


def _reference(layer: LayerBuilder, maps: Any, landmarks: int) -> Any:
    """Build the detector of alldbi and of the ModelZoo port (`CNN_tower`): VALID, with a ReLU before the softmax.

    Every layer matches theirs; with 8 landmarks there are 794,452 parameters. A view of 128 pixels gives 42 x 42 cells,
    whose centers lie 22.5 pixels or more from the edges.
    """
    maps = _max_pool(layer(maps, 5, 20))
    for filters in (48, 64, 80, 256, landmarks):
        maps = layer(maps, 5, filters)
    return maps


def _compact(layer: LayerBuilder, maps: Any, landmarks: int) -> Any:
    """Build a network for CPUs: maps of a quarter of the view's side, a receptive field of 57 pixels.

    Two strided layers first, as the cost of a convolution is proportional to the number of cells. Dilation then widens
    the receptive field without further loss of resolution.
    """
    maps = layer(maps, 6, 20, stride=2)  # 1/2 of the view's side
    maps = layer(maps, 4, 48, stride=2)  # 1/4
    maps = layer(maps, 3, 64)
    maps = layer(maps, 3, 80, dilation=2)
    maps = layer(maps, 3, 128, dilation=2)
    # A 1x1 layer: each cell weighs the features that the layers before it computed.
    return layer(maps, 1, landmarks, relu=False)


def _fine(layer: LayerBuilder, maps: Any, landmarks: int) -> Any:
    """Build `_compact` with maps of half the view's side: it costs a third more and halves the cell size.

    The coarse maps have seen enough of the object to tell which landmark is where. They are enlarged and joined with the
    fine maps of the first layer, which tell its exact place.
    """
    fine = layer(maps, 6, 20, stride=2)
    coarse = layer(fine, 4, 48, stride=2)
    coarse = layer(coarse, 3, 64)
    coarse = layer(coarse, 3, 80, dilation=2)
    coarse = layer(coarse, 3, 128, dilation=2)
    # 32 channels before the enlargement: the next kernels cost four times as much per channel.
    coarse = layer(coarse, 1, 32)
    maps = layer(tf.concat([_enlarge(coarse), fine], axis=-1), 3, 32)
    return layer(maps, 1, landmarks, relu=False)


def _deep(layer: LayerBuilder, maps: Any, landmarks: int) -> Any:
    """Build a network for accelerators: maps of a quarter of the view's side, a receptive field of 189 pixels.

    Residual blocks (He et al., "Deep residual learning for image recognition", CVPR 2016) at three scales. The coarse
    scales are enlarged and added to the finer ones step by step, as in a feature pyramid.
    """
    maps = layer(layer(maps, 6, 32, stride=2), 4, 64, stride=2)
    scales: List[Any] = []  # maps of 1/4, 1/8 and 1/16 of the view's side
    for filters in (64, 128, 192):
        if scales:
            maps = layer(maps, 4, filters, stride=2)
        for _ in range(2):
            # The ReLU follows the sum, so that a block can subtract from its input.
            maps = tf.nn.relu(maps + layer(layer(maps, 3, filters), 3, filters, relu=False))
        scales.append(maps)
    for fine in (scales[1], scales[0]):
        # A 1x1 layer before the enlargement gives the coarse maps the finer ones' number of channels.
        filters = fine.shape.as_list()[-1]
        coarse = _enlarge(layer(maps, 1, filters, relu=False))
        maps = tf.nn.relu(layer(fine, 1, filters, relu=False) + coarse)
        maps = layer(maps, 3, filters)
    return layer(maps, 1, landmarks, relu=False)


def _enlarge(maps: Any) -> Any:
    """Repeat every cell twice in each direction. Interpolation would cost more, and a convolution follows anyway."""
    side = maps.shape.as_list()[1]
    return tf.image.resize_nearest_neighbor(maps, [2 * side, 2 * side])


def _max_pool(maps: Any) -> Any:
    """Return the maximum of every 2 x 2 cells."""
    return tf.nn.max_pool(maps, [1, 2, 2, 1], [1, 2, 2, 1], "VALID")


NETWORKS: Dict[str, Network] = {
    "paper": Network(_paper, reduction=2, multiple=2, margin=0, padding="mirror", kernel_stddev=0.02),
    # A 5x5 VALID layer cuts off 2 cells on each side: 2 pixels before the pooling, 5 times 4 pixels after it.
    "reference": Network(_reference, reduction=2, multiple=1, margin=22, padding="none", kernel_stddev=0.02),
    "compact": Network(_compact, reduction=4, multiple=4, margin=0, padding="mirror", kernel_stddev=0.0),
    "fine": Network(_fine, reduction=2, multiple=4, margin=0, padding="mirror", kernel_stddev=0.0),
    "deep": Network(_deep, reduction=4, multiple=16, margin=0, padding="mirror", kernel_stddev=0.0),
}


# Use of a network --------------------------------------------------------------------------------------------------


def get_network(name: str) -> Network:
    """Return the network with this name.

    Raises:
      ConfigError: no network has this name.
    """
    if name not in NETWORKS:
        names = ", ".join(NETWORKS)
        raise ConfigError(f"network.name must be one of {names}, got {name!r}")
    return NETWORKS[name]


def cell_centers(name: str, view: int) -> np.ndarray:
    """Return where the cells of a score map lie along one side of the view: the centers of their receptive fields.

    Args:
      name: a network of `NETWORKS`.
      view: width and height of the view in pixels.

    Returns:
      [cells] float64 in (-1, 1). For a padded network exactly `geometry.centers(cells)`.

    Raises:
      ConfigError: the network does not accept a view of that size.
    """
    network = get_network(name)
    if view % network.multiple:
        raise ConfigError(f"network.view must be a multiple of {network.multiple} for network {name!r}, got {view}")
    count = (view - 2 * network.margin) // network.reduction
    if count < 2:
        raise ConfigError(f"network.view ({view} pixels) is too small for network {name!r}")
    # The center of cell i is at pixel margin + reduction * (i + 1/2), counted from the outer edge of the view.
    return 2.0 * (network.margin + network.reduction * (np.arange(count) + 0.5)) / view - 1.0


def score_maps(name: str, images: Any, landmarks: int, training: bool, seed: int = 0) -> Any:
    """Build a network in the current graph. Call it once per graph: it creates variables and does not reuse any.

    Args:
      name: a network of `NETWORKS`.
      images: float32 tensor [batch, view, view, 3] in [-1, 1].
      landmarks: K.
      training: normalize by the statistics of the batch (see `batch_norm_statistics`); otherwise by their averages.
      seed: seed of the initial kernels, which are the same on every TensorFlow version.

    Returns:
      float32 tensor [batch, cells, cells, K] of scores; their softmax over the cells is the heatmap.
    """
    network = get_network(name)
    return network.build(LayerBuilder(network, training, seed), images, landmarks)


def kernels() -> List[Any]:
    """Return the convolution kernels of the current graph. Weight decay acts on these and not on batch norm."""
    return [variable for variable in tf.trainable_variables() if variable.op.name.endswith("/kernel")]


def variables() -> List[Any]:
    """Return all variables of the network: trained ones, then batch norm's moving averages."""
    averages = [variable for variable in tf.global_variables() if variable.op.name.endswith(("/mean", "/variance"))]
    return [*tf.trainable_variables(), *averages]


# Batch norm --------------------------------------------------------------------------------------------------------


def batch_norm_statistics() -> Tuple[List[Any], List[Any]]:
    """Return batch norm's moving averages in the current graph, and the batch's statistics that they follow."""
    pairs = tf.get_collection(_STATISTICS)
    return [average for average, _ in pairs], [statistic for _, statistic in pairs]


def batch_norm_updates(averages: List[Any], statistics: List[Any]) -> Any:
    """Return the operation that moves the averages a step toward the statistics.

    It is separate from the layers, because several ranks average the statistics of their shares of the batch first.
    """
    steps = [
        tf.assign_sub(average, (1.0 - _BATCH_NORM_DECAY) * (average - statistic))
        for average, statistic in zip(averages, statistics)
    ]
    return tf.group(*steps)


def _batch_norm(maps: Any, training: bool) -> Any:
    """Normalize each channel of [batch, rows, columns, channels] maps (Ioffe and Szegedy 2015)."""
    channels = maps.shape.as_list()[-1:]
    scale = tf.get_variable("scale", channels, tf.float32, tf.ones_initializer())
    offset = tf.get_variable("offset", channels, tf.float32, tf.zeros_initializer())
    mean = tf.get_variable("mean", channels, tf.float32, tf.zeros_initializer(), trainable=False)
    variance = tf.get_variable("variance", channels, tf.float32, tf.ones_initializer(), trainable=False)
    if not training:
        normalized, _, _ = tf.nn.fused_batch_norm(
            maps, scale, offset, mean, variance, epsilon=_BATCH_NORM_EPSILON, is_training=False
        )
        return normalized
    # All views of a batch share their statistics: one network runs on all of them, not one tower per view.
    normalized, batch_mean, batch_variance = tf.nn.fused_batch_norm(maps, scale, offset, epsilon=_BATCH_NORM_EPSILON)
    for average, statistic in ((mean, batch_mean), (variance, batch_variance)):
        tf.add_to_collection(_STATISTICS, (average, statistic))
    return normalized
