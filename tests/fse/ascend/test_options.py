"""The rules between the NPU's options, as the configuration checks them."""

import re
from typing import Any, Dict

import pytest

from fse import config
from fse.errors import ConfigError


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"precision_mod": "force_fp32"}, "did you mean npu.precision_mode?"),
        ({"enable_dump": 1}, "npu.enable_dump must be true or false"),
        ({"deterministic": True}, "npu.deterministic must be an integer"),
        ({"profiling_mode": "true"}, "npu.profiling_mode must be true or false"),
        ({"precision_mode": "allow_mixed_precision"}, "did you mean allow_mix_precision?"),
        ({"precision_mode": "force_fp32", "precision_mode_v2": "fp16"}, "exclude each other"),
        ({"modify_mixlist": "nowhere.json"}, "npu.modify_mixlist: nowhere.json: no such file"),
        ({"modify_mixlist": "x", "precision_mode": "force_fp32"}, "needs mixed precision, got 'force_fp32'"),
        ({"enable_dump": True}, "dump_path must be an existing folder"),
        ({"iterations_per_loop": 10}, "needs npu.enable_data_pre_proc"),
        ({"iterations_per_loop": 7, "enable_data_pre_proc": True}, "save_freq must be a multiple"),
        ({"profiling_options": "{"}, "must be JSON"),
        ({"optypelist_for_implmode": "Gelu"}, "needs npu.op_select_implmode"),
        ({"iterations_per_loop": 10, "mix_compile_mode": True}, "npu.mix_compile_mode exclude each other"),
        ({"enable_dump": True, "enable_dump_debug": True}, "npu.enable_dump_debug exclude each other"),
        ({"dump_step": "3 to 5"}, "must list steps as '0|5|10' or '3-5', got '3 to 5'"),
    ],
)
def test_options_that_npu_bridge_would_ignore_are_refused(options: Dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        config.from_tables({"train": {"device": "npu"}, "npu": options})


def test_hccl_has_a_shortest_timeout() -> None:
    with pytest.raises(ConfigError, match="train.connect_timeout must be at least 120 seconds on an NPU .*, got 60"):
        config.from_tables({"train": {"device": "npu", "connect_timeout": 60}})


def test_the_rules_are_for_npus_only() -> None:
    settings = config.from_tables({"train": {"connect_timeout": 60}, "npu": {"iterations_per_loop": 10}})
    assert settings.npu.iterations_per_loop == 10


@pytest.mark.parametrize(
    "options",
    [
        {"modify_mixlist": __file__},
        {"modify_mixlist": __file__, "precision_mode_v2": "mixed_float16"},
        {"iterations_per_loop": 10, "enable_data_pre_proc": True},
        {"dump_step": "0|5|10"},
        {"profiling_options": '{"output": "/tmp"}'},
    ],
)
def test_valid_options_are_accepted(options: Dict[str, Any]) -> None:
    settings = config.from_tables({"train": {"device": "npu"}, "npu": options})
    assert {name: getattr(settings.npu, name) for name in options} == options
