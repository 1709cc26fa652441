"""The NPU device without an NPU: its session configuration and the check of cards."""

import dataclasses
from pathlib import Path
from typing import Any, Dict

import pytest

from fse import config
from fse.devices import npu
from fse.errors import DeviceBusyError, DeviceError
from fse.tf1 import tf
from tests import ascend_host

STAND_IN = Path(__file__).parent / "stand_in"


def parameters(settings: config.Config) -> Dict[str, Any]:
    """Return the options of NpuOptimizer as Python values."""
    optimizers = npu.session_config(settings.train, settings.npu).graph_options.rewrite_options.custom_optimizers
    assert [optimizer.name for optimizer in optimizers] == ["NpuOptimizer"]
    values = optimizers[0].parameter_map
    return {name: getattr(value, value.WhichOneof("value")) for name, value in values.items()}


def with_options(train: Any = None, **options: Any) -> config.Config:
    return config.from_tables({"train": dict({"device": "npu"}, **(train or {})), "npu": options})


def test_the_session_sets_what_the_manual_asks_for() -> None:
    session = npu.session_config(with_options({"threads": 3}).train, config.Npu())
    rewrite = session.graph_options.rewrite_options
    assert (rewrite.remapping, rewrite.memory_optimization) == (type(rewrite).OFF, type(rewrite).NO_MEM_OPT)
    for name in ("function_optimization", "constant_folding", "shape_optimization", "arithmetic_optimization"):
        assert getattr(rewrite, name) == type(rewrite).DEFAULT
    assert not rewrite.disable_model_pruning
    assert session.allow_soft_placement
    assert session.graph_options.optimizer_options.global_jit_level == tf.OptimizerOptions.OFF
    assert session.intra_op_parallelism_threads == 3


def test_only_chosen_options_are_set() -> None:
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


def test_every_option_is_set_by_its_name_and_type(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("{}")
    for item in dataclasses.fields(config.Npu):
        value: Any = {bool: not item.default, int: 2 if item.metadata["high"] != 1 else 1}.get(type(item.default))
        if value is None:
            value = [*item.metadata["choices"], "", str(tmp_path / "file")][1 if item.metadata["choices"] else -1]
        session = npu.session_config(config.Train(device="npu"), config.Npu(**{item.name: value}))
        option = session.graph_options.rewrite_options.custom_optimizers[0].parameter_map[item.name]
        kind = option.WhichOneof("value")
        assert kind == {bool: "b", int: "i", str: "s"}[type(item.default)], item.name
        assert getattr(option, kind) == (value.encode() if isinstance(value, str) else value)


def test_the_precision_mode_follows_mixed_precision_by_default() -> None:
    assert parameters(with_options({"mixed_precision": "off"}))["precision_mode"] == b"allow_fp32_to_fp16"
    assert parameters(with_options(precision_mode="force_fp32"))["precision_mode"] == b"force_fp32"
    second = parameters(with_options(precision_mode_v2="mixed_float16"))
    assert second["precision_mode_v2"] == b"mixed_float16"
    assert "precision_mode" not in second


def test_a_card_in_use_or_missing_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(STAND_IN))
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    npu.check(["7"])  # without npu-smi, unknown cards are accepted
    ascend_host.npu_smi(tmp_path, ascend_host.USED)
    npu.check(["0", "3"])
    with pytest.raises(
        DeviceBusyError, match=r"card 2 is in use by python3.7 \(4242\), according to npu-smi; wait for"
    ):
        npu.check(["0", "2"])
    with pytest.raises(DeviceError, match="training wants card 5, but npu-smi shows 4 cards; choose from 0 to 3"):
        npu.check(["5"])
