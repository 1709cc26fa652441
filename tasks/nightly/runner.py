"""The execution of one run: a training and the stages that follow it, in a child `luigi` program.

The metrics come from the outputs and the manifests that the stages publish.
"""

import contextlib
import json
import os
import statistics
import sys
from pathlib import Path
from typing import Any, Dict, Optional

import fse
from fse import config as configuration
from fse.errors import MachineError, StageError
from fse.runtime import integrity
from fse.runtime.files import replace_symlink
from fse.runtime.manifests import read_manifest
from fse.training import loss_table
from tasks import child_process
from tasks.exit_codes import DATA_MISSING, DEVICE_BUSY, DEVICE_UNUSED, MACHINE_FAILED
from tasks.nightly.config import METRICS, RunConfig
from tasks.nightly.night import RunOutcome
from tasks.nightly.verdicts import INFRASTRUCTURE, NO_DATA
from tasks.stages.full_run import FullRun
from tasks.stages.stage_task import StageTask

# The folder of the code. It is a git checkout unless the package was installed.
CODE = Path(fse.__file__).resolve().parents[1]

# Exit codes of `luigi` that mean that the machine failed. 10 and 25 are Luigi's own: another process holds the lock, or
# the scheduler gave the task to another worker.
_MACHINE_CODES = (10, 25, DEVICE_BUSY, MACHINE_FAILED, DEVICE_UNUSED)

_LUIGI = (sys.executable, "-c", "from luigi.cmdline import luigi_run; luigi_run()", "--module", "pipeline")

# The stages whose time and metrics are measured, in their order.
_MEASURED_STAGES = ("Train", "Export", "Evaluate")


def execute(run: RunConfig, overrides: str, workspace: Path, device_wait: int, log: Path, folder: Path) -> RunOutcome:
    """Execute all stages of an experiment in a child `luigi` program, and return the outcome.

    Args:
      run: names the experiment.
      overrides: all settings, in the syntax of `--set`, with the seed and `train.repetition`.
      workspace: absolute path.
      device_wait: seconds to wait for a busy device.
      log: file to append the output of the program to.
      folder: receives ModelZoo's `${CaseName}.log` and a link to each output, which keeps the outputs from Clean.

    Raises:
      OSError: the log or the links cannot be written.
    """
    tasks = FullRun(config=run.config, set=overrides, workspace=str(workspace)).stages()
    inodes_before = {name: _inodes(task.folder) for name, task in tasks.items()}
    arguments = ["Report", "--config", run.config, "--set", overrides, "--workspace", str(workspace)]
    if run.kind == "performance":  # measures these stages, so reusing their outputs would measure nothing
        arguments += ["--Export-force", "--Evaluate-force"]
    try:
        child_process.run([*_LUIGI, *arguments, "--Train-device-wait", str(device_wait)], log)
    except StageError as error:
        return _failure(error)
    manifests = {name: _reread(task).manifest() for name, task in tasks.items()}
    missing = [name for name, manifest in manifests.items() if not manifest]
    if missing:
        return RunOutcome("failed", f"{', '.join(missing)}: output is missing although the program succeeded")
    stages = {}
    for name, manifest in manifests.items():
        inode = _inodes(tasks[name].folder)[manifest["key"]]
        stages[name] = {
            "key": manifest["key"],
            "seconds": manifest["seconds"],
            "reused": name != "Train" and inodes_before[name].get(manifest["key"]) == inode,
            "resumed": manifest["resumed"],
        }
    outputs = {name: tasks[name].folder / manifest["key"] for name, manifest in manifests.items()}
    for name, output in outputs.items():
        replace_symlink(folder / name, output)
    metrics = read_metrics(outputs)
    _write_case_log(run, outputs, metrics, folder)
    return RunOutcome("ok", "", stages, metrics, f"{folder.name}/Report/report.html")


def metric_at_commit(run: RunConfig, overrides: str, workspace: Path, code: Path, log: Path, metric: str) -> float:
    """Return a metric of an experiment as measured by the code of another checkout.

    The other code reuses the outputs in the workspace, so only the stages that it changes run.

    Args:
      run: names the experiment; a file inside this repository is replaced with the file of the other checkout.
      overrides: all settings, in the syntax of `--set`, with `experiment.name`.
      workspace: absolute path.
      code: folder of the other checkout.
      log: file to append the output of the program to.
      metric: name of the metric.

    Raises:
      StageError: the experiment fails, or the metric has no value.
    """
    config = run.config
    if Path(config).is_file():
        with contextlib.suppress(ValueError):  # the file is outside this repository
            config = str(code / Path(config).resolve().relative_to(CODE))
    arguments = ["Evaluate", "--config", config, "--set", overrides, "--workspace", str(workspace)]
    child_process.run([*_LUIGI, *arguments], log, folder=code)
    experiment = configuration.parse_overrides(overrides)["experiment"]["name"]
    evaluation = (workspace / experiment / "stages" / "Evaluate").resolve()
    # The experiment's links to the earlier stages can belong to another seed: Luigi does not visit these stages if the
    # evaluation is complete. The manifest names the inputs of this evaluation.
    inputs = read_manifest(evaluation)["inputs"]
    outputs = {stage: evaluation.parents[1] / stage / inputs[stage.lower()]["key"] for stage in ("Train", "Export")}
    value = read_metrics(dict(outputs, Evaluate=evaluation))[metric]
    if value is None:
        raise StageError(f"{metric}: has no value")
    return value


def read_metrics(outputs: Dict[str, Path]) -> Dict[str, Optional[float]]:
    """Return the metrics of finished stages by name; None for a metric without a value.

    The speed is the median over the rows of `losses.csv` except the first, whose steps include building the graph.
    `end_to_end_seconds` is the time of training, export and evaluation; None if training was interrupted.

    Args:
      outputs: the output folders by stage.
    """
    manifests = {name: read_manifest(outputs[name]) for name in _MEASURED_STAGES}
    figures: Dict[str, Any] = json.loads((outputs["Evaluate"] / "metrics.json").read_text())
    speeds = [row["pairs_per_second"] for row in loss_table.read(outputs["Train"])]
    speed = statistics.median(speeds[1:] or speeds)
    resumed = manifests["Train"]["resumed"]
    figures.update(
        pairs_per_second=speed,
        seconds_per_step=manifests["Train"]["config"]["train"]["batch_size"] / speed if speed else None,
        end_to_end_seconds=None if resumed else sum(manifests[name]["seconds"] for name in _MEASURED_STAGES),
        peak_megabytes=manifests["Train"]["peak_megabytes"],
    )
    return {name: None if figures.get(name) is None else float(figures[name]) for name in METRICS}


def _failure(error: StageError) -> RunOutcome:
    """Return the outcome of a run that failed: it depends on whether the machine, the data or the code is at fault."""
    if isinstance(error, MachineError) or error.code in _MACHINE_CODES:
        return RunOutcome(INFRASTRUCTURE, str(error))
    return RunOutcome(NO_DATA if error.code == DATA_MISSING else "failed", str(error))


def _write_case_log(
    run: RunConfig, outputs: Dict[str, Path], metrics: Dict[str, Optional[float]], folder: Path
) -> None:
    """Write ModelZoo's log of the run."""
    from fse.compat import case_log

    kind, evaluation = ("acc", outputs["Evaluate"] / "metrics.json") if run.kind == "accuracy" else ("perf", None)
    result, rows = case_log.read_result(outputs["Train"], kind, metrics["end_to_end_seconds"], evaluation)
    case_log.write_case_log(folder, result, rows)


def _inodes(folder: Path) -> Dict[str, int]:
    """Return the inodes in a folder by name. An output that was made again has the same name and another inode."""
    with contextlib.suppress(FileNotFoundError):
        return {entry.name: entry.inode() for entry in os.scandir(folder)}
    return {}


def _reread(task: StageTask) -> StageTask:
    """Make the task and all upstream tasks read their manifests again; return the task."""
    task.forget()
    for upstream in task.upstream().values():
        _reread(upstream)
    if task.manifest():
        integrity.remember(task.folder / task.manifest()["key"])
    return task
