"""Session options of Ascend's TF Adapter: one table of the options and one table of the rules between them.

The configuration builds the section `[npu]` from `OPTIONS` (`fse.config.schema.Npu`) and checks `RULES`
(`fse.config.checks`). The device passes the values to the session (`fse.devices.npu`). Names, types and permitted values
are those of the TF Adapter's manual for TensorFlow 1.15.

npu_bridge silently ignores an option with a wrong name or type, and reports a wrong combination only after it has compiled
for minutes. For that reason the configuration refuses both.
"""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Iterator, Optional, Tuple, Union

# Values that leave an option to the TF Adapter's own default: the session configuration then omits the option.
UNSET = ("", -1)

# Timeouts in seconds must not exceed a day.
_DAY = 86_400

# HCCL's shortest time to wait for other ranks, in seconds.
_MIN_CONNECT_TIMEOUT = 120


@dataclass(frozen=True)
class Option:
    """One session option. The type of `default` is the type of the option: bool, int or str."""

    name: str  # npu_bridge's own name
    default: Union[bool, int, str]  # one of `UNSET` leaves the option to the TF Adapter
    help: str  # one sentence for the reference
    low: Optional[int] = None  # smallest permitted number; None if unlimited
    high: Optional[int] = None  # largest permitted number; None if unlimited
    choices: Tuple[str, ...] = ()  # permitted strings; empty permits any
    names_file: bool = False  # whether the value is the path of a file that must exist


# The order is that of the reference page.
OPTIONS: Tuple[Option, ...] = (
    # Precision.
    Option(
        "precision_mode",
        "",
        "precision of the operators; '' follows train.mixed_precision",
        choices=(
            "",
            "allow_mix_precision",
            "allow_mix_precision_fp16",
            "allow_fp32_to_fp16",
            "force_fp32",
            "force_fp16",
            "cube_fp16in_fp32out",
            "must_keep_origin_dtype",
        ),
    ),
    Option(
        "precision_mode_v2",
        "",
        "newer form of precision_mode, set instead of it",
        choices=("", "fp16", "origin", "cube_fp16in_fp32out", "mixed_float16"),
    ),
    Option(
        "modify_mixlist",
        "",
        "JSON file that lists the operators mixed precision does and does not lower to half precision",
        names_file=True,
    ),
    Option("customize_dtypes", "", "file with the data types of single operators", names_file=True),
    Option("op_precision_mode", "", "INI file with the precision mode of single operators", names_file=True),
    Option(
        "op_select_implmode",
        "",
        "whether operators use their precise or their fast kernels",
        choices=("", "high_precision", "high_performance", "high_precision_for_all", "high_performance_for_all"),
    ),
    Option("optypelist_for_implmode", "", "comma-separated types of the operators that op_select_implmode applies to"),
    Option("deterministic", -1, "1 selects deterministic kernels, which are slower", -1, 1),
    # The training loop.
    Option("iterations_per_loop", 1, "training steps per call of the device", 1, 10_000),
    Option(
        "enable_data_pre_proc",
        False,
        "whether the device fetches its input itself, which several steps per call require",
    ),
    Option("mix_compile_mode", False, "whether operators that the device does not support run on the host"),
    Option("hcom_parallel", True, "whether ranks average gradients while the device computes the remaining ones"),
    Option("graph_run_mode", 1, "1 for training, 0 for inference", 0, 1),
    # The compiler.
    Option("op_debug_level", -1, "debug level of the operator compiler; values above 0 disable its cache", -1, 4),
    Option("fusion_switch_file", "", "JSON file that lists the graph fusions to disable", names_file=True),
    Option(
        "op_compiler_cache_mode",
        "",
        "use of the operator compiler's cache",
        choices=("", "enable", "force", "disable"),
    ),
    Option("op_compiler_cache_dir", "", "folder of the operator compiler's cache"),
    # Tuning by AOE.
    Option(
        "aoe_mode",
        "",
        "what AOE tunes: 1 is subgraphs, 2 is operators, 4 is the splitting of gradients",
        choices=("", "1", "2", "4"),
    ),
    Option("work_path", "", "folder for AOE's working files"),
    Option("aoe_config_file", "", "JSON file with AOE's settings", names_file=True),
    # Profiles and dumps.
    Option("profiling_mode", False, "whether to record a profile"),
    Option("profiling_options", "", "what the profile records, as a JSON object"),
    Option("enable_dump", False, "whether to write the inputs and outputs of operators to dump_path"),
    Option("dump_path", "", "existing folder for dumps"),
    Option("dump_step", "", "steps to dump, as '0|5|10' or '3-5'; '' is all"),
    Option("dump_mode", "", "which tensors to dump", choices=("", "input", "output", "all")),
    Option("enable_dump_debug", False, "whether to write operators that overflow to dump_path"),
    Option("dump_debug_mode", "", "which overflows to dump", choices=("", "aicore_overflow", "atomic_overflow", "all")),
    Option(
        "enable_exception_dump",
        -1,
        "kind of dump that is written when an operator fails, as the TF Adapter's manual numbers them",
        -1,
        2,
    ),
    # Timeouts.
    Option("hccl_timeout", -1, "time in seconds that ranks wait for each other within a step", -1, _DAY),
    Option("op_wait_timeout", -1, "time in seconds that an operator may wait for its input", -1, _DAY),
    Option("op_execute_timeout", -1, "time in seconds that an operator may run", -1, _DAY),
    # Placement.
    Option("stream_max_parallel_num", "", "number of parallel streams per engine, as 'engine:number,engine:number'"),
    Option("variable_placement", "", "where variables are stored", choices=("", "Device", "Host")),
)


def default_precision_mode(mixed_precision: str) -> str:
    """Return the precision mode for a value of `train.mixed_precision`, where no option names one.

    Convolutions run in half precision in both cases, as a 910 has no other kernels for them.
    """
    return "allow_fp32_to_fp16" if mixed_precision == "off" else "allow_mix_precision"


@dataclass(frozen=True)
class Rule:
    """A condition that the sections `[npu]` and `[train]` must meet when training on an NPU."""

    holds: Callable[[Any, Any], bool]  # of the two sections, in this order
    # What is wrong if it does not hold: a template of `npu`, `train` and `precision`, the precision mode in effect.
    message: str


def violated(npu: Any, train: Any) -> Iterator[str]:
    """Yield the message of every rule that the sections `[npu]` and `[train]` violate.

    Args:
      npu: an object with an attribute for each of `OPTIONS`.
      train: the section `[train]`.
    """
    for rule in RULES:
        if not rule.holds(npu, train):
            yield rule.message.format(npu=npu, train=train, precision=_precision(npu, train))
    for option in OPTIONS:
        value = getattr(npu, option.name)
        if option.names_file and value and not Path(value).is_file():
            yield f"npu.{option.name}: {value}: no such file"


def _precision(npu: Any, train: Any) -> str:
    """Return the precision mode in effect, by its older or its newer name."""
    return str(npu.precision_mode_v2 or npu.precision_mode or default_precision_mode(train.mixed_precision))


def _lists_fit_the_precision(npu: Any, train: Any) -> bool:
    return not npu.modify_mixlist or _precision(npu, train).startswith(("allow_mix_precision", "mixed_float16"))


def _folder_for_dumps_exists(npu: Any, train: Any) -> bool:
    return not (npu.enable_dump or npu.enable_dump_debug) or bool(npu.dump_path and Path(npu.dump_path).is_dir())


def _profiling_options_are_json(npu: Any, train: Any) -> bool:
    try:
        json.loads(npu.profiling_options or "{}")
    except ValueError:
        return False
    return True


_MULTIPLE = "train.{0} must be a multiple of npu.iterations_per_loop ({{npu.iterations_per_loop}}), got {{train.{0}}}"

RULES: Tuple[Rule, ...] = (
    Rule(
        lambda npu, train: not (npu.precision_mode and npu.precision_mode_v2),
        "npu.precision_mode and npu.precision_mode_v2 exclude each other; set at most one of them",
    ),
    Rule(_lists_fit_the_precision, "npu.modify_mixlist needs mixed precision, got {precision!r}"),
    Rule(
        lambda npu, train: not npu.optypelist_for_implmode or bool(npu.op_select_implmode),
        "npu.optypelist_for_implmode needs npu.op_select_implmode",
    ),
    Rule(
        lambda npu, train: npu.iterations_per_loop == 1 or not npu.mix_compile_mode,
        "npu.iterations_per_loop above 1 and npu.mix_compile_mode exclude each other; set at most one of them",
    ),
    Rule(
        lambda npu, train: npu.iterations_per_loop == 1 or npu.enable_data_pre_proc,
        "npu.iterations_per_loop above 1 needs npu.enable_data_pre_proc = true",
    ),
    Rule(lambda npu, train: train.steps % npu.iterations_per_loop == 0, _MULTIPLE.format("steps")),
    Rule(lambda npu, train: train.summary_freq % npu.iterations_per_loop == 0, _MULTIPLE.format("summary_freq")),
    Rule(lambda npu, train: train.save_freq % npu.iterations_per_loop == 0, _MULTIPLE.format("save_freq")),
    Rule(
        _folder_for_dumps_exists,
        "npu.dump_path must be an existing folder when dumps are enabled, got {npu.dump_path!r}",
    ),
    Rule(
        lambda npu, train: not (npu.enable_dump and npu.enable_dump_debug),
        "npu.enable_dump and npu.enable_dump_debug exclude each other; set at most one of them",
    ),
    Rule(
        lambda npu, train: not npu.dump_step or re.match(r"\d+([|-]\d+)*\Z", npu.dump_step) is not None,
        "npu.dump_step must list steps as '0|5|10' or '3-5', got {npu.dump_step!r}",
    ),
    Rule(_profiling_options_are_json, "npu.profiling_options must be JSON, got {npu.profiling_options!r}"),
    Rule(
        lambda npu, train: train.connect_timeout >= _MIN_CONNECT_TIMEOUT,
        f"train.connect_timeout must be at least {_MIN_CONNECT_TIMEOUT} seconds on an NPU (a limit of HCCL), "
        "got {train.connect_timeout}",
    ),
)
