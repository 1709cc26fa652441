"""The graphs of training and evaluation against the list of operations that an NPU supports."""

import dataclasses
from pathlib import Path
from typing import Any, Dict, List, Set

import pytest

from fse import config, devices
from fse.inference import export
from fse.inputs import records
from fse.tf1 import tf
from fse.training.graph import build_graph

# Types of operations that the TF Adapter supports, as far as this project's graphs use them, by the Python functions in its
# support list for TensorFlow 1.15 (documentation of CANN, apiref/support-list-tf-1-15.md).
ALLOWED: Dict[str, str] = {
    "tf.Variable, tf.assign, tf.constant, tf.placeholder, tf.identity, tf.group, tf.stop_gradient": (
        "VariableV2 Assign AssignAdd AssignSub Const Placeholder Identity NoOp StopGradient"
    ),
    "tf.add_n, tf.add, tf.subtract, tf.multiply, tf.realdiv, tf.negative, tf.square, tf.cos, tf.sqrt, tf.pow": (
        "AddN AddV2 Add Sub Mul RealDiv Neg Square Cos Sqrt Pow"
    ),
    "tf.minimum, tf.maximum, tf.equal, tf.floormod, tf.cast": "Minimum Maximum Equal FloorMod Cast",
    "tf.reduce_sum, tf.reduce_mean, tf.reduce_max": "Sum Mean Max",
    "tf.concat, tf.split, tf.stack, tf.unstack, tf.reshape, tf.slice, tf.strided_slice, tf.tile, tf.transpose, tf.pad": (
        # ConcatOffset belongs to the gradient of tf.concat: concat_offset_plugin.cc of CANN's TensorFlow plugins.
        "ConcatV2 ConcatOffset Split SplitV Pack Unpack Reshape Slice StridedSlice Tile Transpose Pad MirrorPad MirrorPadGrad"
    ),
    "tf.shape_n, tf.range, tf.fill, tf.invert_permutation, tf.dynamic_stitch": (
        "Shape ShapeN Range Fill InvertPermutation DynamicStitch"
    ),
    "tf.matmul": "MatMul",
    "tf.nn.convolution": "Conv2D Conv2DBackpropFilter Conv2DBackpropInput SpaceToBatchND BatchToSpaceND",
    "tf.nn.fused_batch_norm": "FusedBatchNormV3 FusedBatchNormGradV3",
    "tf.nn.relu, tf.nn.softmax, tf.nn.l2_loss": "Relu ReluGrad Softmax L2Loss",
    "tf.nn.avg_pool, tf.nn.max_pool": "AvgPool AvgPoolGrad MaxPool MaxPoolGrad",
    "tf.image.resize_nearest_neighbor": "ResizeNearestNeighbor ResizeNearestNeighborGrad",
    "tf.train.AdamOptimizer": "ApplyAdam",
}
TYPES: Set[str] = {name for names in ALLOWED.values() for name in names.split()}


def unsupported_parts(operations: List[Any]) -> List[str]:
    """Return what an NPU does not support among the operations and their inputs; the input pipeline runs on the host."""
    waiting, seen, unsupported = list(operations), set(), []
    while waiting:
        operation = waiting.pop()
        if operation in seen or operation.type.startswith("Iterator"):
            continue
        seen.add(operation)
        waiting.extend([tensor.op for tensor in operation.inputs] + list(operation.control_inputs))
        if operation.type not in TYPES:
            unsupported.append(f"{operation.name}: {operation.type}")
        # The last outputs of batch normalization are scratch space for its gradient.
        for tensor in operation.outputs[:3] if "BatchNorm" in operation.type else operation.outputs:
            if tensor.dtype.base_dtype == tf.float64 or not tensor.shape.is_fully_defined():
                unsupported.append(str(tensor))
    return unsupported


NETWORKS = [("compact", 16), ("fine", 16), ("paper", 20), ("reference", 80), ("deep", 32)]


def with_network(tiny: config.Config, name: str, view: int) -> config.Config:
    return dataclasses.replace(
        tiny,
        network=dataclasses.replace(tiny.network, name=name, view=view),
        train=dataclasses.replace(tiny.train, ema_decay=0.9, warmup=2, schedule="cosine", clip_norm=1.0),
        loss=dataclasses.replace(tiny.loss, diversity_window=3),
    )


@pytest.mark.parametrize(("name", "view"), NETWORKS)
def test_an_npu_supports_the_training_graph(tiny: config.Config, shards: Path, name: str, view: int) -> None:
    settings = with_network(tiny, name, view)
    with tf.Graph().as_default():
        graph = build_graph(settings, records.read(shards), 6, devices.find(settings))
        assert unsupported_parts([graph.update, *(tensor.op for tensor in [*graph.losses, graph.learning_rate])]) == []


@pytest.mark.parametrize(("name", "view"), NETWORKS)
def test_an_npu_supports_the_evaluation_graph(tiny: config.Config, name: str, view: int) -> None:
    """When the graph is compiled, its batch size is fixed and its variables are constants."""
    with tf.Graph().as_default() as graph:
        inference = export.build(with_network(tiny, name, view))
        definition = graph.as_graph_def()
    with tf.Graph().as_default():
        images = tf.placeholder(tf.uint8, [8, view, view, 3])
        names = [tensor.name for tensor in inference[1:]]
        outputs = tf.import_graph_def(definition, {inference.images.name: images}, names)
        assert unsupported_parts([tensor.op for tensor in outputs]) == []
