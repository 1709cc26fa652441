"""The contract of Huawei ModelZoo's test scripts: options in, `Final …` lines and `${CaseName}.log` out.

`scripts/train_{full,performance}_{1p,8p}.sh` are this module. It runs `luigi --module pipeline` as a person would and
reads what the training wrote; the nightly writes this log of each of its runs too. Units, which ModelZoo leaves open:
BatchSize in images a step over all cards; speed in images a second over all cards, without the first line of
`losses.csv`, in which the graph is compiled; TrainingTime in milliseconds a step; E2ETrainingTime in seconds;
TrainAccuracy the share of test images with an error below 10 % of the inter-ocular distance.
"""

import argparse
import csv
import json
import os
import platform
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Optional, Tuple

from fse import config as configuration
from fse.datasets import images
from fse.errors import ConfigError, FseError, StageError
from fse.runtime import processes

NETWORK = "Factorized_ID1301_for_TensorFlow"

# Folders in which ModelZoo's users keep the images below --data_path, the port's own first; else they lie in it.
FOLDERS = ("data10w", "images", "img_align_celeba")

# The scripts, what ModelZoo calls their cases, and their experiments without the number of cards.
KINDS = {"full": "acc", "performance": "perf"}
EXPERIMENTS = {"full": "celeba", "performance": "performance"}

PACKED = "stages/ConvertTFRecord/records.json"

# The switches that an NPU alone has: what each sets in [npu]. FOLDER is one of the switch's name in the output folder.
FOLDER = "FOLDER"
SWITCHES: Dict[str, Dict[str, Any]] = {
    "profiling": {
        "profiling_mode": True,
        "profiling_options": '{"output": "FOLDER", "training_trace": "on", "fp_point": "", "bp_point": ""}',
    },
    "over_dump": {"enable_dump_debug": True, "dump_debug_mode": "all", "dump_path": FOLDER},
    "data_dump_flag": {"enable_dump": True, "dump_mode": "all", "dump_path": FOLDER},
    # Of operators, as the auto-tuning that AOE took the place of.
    "autotune": {"aoe_mode": "2", "work_path": FOLDER},
}

# ModelZoo's own value.
DUMP_STEP = "10"

# What --precision_mode means as train.mixed_precision where there is no NPU, as far as it can be had.
PRECISIONS = {"allow_mix_precision": "on", "force_fp32": "off", "must_keep_origin_dtype": "off"}


# The lines of `losses.csv`.
Losses = List[Dict[str, float]]


class Result(NamedTuple):
    """What a case comes to.

    batch_size: images a step, over all ranks. kind: acc (full) or perf (performance).
    fps: images a second, over all ranks. loss: the last loss_align. seconds: from the first command to the last, None if
    it is not known.
    accuracy: in [0, 1], None if it was not measured.
    """

    ranks: int
    batch_size: int
    kind: str
    fps: float
    loss: float
    seconds: Optional[float]
    accuracy: Optional[float] = None


def read(trained: Path, kind: str, seconds: Optional[float], metrics: Optional[Path]) -> Tuple[Result, Losses]:
    """What a finished training comes to, and the lines of its `losses.csv`.

    Args:
      trained: the folder that `fse train` wrote.
      kind: acc or perf.
      seconds: from the first command to the last, None if it is not known.
      metrics: an evaluation's `metrics.json`; None if there was none.
    """
    with open(str(trained / "losses.csv"), newline="") as stream:
        rows = [{key: float(value) for key, value in row.items()} for row in csv.DictReader(stream)]
    summary = json.loads((trained / "training.json").read_text())
    batch, accuracy = summary["batch_size"], _accuracy(metrics) if metrics else None
    return Result(summary["ranks"], batch, kind, speed(rows, batch), rows[-1]["loss_align"], seconds, accuracy), rows


def case_name(result: Result) -> str:
    """`<network>_bs<batch>_<ranks>p_<acc or perf>`."""
    return f"{NETWORK}_bs{result.batch_size}_{result.ranks}p_{result.kind}"


def case_log(result: Result) -> str:
    """The contents of `${CaseName}.log`: `Key = value`, in ModelZoo's order; what was not measured is left out."""
    values: Dict[str, Any] = {
        "Network": NETWORK,
        "RankSize": result.ranks,
        "BatchSize": result.batch_size,
        "DeviceType": platform.machine(),
        "CaseName": case_name(result),
        "ActualFPS": f"{result.fps:.2f}",
        "TrainingTime": f"{1000.0 * result.batch_size / result.fps:.3f}",
        "TrainAccuracy": result.accuracy,
        "ActualLoss": result.loss,
        "E2ETrainingTime": None if result.seconds is None else round(result.seconds),
    }
    return "".join(f"{key} = {value}\n" for key, value in values.items() if value is not None)


def write_case_log(folder: Path, result: Result, rows: Losses) -> Path:
    """Writes `<CaseName>.log` and `<CaseName>_loss.txt`, every logged loss_align on a line. Returns the log's path."""
    folder.mkdir(parents=True, exist_ok=True)
    name = case_name(result)
    (folder / (name + "_loss.txt")).write_text("".join("{}\n".format(row["loss_align"]) for row in rows))
    (folder / (name + ".log")).write_text(case_log(result))
    return folder / (name + ".log")


def final_lines(result: Result, rows: Losses, progress: str) -> str:
    """What is printed at the end: ModelZoo's lines and the port's own.

    Args:
      result: what the case came to.
      rows: the lines of `losses.csv`.
      progress: the last `progress …` line that training printed.
    """
    accuracy = "not measured" if result.accuracy is None else result.accuracy
    lines = [
        "------------------ Final result ------------------",
        f"Final Performance images/sec : {result.fps:.2f}",
        f"Final Performance sec/step : {result.batch_size / result.fps:.5f}",
        f"Final Train Accuracy : {accuracy}",
        "E2E Training Duration sec : {}".format("unknown" if result.seconds is None else round(result.seconds)),
        progress,
    ]
    lines += [f"{name} {rows[-1][name]}" for name in ("loss_align", "loss_diversity", "loss_decay")]
    return "\n".join(lines)


def speed(rows: Losses, batch_size: int) -> float:
    """Images a second in `losses.csv` without its first line, if there are more."""
    first = rows[0] if len(rows) > 1 else dict.fromkeys(rows[0], 0.0)
    return (rows[-1]["step"] - first["step"]) * batch_size / max(rows[-1]["seconds"] - first["seconds"], 1e-9)


def main(arguments: Optional[List[str]] = None) -> int:
    """`python -m fse.compat.modelzoo full|performance 1p|8p --data_path=… …`.

    Returns the exit code: 0 only if all went well, Luigi's if a stage failed, 1 for anything else.
    """
    options = _parser().parse_args(arguments)
    try:
        _run(options)
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
    parser = argparse.ArgumentParser(prog="train_{full,performance}_{1p,8p}.sh", allow_abbrev=False, epilog=_units())
    parser.add_argument("kind", choices=tuple(KINDS), help=argparse.SUPPRESS)
    parser.add_argument("cards", choices=("1p", "8p"), help=argparse.SUPPRESS)
    parser.add_argument(
        "--data_path", type=Path, help="folder of the images, or one with {}".format(" or ".join(FOLDERS))
    )
    parser.add_argument("--output_path", type=Path, help="default: output/$ASCEND_DEVICE_ID")
    parser.add_argument("--batch_size", type=int, help="images a step, over all cards")
    parser.add_argument("--train_steps", type=int, help="number of steps; overrides the epochs")
    parser.add_argument("--train_epochs", type=int, help="passes over the images")
    parser.add_argument("--learning_rate", type=float, help="Adam's step size")
    parser.add_argument("--precision_mode", help="npu.precision_mode; elsewhere " + ", ".join(PRECISIONS))
    parser.add_argument("--profiling", default="False", help="True: profile to profiling in the output folder (npu)")
    parser.add_argument("--over_dump", default="False", help="True: overflowing operators to over_dump there (npu)")
    parser.add_argument("--data_dump_flag", default="False", help="True: operators' data to data_dump_flag there (npu)")
    parser.add_argument("--data_dump_step", help=f"whose data: 5, 0|5|10 or 3-5 (default: {DUMP_STEP})")
    parser.add_argument("--autotune", default="False", help="True: AOE tunes operators, work in autotune there (npu)")
    parser.add_argument("--device", choices=("npu", "gpu", "cpu"), default=os.environ.get("FSE_DEVICE") or "npu")
    parser.add_argument(
        "--config", help="experiment; default: celeba_1p or celeba_8p, performance_1p or performance_8p"
    )
    parser.add_argument("--set", default="", metavar="KEY=VALUE,…", help="settings that override the experiment's")
    parser.add_argument("--obs_url", help="accepted and not used: nothing is copied to object storage")
    return parser


def _units() -> str:
    return " ".join((__doc__ or "").split("\n\n")[1].split())


def _run(options: argparse.Namespace) -> None:
    name = options.config or f"{EXPERIMENTS[options.kind]}_{options.cards}"
    card = os.environ.get("ASCEND_DEVICE_ID") or "0"
    output = (options.output_path or Path("output") / card).absolute()
    changes = _changes(options)
    device = configuration.load(name, _joined(changes, options.set)).train.device
    changes.update(_device_changes(options, device, output))
    text = _joined(changes, options.set)
    output.mkdir(parents=True, exist_ok=True)
    settings = configuration.load(name, text)
    workspace = output / "workspace"
    common = ["--config", str(configuration.find_file(name).absolute()), "--set", text, "--workspace", str(workspace)]
    for stale in [*output.glob(NETWORK + "_*"), *output.glob("train_*.log")]:
        stale.unlink()
    began, started = time.monotonic(), time.time()
    trained = workspace / settings.experiment.name / "stages" / "Train"
    with open(str(output / f"train_{card}.log"), "wb") as log:
        try:
            _luigi(["Train", "--force", *common], log)
        except StageError:
            log.write(_said(workspace, trained, output, card, started))
            raise
        said = _said(workspace, trained, output, card, started)
        log.write(said)
        _keep(output, trained / "checkpoints")
        packed = json.loads((workspace / settings.experiment.name / PACKED).read_text())["images"]
        measured = options.kind == "full" and (packed["test"] > 0 or configuration.evaluates_other_data(settings))
        if options.kind == "full":
            _luigi(["FullRun" if measured else "Export", *common], log)
    metrics = workspace / settings.experiment.name / "metrics.json" if measured else None
    result, rows = read(trained, KINDS[options.kind], time.monotonic() - began, metrics)
    progress = [line for line in said.decode(errors="replace").splitlines() if line.startswith("progress ")]
    print(final_lines(result, rows, progress[-1] if progress else ""), flush=True)
    print(f"log: {write_case_log(output, result, rows)}")


def _changes(options: argparse.Namespace) -> Dict[str, Any]:
    """The settings that the options mean on every device."""
    if options.data_path is None:
        raise ConfigError('para "data_path" must be config')
    data = options.data_path.absolute()
    if not data.is_dir():
        raise ConfigError(f"--data_path {data}: no such folder")
    inside = next((name for name in FOLDERS if (data / name).is_dir()), ".")
    if not images.list_images(data / inside):
        raise ConfigError(f"--data_path {data / inside}: no images there")
    values: Dict[str, Any] = {
        "dataset.archive": str(data),
        "dataset.images": inside,
        "train.device": options.device,
        "train.batch_size": options.batch_size,
        "train.steps": options.train_steps,
        "train.epochs": options.train_epochs,
        "train.learning_rate": options.learning_rate,
    }
    if options.train_epochs and not options.train_steps:
        values["train.steps"] = 0
    table = os.environ.get("RANK_TABLE_FILE")
    if table and options.cards == "8p" and options.device == "npu":
        values["train.rank_table"] = str(Path(table).absolute())
    return {key: value for key, value in values.items() if value is not None}


def _device_changes(options: argparse.Namespace, device: str, output: Path) -> Dict[str, Any]:
    """The settings that the other options mean on this device; makes the folders in `output` that they need.

    Raises:
      ConfigError: names the option, if the device cannot do what it asks for.
    """
    values: Dict[str, Any] = {}
    mode = options.precision_mode
    if mode and device == "npu":
        values["npu.precision_mode"] = mode
    elif mode and mode not in PRECISIONS:
        raise ConfigError(
            "--precision_mode={}: train.device {!r} can only do {}".format(mode, device, ", ".join(PRECISIONS))
        )
    elif mode:
        values["train.mixed_precision"] = PRECISIONS[mode]
    on = [name for name in SWITCHES if _is_on(name, getattr(options, name))]
    if on and device != "npu":
        raise ConfigError(f"--{on[0]}=True: only an NPU does that, and train.device is {device!r}")
    for name in on:
        folder = output / name
        folder.mkdir(parents=True, exist_ok=True)
        for key, value in SWITCHES[name].items():
            values["npu." + key] = value.replace(FOLDER, str(folder)) if isinstance(value, str) else value
    if "data_dump_flag" in on:
        values["npu.dump_step"] = options.data_dump_step or DUMP_STEP
    elif options.data_dump_step:
        message = "--data_dump_step={}: nothing is dumped without --data_dump_flag=True"
        print(message.format(options.data_dump_step), file=sys.stderr)
    return values


def _is_on(name: str, value: str) -> bool:
    if value.lower() not in ("true", "false"):
        raise ConfigError(f"--{name}={value}: wanted True or False")
    return value.lower() == "true"


def _joined(changes: Dict[str, Any], more: str) -> str:
    """Settings as for `--set`; what `more` says is last, and wins."""
    pairs = [f"{key}={json.dumps(value, ensure_ascii=False)}" for key, value in changes.items()]
    return ",".join([*pairs, more] if more else pairs)


def _luigi(arguments: List[str], log: Any) -> None:
    """Runs `luigi --module pipeline …`; what it says goes to our standard error and to the log."""
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


def _said(workspace: Path, trained: Path, output: Path, card: str, started: float) -> bytes:
    """What the training said: its log, or that of the rank on `card` where ranks have their own.

    Copies the logs of the other ranks to `output`. Leaves alone what was written before `started`, a time as of
    `time.time()`: of a training that this run never came to.
    """
    folder, said = trained.resolve(), b""
    # While it was not whole, the output was beside its place.
    logs = sorted(folder.with_name(folder.name + ".building").glob("logs/train_*.log")) or sorted(
        folder.glob("logs/train_*.log")
    )
    for log in [workspace / "logs" / f"train-{folder.name}.log", *logs]:
        if not log.exists() or log.stat().st_mtime < started:
            continue
        if log in logs and log.name != f"train_{card}.log":
            shutil.copyfile(str(log), str(output / log.name))
        else:
            said = log.read_bytes()
    return said


def _keep(output: Path, checkpoints: Path) -> None:
    """Copies the checkpoints to `ckpt`, where ModelZoo's users look for them."""
    shutil.rmtree(str(output / "ckpt"), ignore_errors=True)
    shutil.copytree(str(checkpoints), str(output / "ckpt"))


def _accuracy(path: Path) -> Optional[float]:
    """The share of test images that are not failures, in an evaluation's `metrics.json`."""
    missed = json.loads(path.read_text()).get("failure_rate_10")
    return None if missed is None else round(1.0 - missed, 4)


if __name__ == "__main__":
    sys.exit(main())
