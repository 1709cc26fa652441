"""NVIDIA GPUs, through TensorFlow's own support."""

from typing import Any

from fse.errors import DeviceError
from fse.tf1 import tf


def session_config(threads: int) -> Any:
    """A configuration that takes graphics memory as it needs it.

    Raises:
      DeviceError: TensorFlow sees no GPU.
    """
    if not tf.test.is_gpu_available():
        raise DeviceError(
            "train.device is 'gpu', but TensorFlow {} sees none; install the package's gpu extra and the NVIDIA driver, "
            "or choose --set train.device=cpu".format(tf.__version__)
        )
    options = tf.GPUOptions(allow_growth=True)
    return tf.ConfigProto(intra_op_parallelism_threads=threads, allow_soft_placement=True, gpu_options=options)
