"""NVIDIA GPUs, through TensorFlow's own support."""

from typing import Any

from fse.config import Config
from fse.devices.cpu import Cpu
from fse.distributed.ranks import Rank
from fse.errors import DeviceError
from fse.tf1 import tf

# Of a loss scale that is found while training: TensorFlow's own defaults.
_FIRST_SCALE, _STEPS_BEFORE_DOUBLING = 2.0**15, 2000


def find(config: Config, rank: Rank) -> "Gpu":
    """The GPU that is visible to this process, for one rank.

    Raises:
      DeviceError: TensorFlow sees no GPU.
    """
    if not tf.test.is_gpu_available():
        raise DeviceError(
            f"train.device is 'gpu', but TensorFlow {tf.__version__} sees none; install the package's gpu extra and the NVIDIA driver, "
            "or choose --set train.device=cpu"
        )
    return Gpu(config, rank)


class Gpu(Cpu):
    """A GPU. Ranks average through the host's memory, as processors do."""

    def session_config(self) -> Any:
        """How sessions are set up: graphics memory is taken as it is needed."""
        train = self.config.train
        options = tf.GPUOptions(allow_growth=True)
        config = tf.ConfigProto(
            intra_op_parallelizm_threads=train.threads, allow_soft_placement=True, gpu_options=options
        )
        if train.mixed_precision == "on":
            # TensorFlow lowers what is safe in half precision, by its own lists, softmax and sums not among it.
            rewrite = config.graph_options.rewrite_options
            rewrite.auto_mixed_precision = type(rewrite).ON
        return self._group.configure(config)

    def wrap_optimizer(self, optimizer: Any) -> Any:
        """Averages gradients over the ranks, within TensorFlow's loss scaling."""
        optimizer = super().wrap_optimizer(optimizer)
        train = self.config.train
        if train.mixed_precision != "on":
            return optimizer
        experimental = tf.train.experimental
        if train.loss_scale:
            scale = experimental.FixedLossScale(train.loss_scale)
        else:
            scale = experimental.DynamicLossScale(_FIRST_SCALE, _STEPS_BEFORE_DOUBLING)
        self.loss_scale = scale()
        return experimental.MixedPrecisionLossScaleOptimizer(optimizer, scale)
