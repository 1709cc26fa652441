"""NVIDIA GPUs, through TensorFlow's own support."""

from typing import Any

from fse.config import Config
from fse.devices.cpu import Cpu
from fse.distributed.ranks import Rank
from fse.errors import DeviceError
from fse.tf1 import tf

# TensorFlow's defaults for dynamic loss scaling.
_INITIAL_LOSS_SCALE, _STEPS_BEFORE_DOUBLING = 2.0**15, 2000


def find(config: Config, rank: Rank) -> "Gpu":
    """Return the GPU that is visible to this process, for one rank.

    Raises:
      DeviceError: TensorFlow finds no GPU.
    """
    if not tf.test.is_gpu_available():
        raise DeviceError(
            f"train.device is 'gpu', but TensorFlow {tf.__version__} finds none; install the package's gpu extra and the "
            "NVIDIA driver, or choose --set train.device=cpu"
        )
    return Gpu(config, rank)


class Gpu(Cpu):
    """A GPU. The collective operations between ranks run in the host's memory, as those of CPUs do."""

    def session_config(self) -> Any:
        """Return the `tf.ConfigProto` of sessions, which allocate the GPU's memory as needed."""
        train = self.config.train
        config = tf.ConfigProto(
            intra_op_parallelism_threads=train.threads,
            allow_soft_placement=True,
            gpu_options=tf.GPUOptions(allow_growth=True),
        )
        if train.mixed_precision == "on":
            # TensorFlow lowers the operations that its lists call safe to float16; softmax and sums are not among them.
            rewrite = config.graph_options.rewrite_options
            rewrite.auto_mixed_precision = type(rewrite).ON
        return self._group.configure(config)

    def wrap_optimizer(self, optimizer: Any) -> Any:
        """Return an optimizer that averages gradients over the ranks, inside TensorFlow's loss scaling."""
        optimizer = super().wrap_optimizer(optimizer)
        train = self.config.train
        if train.mixed_precision != "on":
            return optimizer
        experimental = tf.train.experimental
        if train.loss_scale:
            scale = experimental.FixedLossScale(train.loss_scale)
        else:
            scale = experimental.DynamicLossScale(_INITIAL_LOSS_SCALE, _STEPS_BEFORE_DOUBLING)
        self.loss_scale = scale()
        return experimental.MixedPrecisionLossScaleOptimizer(optimizer, scale)
