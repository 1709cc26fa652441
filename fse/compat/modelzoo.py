"""The command line of Huawei ModelZoo's test scripts `train_{full,performance}_{1p,8p}.sh`.

`scripts/` has scripts with these names that call this module. It runs `luigi --module pipeline` as a user would, and then
prints and writes the results as ModelZoo's scripts do (see `fse.compat.case_log`).
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Dict, List, Optional

from fse import config as configuration
from fse.compat import case_log
from fse.config import Config
from fse.datasets import images
from fse.errors import ConfigError, FseError, StageError
from fse.runtime import processes
from fse.runtime.outputs import building_folder

# Folders in which ModelZoo's users keep the images below --data_path, the port's own first. Without one of them, the
# images are in --data_path itself.
FOLDERS = ("data10w", "images", "img_align_celeba")

# By script: the name of its cases, and its experiment without the number of cards.
KINDS = {"full": "acc", "performance": "perf"}
EXPERIMENTS = {"full": "celeba", "performance": "performance"}

PACKED = "stages/ConvertTFRecord/records.json"

# The switches that only an NPU has, and the settings of [npu] that each sets. FOLDER stands for a folder with the name of
# the switch in the output folder.
FOLDER = "FOLDER"
SWITCHES: Dict[str, Dict[str, Any]] = {
    "profiling": {
        "profiling_mode": True,
        "profiling_options": '{"output": "FOLDER", "training_trace": "on", "fp_point": "", "bp_point": ""}',
    },
    "over_dump": {"enable_dump_debug": True, "dump_debug_mode": "all", "dump_path": FOLDER},
    "data_dump_flag": {"enable_dump": True, "dump_mode": "all", "dump_path": FOLDER},
    # AOE tunes operators, as the auto-tuning that it replaced did.
    "autotune": {"aoe_mode": "2", "work_path": FOLDER},
}

# The step that ModelZoo's scripts dump.
DUMP_STEP = "10"

# The values of --precision_mode that CPU and GPU support, as train.mixed_precision.
PRECISIONS = {"allow_mix_precision": "on", "force_fp32": "off", "must_keep_origin_dtype": "off"}


@dataclass(frozen=True)
class _Run:
    """A run of a script."""

    kind: str  # full or performance
    settings: Config  # the experiment with the settings that the options set
    card: str  # the number of the first card
    output: Path  # folder of logs, checkpoints and the workspace
    luigi_options: List[str]  # options of every Luigi command

    @property
    def workspace(self) -> Path:
        return self.output / "workspace"

    @property
    def experiment(self) -> Path:
        """The folder of the experiment's results."""
        return self.workspace / self.settings.experiment.name

    @property
    def trained(self) -> Path:
        """The link to the output of Train."""
        return self.experiment / "stages" / "Train"


def main(arguments: Optional[List[str]] = None) -> int:
    """Run `python -m fse.compat.modelzoo full|performance 1p|8p --data_path=… …`.

    Returns:
      The exit code: 0 for success, Luigi's exit code if a stage failed, 1 for any other error.
    """
    options = _parser().parse_args(arguments)
    try:
        _train_and_report(_prepare(options))
    except StageError as error:
        print(f"[Error] {error}", file=sys.stderr)
        return max(1, error.code)
    except FseError as error:
        print(f"[Error] {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"[Error] {error.filename}: {error.strerror}", file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="train_{full,performance}_{1p,8p}.sh", allow_abbrev=False, epilog=case_log.UNITS
    )
    add = parser.add_argument
    add("kind", choices=tuple(KINDS), help=argparse.SUPPRESS)
    add("cards", choices=("1p", "8p"), help=argparse.SUPPRESS)
    add("--data_path", type=Path, help=f"folder of the images, or a folder with {' or '.join(FOLDERS)}")
    add("--output_path", type=Path, help="default: output/$ASCEND_DEVICE_ID")
    add("--batch_size", type=int, help="images per step, over all cards")
    add("--train_steps", type=int, help="number of steps; overrides the epochs")
    add("--train_epochs", type=int, help="passes over the images")
    add("--learning_rate", type=float, help="Adam's step size")
    add("--precision_mode", help=f"npu.precision_mode; on other devices {', '.join(PRECISIONS)}")
    add("--profiling", default="False", help="True: write a profile to profiling in the output folder (npu)")
    add("--over_dump", default="False", help="True: dump overflowing operators to over_dump there (npu)")
    add("--data_dump_flag", default="False", help="True: dump the operators' data to data_dump_flag there (npu)")
    add("--data_dump_step", help=f"steps to dump: 5, 0|5|10 or 3-5 (default: {DUMP_STEP})")
    add("--autotune", default="False", help="True: AOE tunes operators in the folder autotune there (npu)")
    add("--device", choices=("npu", "gpu", "cpu"), default=os.environ.get("FSE_DEVICE") or "npu")
    add("--config", help="experiment (default: celeba_1p or celeba_8p, performance_1p or performance_8p)")
    add("--set", default="", metavar="KEY=VALUE,…", help="settings that override the experiment's")
    add("--obs_url", help="accepted and not used: nothing is copied to object storage")
    return parser


# Settings -----------------------------------------------------------------------------------------------------------


def _prepare(options: argparse.Namespace) -> _Run:
    """Translate the options into settings, and create the output folder.

    Raises:
      ConfigError: an option is invalid, or the device does not support it.
    """
    name = options.config or f"{EXPERIMENTS[options.kind]}_{options.cards}"
    card = os.environ.get("ASCEND_DEVICE_ID") or "0"
    output = (options.output_path or Path("output") / card).absolute()
    changes = _common_changes(options)
    device = configuration.load(name, _overrides(changes, options.set)).train.device
    changes.update(_device_changes(options, device, output))
    overrides = _overrides(changes, options.set)
    output.mkdir(parents=True, exist_ok=True)
    settings = configuration.load(name, overrides)
    luigi_options = ["--config", str(configuration.find_file(name).absolute()), "--set", overrides]
    luigi_options += ["--workspace", str(output / "workspace")]
    return _Run(options.kind, settings, card, output, luigi_options)


def _common_changes(options: argparse.Namespace) -> Dict[str, Any]:
    """Return the settings that the options set on every device, by name.

    Raises:
      ConfigError: there are no images.
    """
    if options.data_path is None:
        raise ConfigError('para "data_path" must be config')  # ModelZoo's words
    data = options.data_path.absolute()
    if not data.is_dir():
        raise ConfigError(f"--data_path {data}: no such folder")
    inner = next((name for name in FOLDERS if (data / name).is_dir()), ".")
    if not images.list_images(data / inner):
        raise ConfigError(f"--data_path {data / inner}: no images there")
    values: Dict[str, Any] = {
        "dataset.archive": str(data),
        "dataset.images": inner,
        "train.device": options.device,
        "train.batch_size": options.batch_size,
        "train.steps": options.train_steps,
        "train.epochs": options.train_epochs,
        "train.learning_rate": options.learning_rate,
    }
    if options.train_epochs and not options.train_steps:
        values["train.steps"] = 0  # so that the epochs count
    table = os.environ.get("RANK_TABLE_FILE")
    if table and options.cards == "8p" and options.device == "npu":
        values["train.rank_table"] = str(Path(table).absolute())
    return {key: value for key, value in values.items() if value is not None}


def _device_changes(options: argparse.Namespace, device: str, output: Path) -> Dict[str, Any]:
    """Return the settings that the options for devices set, by name, and create the folders that they need in `output`.

    Raises:
      ConfigError: the device does not support an option, which the message names.
    """
    values: Dict[str, Any] = {}
    mode = options.precision_mode
    if mode and device == "npu":
        values["npu.precision_mode"] = mode
    elif mode and mode not in PRECISIONS:
        raise ConfigError(f"--precision_mode={mode}: train.device {device!r} can only do {', '.join(PRECISIONS)}")
    elif mode:
        values["train.mixed_precision"] = PRECISIONS[mode]
    switched_on = [name for name in SWITCHES if _is_true(name, getattr(options, name))]
    if switched_on and device != "npu":
        raise ConfigError(f"--{switched_on[0]}=True: only an NPU does that, and train.device is {device!r}")
    for name in switched_on:
        folder = output / name
        folder.mkdir(parents=True, exist_ok=True)
        for key, value in SWITCHES[name].items():
            values[f"npu.{key}"] = value.replace(FOLDER, str(folder)) if isinstance(value, str) else value
    if "data_dump_flag" in switched_on:
        values["npu.dump_step"] = options.data_dump_step or DUMP_STEP
    elif options.data_dump_step:
        print(
            f"--data_dump_step={options.data_dump_step}: nothing is dumped without --data_dump_flag=True",
            file=sys.stderr,
        )
    return values


def _is_true(name: str, value: str) -> bool:
    if value.lower() not in ("true", "false"):
        raise ConfigError(f"--{name}={value}: wanted True or False")
    return value.lower() == "true"


def _overrides(changes: Dict[str, Any], more: str) -> str:
    """Return settings in the format of `--set`; `more` comes last and therefore wins."""
    pairs = [f"{key}={json.dumps(value, ensure_ascii=False)}" for key, value in changes.items()]
    return ",".join([*pairs, more] if more else pairs)


# The run ------------------------------------------------------------------------------------------------------------


def _train_and_report(run: _Run) -> None:
    """Train, evaluate if the script is a full one, and write and print the results.

    Raises:
      StageError: Luigi failed; its exit code is the error's `code`.
    """
    for stale in [*run.output.glob(f"{case_log.NETWORK}_*"), *run.output.glob("train_*.log")]:
        stale.unlink()
    clock, started = time.monotonic(), time.time()
    with open(run.output / f"train_{run.card}.log", "wb") as log:
        try:
            _luigi(["Train", "--force", *run.luigi_options], log)
        except StageError:
            log.write(_training_output(run, started))
            raise
        training_output = _training_output(run, started)
        log.write(training_output)
        _copy_checkpoints(run)
        metrics = _evaluate(run, log) if run.kind == "full" else None
    result, rows = case_log.read_result(run.trained, KINDS[run.kind], time.monotonic() - clock, metrics)
    lines = training_output.decode(errors="replace").splitlines()
    progress = [line for line in lines if line.startswith("progress ")]
    print(case_log.final_lines(result, rows, progress[-1] if progress else ""), flush=True)
    print(f"log: {case_log.write_case_log(run.output, result, rows)}")


def _evaluate(run: _Run, log: IO[bytes]) -> Optional[Path]:
    """Run the stages after Train. Return the `metrics.json`; None if there are no test images to evaluate on."""
    image_counts = json.loads((run.experiment / PACKED).read_text())["images"]
    can_evaluate = image_counts["test"] > 0 or configuration.evaluates_other_data(run.settings)
    _luigi(["FullRun" if can_evaluate else "Export", *run.luigi_options], log)
    return run.experiment / "metrics.json" if can_evaluate else None


def _luigi(arguments: List[str], log: IO[bytes]) -> None:
    """Run `luigi --module pipeline …`, and copy its output to the log and to standard error.

    Raises:
      StageError: Luigi failed; its exit code is the error's `code`.
    """
    child = subprocess.Popen(
        [sys.executable, "-m", "luigi", "--module", "pipeline", *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        preexec_fn=processes.die_with_parent,
    )
    with child:
        assert child.stdout is not None
        for line in child.stdout:
            log.write(line)
            log.flush()
            sys.stderr.write(line.decode(errors="replace"))
    if child.returncode:
        error = StageError(f"luigi {arguments[0]} ended with exit code {child.returncode}")
        error.code = child.returncode
        raise error


def _training_output(run: _Run, started: float) -> bytes:
    """Return what the training printed: the log of the rank on the first card, or the stage's log without ranks.

    Also copy the logs of the other ranks to the output folder.

    Args:
      run: the run.
      started: when it started, as `time.time()`. Older logs are ignored; they are from an earlier training.
    """
    folder, training_output = run.trained.resolve(), b""
    # Train may have failed before its output was published.
    rank_logs = sorted(building_folder(folder).glob("logs/train_*.log")) or sorted(folder.glob("logs/train_*.log"))
    for log in [run.workspace / "logs" / f"train-{folder.name}.log", *rank_logs]:
        if not log.exists() or log.stat().st_mtime < started:
            continue
        if log in rank_logs and log.name != f"train_{run.card}.log":
            shutil.copyfile(log, run.output / log.name)
        else:
            training_output = log.read_bytes()
    return training_output


def _copy_checkpoints(run: _Run) -> None:
    """Copy the checkpoints to `ckpt`, where ModelZoo's users look for them."""
    shutil.rmtree(run.output / "ckpt", ignore_errors=True)
    shutil.copytree(run.trained / "checkpoints", run.output / "ckpt")


if __name__ == "__main__":
    sys.exit(main())
