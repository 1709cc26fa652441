"""Distributed training. The wrapper is documented to patch an optimizer in place and return it."""

from typing import Any

from fse.tf1 import tf
from npu_bridge import ranks


def npu_distributed_optimizer_wrapper(optimizer: Any) -> Any:
    if ranks.job() > 1:
        if getattr(optimizer, "_wrapped", False):
            raise RuntimeError("stand-in: the optimizer is wrapped twice")
        optimizer._wrapped, compute = True, optimizer.compute_gradients

        def compute_gradients(*arguments: Any, **options: Any) -> Any:
            gradients, variables = zip(*compute(*arguments, **options))
            return list(zip(npu_allreduce(list(gradients)), variables))

        optimizer.compute_gradients = compute_gradients
    return optimizer


def npu_allreduce(
    values: Any, reduction: Any = "mean", fusion: Any = 1, fusion_id: Any = -1, group: Any = "hccl_world_group"
) -> Any:
    if reduction != "mean":
        raise RuntimeError("stand-in: only means are supported")
    listed = values if isinstance(values, list) else [values]
    for value in listed:
        if value.op.type == "VariableV2" or value.dtype.base_dtype != tf.float32:
            raise RuntimeError(f"stand-in: an all-reduce takes float32 tensors that are not variables, got {value}")
    means = ranks.group.average(listed)
    return means if isinstance(values, list) else means[0]
