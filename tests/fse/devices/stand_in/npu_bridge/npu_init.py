"""The module whose import patches tf.Session."""

import os
import sys
from typing import Any, Set, Tuple

from fse.tf1 import tf
from npu_bridge import ranks

_COMPILED = "The model has been compiled on the Ascend AI processor, current graph id is: {}"
_init, _run = tf.Session.__init__, tf.Session.run
_compiled: Set[Tuple[Any, ...]] = set()

# Operations of a dataset, which run on the host.
_HOST = ("Iterator", "IteratorV2", "IteratorGetNext", "MakeIterator")


def _patched_init(self: Any, target: Any = "", graph: Any = None, config: Any = None) -> None:
    config = config or tf.ConfigProto()
    names = [optimizer.name for optimizer in config.graph_options.rewrite_options.custom_optimizers]
    if "NpuOptimizer" not in names:  # a session that was not made for NPUs
        config.graph_options.rewrite_options.custom_optimizers.add().name = "NpuOptimizer"
        config.graph_options.rewrite_options.memory_optimization = 1
    rewrite = config.graph_options.rewrite_options
    if rewrite.remapping != type(rewrite).OFF or rewrite.memory_optimization != type(rewrite).NO_MEM_OPT:
        raise RuntimeError("stand-in: remapping and memory_optimization must be off")
    self._uses_npu = rewrite.custom_optimizers[0].parameter_map["use_off_line"].b
    # Stock TensorFlow does not know the optimizer; current releases raise an error.
    del rewrite.custom_optimizers[:]
    _init(self, ranks.target(), graph, ranks.configure(config))


def _patched_run(self: Any, fetches: Any, feed_dict: Any = None, options: Any = None, run_metadata: Any = None) -> Any:
    self._check = True
    wanted = [each for each in _flat(fetches) if isinstance(each, (tf.Tensor, tf.Operation))]
    operations = _ancestors([each if isinstance(each, tf.Operation) else each.op for each in wanted])
    kinds = {operation.type for operation in operations}
    if "MakeIterator" in kinds and kinds & {"Assign", "IteratorGetNext"}:
        raise RuntimeError(
            "stand-in: an iterator is initialized in the same run as other work, so nothing would run on the device"
        )
    for operation in operations if "IteratorGetNext" in kinds else []:
        _check(operation)
    key = (id(self.graph), tuple(sorted(each.name for each in wanted)))
    if self._uses_npu and key not in _compiled and "SaveV2" not in kinds and os.environ.get("STAND_IN_ON_HOST") != "1":
        _compiled.add(key)
        if os.environ.get("TF_CPP_MIN_LOG_LEVEL") == "0":
            print("2026-01-01 00:00:00.000000: I", _COMPILED.format(len(_compiled)), file=sys.stderr, flush=True)
    return _run(self, fetches, feed_dict, options, run_metadata)


def _check(operation: Any) -> None:
    if operation.type in _HOST or operation.type.startswith("Collective"):
        return
    # The last outputs of batch normalization are scratch space for its gradient.
    for tensor in operation.outputs[:3] if "BatchNorm" in operation.type else operation.outputs:
        if tensor.dtype.base_dtype == tf.float64 or not tensor.shape.is_fully_defined():
            raise RuntimeError(f"stand-in: float64 or an unknown shape: {tensor}")


def _flat(fetches: Any) -> Any:
    if isinstance(fetches, dict):
        fetches = list(fetches.values())
    if isinstance(fetches, (list, tuple)):
        return [leaf for fetch in fetches for leaf in _flat(fetch)]
    return [fetches]


def _ancestors(waiting: Any) -> Any:
    seen = set()
    while waiting:
        operation = waiting.pop()
        if operation not in seen:
            seen.add(operation)
            waiting += [tensor.op for tensor in operation.inputs] + list(operation.control_inputs)
    return seen


tf.Session.__init__ = _patched_init
tf.Session.run = _patched_run
