"""The NPU device without an NPU: its configuration, its graphs, and a run through the stand-in for npu_bridge."""

import dataclasses
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict, List, Set

import pytest

from fse import config, devices, errors
from fse.devices import npu
from fse.errors import ConfigError, DeviceBusyError, DeviceError
from fse.inference import export
from fse.inputs import records
from fse.runtime import outputs
from fse.tf1 import tf
from fse.training import train
from tests import ascend_host
from tests.fse.trainings import changed, stored

ROOT = Path(__file__).resolve().parents[3]
STAND_IN = Path(__file__).parent / "stand_in"

# Types of operations behind Python functions of the TF Adapter's support list for TensorFlow 1.15 (documentation of CANN,
# apiref/support-list-tf-1-15.md) that this project's graphs use, and those that stand for no computing.
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
        # ConcatOffset, of the gradient of tf.concat: concat_offset_plugin.cc of CANN's TensorFlow plugins.
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


def problems(operations: List[Any]) -> List[str]:
    """What an NPU could not compile among all that these operations depend on; the input pipeline is the host's."""
    waiting, seen, found = list(operations), set(), []
    while waiting:
        operation = waiting.pop()
        if operation in seen or operation.type.startswith("Iterator"):
            continue
        seen.add(operation)
        waiting.extend([tensor.op for tensor in operation.inputs] + list(operation.control_inputs))
        if operation.type not in TYPES:
            found.append(f"{operation.name}: {operation.type}")
        # Batch norm's last outputs are scratch space between it and its gradient.
        for tensor in operation.outputs[:3] if "BatchNorm" in operation.type else operation.outputs:
            if tensor.dtype.base_dtype == tf.float64 or not tensor.shape.is_fully_defined():
                found.append(str(tensor))
    return found


NETWORKS = [("compact", 16), ("fine", 16), ("paper", 20), ("reference", 80), ("deep", 32)]


def experiment_of(tiny: config.Config, name: str, view: int) -> config.Config:
    return dataclasses.replace(
        tiny,
        network=dataclasses.replace(tiny.network, name=name, view=view),
        train=dataclasses.replace(tiny.train, ema_decay=0.9, warmup=2, schedule="cosine", clip_norm=1.0),
        loss=dataclasses.replace(tiny.loss, diversity_window=3),
    )


@pytest.mark.parametrize(("name", "view"), NETWORKS)
def test_the_training_graph_is_what_an_npu_compiles(tiny: config.Config, shards: Path, name: str, view: int) -> None:
    settings = experiment_of(tiny, name, view)
    with tf.Graph().as_default():
        graph = train.build(settings, records.read(shards), 6, devices.find(settings))
        assert problems([graph.update, *(tensor.op for tensor in [*graph.losses, graph.rate])]) == []


@pytest.mark.parametrize(("name", "view"), NETWORKS)
def test_the_evaluation_graph_is_what_an_npu_compiles(tiny: config.Config, name: str, view: int) -> None:
    """Its batch is given when it is compiled; variables are constants then."""
    with tf.Graph().as_default() as graph:
        inference = export.build(experiment_of(tiny, name, view))
        definition = graph.as_graph_def()
    with tf.Graph().as_default():
        images = tf.placeholder(tf.uint8, [8, view, view, 3])
        names = [tensor.name for tensor in inference[1:]]
        found = tf.import_graph_def(definition, {inference.images.name: images}, names)
        assert problems([tensor.op for tensor in found]) == []


def parameters(settings: config.Config) -> Dict[str, Any]:
    """The options of NpuOptimizer, as Python values."""
    optimizers = npu.session_config(settings.train, settings.npu).graph_options.rewrite_options.custom_optimizers
    assert [optimizer.name for optimizer in optimizers] == ["NpuOptimizer"]
    values = optimizers[0].parameter_map
    return {name: getattr(value, value.WhichOneof("value")) for name, value in values.items()}


def with_options(train: Any = None, **options: Any) -> config.Config:
    return config.from_tables({"train": dict({"device": "npu"}, **(train or {})), "npu": options})


def test_the_session_says_all_that_the_manual_asks_for() -> None:
    made = npu.session_config(with_options({"threads": 3}).train, config.Npu())
    rewrite = made.graph_options.rewrite_options
    assert (rewrite.remapping, rewrite.memory_optimization) == (type(rewrite).OFF, type(rewrite).NO_MEM_OPT)
    for name in ("function_optimization", "constant_folding", "shape_optimization", "arithmetic_optimization"):
        assert getattr(rewrite, name) == type(rewrite).DEFAULT
    assert not rewrite.disable_model_pruning
    assert made.allow_soft_placement
    assert made.graph_options.optimizer_options.global_jit_level == tf.OptimizerOptions.OFF
    assert made.intra_op_parallelizm_threads == 3


def test_only_what_is_chosen_is_set() -> None:
    assert parameters(with_options()) == {
        "use_off_line": True,
        "precision_mode": b"allow_mix_precision",
        "iterations_per_loop": 1,
        "enable_data_pre_proc": False,
        "mix_compile_mode": False,
        "hcom_parallel": True,
        "graph_run_mode": 1,
        "profiling_mode": False,
        "enable_dump": False,
        "enable_dump_debug": False,
    }


def test_every_option_has_its_name_and_type(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("{}")
    for item in dataclasses.fields(config.Npu):
        value: Any = {bool: not item.default, int: 2 if item.metadata["high"] != 1 else 1}.get(type(item.default))
        if value is None:
            value = [*item.metadata["choices"], "", str(tmp_path / "file")][1 if item.metadata["choices"] else -1]
        made = npu.session_config(config.Train(device="npu"), config.Npu(**{item.name: value}))
        option = made.graph_options.rewrite_options.custom_optimizers[0].parameter_map[item.name]
        kind = option.WhichOneof("value")
        assert kind == {bool: "b", int: "i", str: "s"}[type(item.default)], item.name
        assert getattr(option, kind) == (value.encode() if isinstance(value, str) else value)


def test_precision_follows_the_switch_unless_it_is_named() -> None:
    assert parameters(with_options({"mixed_precision": "off"}))["precision_mode"] == b"allow_fp32_to_fp16"
    assert parameters(with_options(precision_mode="force_fp32"))["precision_mode"] == b"force_fp32"
    second = parameters(with_options(precision_mode_v2="mixed_float16"))
    assert second["precision_mode_v2"] == b"mixed_float16"
    assert "precision_mode" not in second


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"precision_mod": "force_fp32"}, "did you mean npu.precision_mode?"),
        ({"enable_dump": 1}, "npu.enable_dump wants true or false"),
        ({"deterministic": True}, "npu.deterministic wants a whole number"),
        ({"profiling_mode": "true"}, "npu.profiling_mode wants true or false"),
        ({"precision_mode": "allow_mixed_precision"}, "did you mean allow_mix_precision?"),
        ({"precision_mode": "force_fp32", "precision_mode_v2": "fp16"}, "exclude each other"),
        ({"modify_mixlist": "nowhere.json"}, "npu.modify_mixlist: nowhere.json: no such file"),
        ({"modify_mixlist": "x", "precision_mode": "force_fp32"}, "needs mixed precision, got 'force_fp32'"),
        ({"enable_dump": True}, "dump_path must be an existing folder"),
        ({"iterations_per_loop": 10}, "needs npu.enable_data_pre_proc"),
        ({"iterations_per_loop": 7, "enable_data_pre_proc": True}, "save_freq must be a multiple"),
        ({"profiling_options": "{"}, "must be JSON"),
        ({"optypelist_for_implmode": "Gelu"}, "needs npu.op_select_implmode"),
    ],
)
def test_options_that_npu_bridge_would_ignore_are_errors(options: Dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message.replace("?", "\\?")):
        with_options(**options)


def test_a_card_in_use_or_missing_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(STAND_IN))
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    npu.check(["7"])  # nobody knows
    ascend_host.npu_smi(tmp_path, ascend_host.USED)
    npu.check(["0", "3"])
    with pytest.raises(DeviceBusyError, match=r"card 2 is in use by python3.7 \(4242\), as npu-smi says; wait for it"):
        npu.check(["0", "2"])
    with pytest.raises(DeviceError, match="training wants card 5, but npu-smi shows 4 cards; choose from 0 to 3"):
        npu.check(["5"])


def test_the_page_lists_what_nobody_has_run() -> None:
    page = (ROOT / "docs" / "ascend.md").read_text()
    listed = " ".join(page.partition("## What no one has run on hardware")[2].split())
    for item in npu.UNVERIFIED:
        assert f"- {item}" in listed, item


def fse(folder: Path, settings: config.Config, shards: Path, **environment: str) -> "subprocess.CompletedProcess[str]":
    """`fse train` on the stand-in."""
    outputs.write_json(folder / "experiment.json", config.as_tables(settings))
    return subprocess.run(
        [sys.executable, "-m", "fse", "train", "--config", str(folder / "experiment.json"), "--records", str(shards)]
        + ["--output", str(folder / "out")],
        env=dict(os.environ, PYTHONPATH=f"{STAND_IN}:{ROOT}", PYTHONWARNINGS="", **environment),
        capture_output=True,
        text=True,
        timeout=300,
    )


def on_npu(tiny: config.Config, **train: Any) -> config.Config:
    return dataclasses.replace(tiny, train=dataclasses.replace(tiny.train, device="npu", threads=1, **train))


AVERAGED = {"ema_decay": 0.9, "clip_norm": 5.0}
OVERFLOWS = {"STAND_IN_OVERFLOWS": "4,5", "ASCEND_DEVICE_ID": "3"}


@pytest.fixture(scope="module")
def overflowed(tiny: config.Config, shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run two steps of which overflowed, and in `said` its standard error."""
    folder = tmp_path_factory.mktemp("overflowed")
    done = fse(folder, on_npu(tiny, **AVERAGED), shards, **OVERFLOWS)
    assert done.returncode == 0, done.stderr
    (folder / "said").write_text(done.stderr)
    return folder


def test_an_npu_run_with_overflows(tiny: config.Config, shards: Path, overflowed: Path) -> None:
    said, out = (overflowed / "said").read_text(), overflowed / "out"
    assert "loss scale 2.14748e+09, 2 of 6 steps skipped" in said
    assert "compiled on the Ascend" not in said  # it is in the log
    assert "compiled on the Ascend" in (out / "logs" / "train_3.log").read_text()
    summary = json.loads((out / "training.json").read_text())
    assert (summary["device"], summary["loss_scale"], summary["skipped_steps"]) == ("npu", 2.0**31, 2)
    with tf.Graph().as_default():
        plain = train.build(changed(tiny, **AVERAGED), records.read(shards), 6, devices.find(tiny))
        assert set(stored(out)) == set(plain.stored)
    assert stored(out)["global_step"] == 4


def test_a_resumed_run_goes_on_with_the_loss_scale(
    tiny: config.Config, shards: Path, overflowed: Path, tmp_path: Path
) -> None:
    """Two bad steps halve it, one before the interruption and one after; elsewhere the checkpoints do without it."""
    whole, folder = stored(overflowed / "out"), overflowed / "out" / "checkpoints"
    scaling = {path.name: json.loads(path.read_text()) for path in folder.glob("*.scaling.json")}
    assert {name: (each["loss_scale"], each["bad_steps"]) for name, each in scaling.items()} == {
        "model-2.scaling.json": (2.0**32, 0),
        "model-4.scaling.json": (2.0**32, 1),
        "model-6.scaling.json": (2.0**31, 0),
    }

    for run in ("out.building", "cpu"):
        shutil.copytree(str(overflowed / "out"), str(tmp_path / run))
        for file in (tmp_path / run / "checkpoints").glob("model-6.*"):
            file.unlink()
    done = fse(tmp_path, on_npu(tiny, **AVERAGED), shards, **OVERFLOWS)
    assert done.returncode == 0, done.stderr
    again, file = stored(tmp_path / "out"), tmp_path / "out" / "checkpoints" / "model-6.scaling.json"
    assert all((again[name] == whole[name]).all() for name in whole)
    assert json.loads(file.read_text()) == scaling["model-6.scaling.json"]

    train.train(changed(tiny, **AVERAGED), shards, tmp_path / "cpu")
    left = {path.name for path in (tmp_path / "cpu" / "checkpoints").glob("*.scaling.json")}
    assert left == {"model-2.scaling.json", "model-4.scaling.json"}


def test_a_run_that_was_not_compiled_for_the_npu_fails(tiny: config.Config, shards: Path, tmp_path: Path) -> None:
    done = fse(tmp_path, on_npu(tiny, loss_scale=1024.0), shards, STAND_IN_ON_HOST="1")
    assert done.returncode == errors.NOT_USED, done.stderr
    assert (
        "error: train.device is 'npu', but the log of rank 0 does not say that a step was compiled for it"
        in done.stderr
    )
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_two_npus_train_what_two_ranks_of_the_processor_do(tiny: config.Config, shards: Path, tmp_path: Path) -> None:
    device = [{"device_id": str(card), "device_ip": f"127.0.0.{card + 1}", "rank_id": str(card)} for card in range(2)]
    table = {"status": "completed", "version": "1.0", "server_count": "1"}
    table["server_list"] = [{"server_id": "node_0", "device": device}]  # type: ignore[assignment]
    (tmp_path / "table.json").write_text(json.dumps(table))
    done = fse(tmp_path, on_npu(tiny, rank_table=str(tmp_path / "table.json"), loss_scale=1024.0), shards)
    assert done.returncode == 0, done.stderr
    # The same settings go on from its fourth step on the processor, with one rank.
    for card in range(2):
        assert "compiled on the Ascend" in (tmp_path / "out" / "logs" / f"train_{card}.log").read_text()
    for file in (tmp_path / "out" / "checkpoints").glob("model-6.*"):
        file.unlink()
    train.train(tiny, shards, tmp_path / "out")
    assert json.loads((tmp_path / "out" / "training.json").read_text())["device"] == "cpu"
