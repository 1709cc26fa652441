"""Huawei Ascend, through npu_bridge. Not run on hardware yet: built to the TF Adapter's documentation."""

import importlib
from typing import Any

from fse.errors import DeviceError
from fse.tf1 import tf


def session_config(threads: int) -> Any:
    """A configuration whose graphs are compiled for the NPU.

    Raises:
      DeviceError: npu_bridge is not installed.
    """
    try:
        # Importing it patches tf.Session, so it happens here and only when an NPU was asked for.
        importlib.import_module("npu_bridge.npu_init")
    except ImportError as error:
        raise DeviceError(
            "train.device is 'npu', but npu_bridge cannot be imported ({}); install CANN's TF Adapter for TensorFlow 1.15 "
            "and source its set_env.sh, or choose --set train.device=cpu".format(error)
        ) from None
    return npu_options(threads)


def npu_options(threads: int) -> Any:
    """The NpuOptimizer entry and the rewriter settings that the TF Adapter's manual asks for. Needs no npu_bridge."""
    config = tf.ConfigProto(intra_op_parallelism_threads=threads, allow_soft_placement=True)
    config.graph_options.optimizer_options.global_jit_level = tf.OptimizerOptions.OFF
    rewrite = config.graph_options.rewrite_options
    rewrite.remapping = type(rewrite).OFF
    rewrite.memory_optimization = type(rewrite).NO_MEM_OPT
    options = rewrite.custom_optimizers.add()
    options.name = "NpuOptimizer"
    options.parameter_map["use_off_line"].b = True
    options.parameter_map["precision_mode"].s = b"allow_mix_precision"
    return config
