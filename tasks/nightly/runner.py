"""One training and all that follows from it, as a child `luigi` program; and what came of it, read from the manifests."""

import contextlib
import csv
import json
import os
import statistics
import sys
from pathlib import Path
from typing import Dict, List, Optional

import fse
from fse import config as configuration
from fse.errors import MachineError, StageError
from fse.runtime import outputs
from tasks import child_process
from tasks.nightly.night import INFRASTRUCTURE, NO_DATA, Played
from tasks.nightly.settings import METRICS, Run
from tasks.stages.pipeline import FullRun
from tasks.stages.stage_task import DATA_MISSING, DEVICE_BUSY, DEVICE_UNUSED, MACHINE_FAILED, StageTask, point

# Where the code is: a checkout, if it has a commit.
CODE = Path(fse.__file__).resolve().parents[1]

# Exit codes of `luigi` that say nothing of the code: another's lock or scheduler, and the machine.
_MACHINE = (10, 25, DEVICE_BUSY, MACHINE_FAILED, DEVICE_UNUSED)

_COMMAND = (sys.executable, "-c", "from luigi.cmdline import luigi_run; luigi_run()", "--module", "pipeline")

# The stages that every training has for itself, in their order.
_OWN = ("Train", "Export", "Evaluate")


def run(run_: Run, overrides: str, workspace: Path, wait: int, log: Path, folder: Path) -> Played:
    """Runs all stages of an experiment, in a `luigi` of its own.

    Args:
      run_: names the experiment.
      overrides: its `--set`, seed and occasion included.
      workspace: absolute.
      wait: seconds to wait for a device.
      log: what it says is added to it.
      folder: gets a link to each output, which keeps it from Clean, and ModelZoo's `${CaseName}.log`.

    Raises:
      OSError: log or links cannot be written.
    """
    from fse.compat import modelzoo

    tasks = FullRun(config=run_.config, set=overrides, workspace=str(workspace)).stages()
    before = {name: _inodes(task.folder) for name, task in tasks.items()}
    arguments = ["Report", "--config", run_.config, "--set", overrides, "--workspace", str(workspace)]
    if run_.kind == "performance":  # they are measured, so they run though their outputs are there
        arguments += ["--Export-force", "--Evaluate-force"]
    try:
        child_process.run([*_COMMAND, *arguments, "--Train-device-wait", str(wait)], log)
    except MachineError as error:
        return Played(INFRASTRUCTURE, str(error))
    except StageError as error:
        if error.code == DATA_MISSING:
            return Played(NO_DATA, str(error))
        return Played(INFRASTRUCTURE if error.code in _MACHINE else "failed", str(error))
    made = {name: _forgotten(task).made() for name, task in tasks.items()}
    lost = [name for name, manifest in made.items() if not manifest]
    if lost:
        return Played("failed", "{}: output missing though the run ended well".format(", ".join(lost)))
    folders = {name: tasks[name].folder / manifest["key"] for name, manifest in made.items()}
    stages = {
        name: {
            "key": manifest["key"],
            "seconds": manifest["seconds"],
            "reused": name != "Train"
            and before[name].get(manifest["key"]) == _inodes(tasks[name].folder)[manifest["key"]],
            "resumed": manifest["resumed"],
        }
        for name, manifest in made.items()
    }
    for name, target in folders.items():
        point(folder / name, target)
    figures = measure(folders)
    kind, metrics = ("acc", folders["Evaluate"] / "metrics.json") if run_.kind == "accuracy" else ("perf", None)
    modelzoo.write_case_log(folder, *modelzoo.read(folders["Train"], kind, figures["end_to_end_seconds"], metrics))
    return Played("ok", "", stages, figures, f"{folder.name}/Report/report.html")


def at_commit(run_: Run, overrides: str, workspace: Path, code: Path, log: Path, metric: str) -> float:
    """A metric of an experiment as the code of another checkout has it; runs what that code changes.

    Args:
      run_: names the experiment; a file of this repository is read as it is in the other checkout.
      overrides: its `--set`, which names the experiment too.
      workspace: absolute.
      code: the checkout.
      log: what the run says is added to it.
      metric: its name.

    Raises:
      StageError: it cannot be run there, or has no such metric.
    """
    config = run_.config
    if Path(config).is_file():
        with contextlib.suppress(ValueError):  # it is no file of this repository
            config = str(code / Path(config).resolve().relative_to(CODE))
    arguments = ["Evaluate", "--config", config, "--set", overrides, "--workspace", str(workspace)]
    child_process.run([*_COMMAND, *arguments], log, folder=code)
    name = configuration.parse_overrides(overrides)["experiment"]["name"]
    evaluated = (workspace / name / "stages" / "Evaluate").resolve()
    # Links to the stages before may be another seed's: a finished evaluation is not asked how it was made.
    before = outputs.read_manifest(evaluated)["inputs"]
    folders = {stage: evaluated.parents[1] / stage / before[stage.lower()]["key"] for stage in ("Train", "Export")}
    value = measure(dict(folders, Evaluate=evaluated))[metric]
    if value is None:
        raise StageError(f"it has no {metric}")
    return value


def measure(folders: Dict[str, Path]) -> Dict[str, Optional[float]]:
    """The metrics of finished stages, whose folders are given, by name; None where there is none.

    Speed is the median of what `losses.csv` says, without its first line, whose steps include building the graph.
    `end_to_end_seconds` are those of training, export and evaluation; none of a training that was interrupted.
    """
    made = {name: outputs.read_manifest(folders[name]) for name in _OWN}
    figures = json.loads((folders["Evaluate"] / "metrics.json").read_text())
    with open(str(folders["Train"] / "losses.csv"), newline="") as stream:
        speeds: List[float] = [float(row["pairs_per_second"]) for row in csv.DictReader(stream)]
    speed = statistics.median(speeds[1:] or speeds)
    batch = made["Train"]["config"]["train"]["batch_size"]
    figures.update(
        pairs_per_second=speed,
        seconds_per_step=batch / speed if speed else None,
        end_to_end_seconds=None if made["Train"]["resumed"] else sum(made[name]["seconds"] for name in _OWN),
        peak_megabytes=made["Train"]["peak_megabytes"],
    )
    return {name: None if figures.get(name) is None else float(figures[name]) for name in METRICS}


def _inodes(folder: Path) -> Dict[str, int]:
    """What is in a folder, by name: an output that was made again is another folder of the same name."""
    with contextlib.suppress(FileNotFoundError):
        return {entry.name: entry.inode() for entry in os.scandir(str(folder))}
    return {}


def _forgotten(task: StageTask) -> StageTask:
    """The task, and all before it, as if it had not looked for its output yet."""
    task.forget()
    for before in task.before().values():
        _forgotten(before)
    if task.made():
        outputs.remember(task.folder / task.made()["key"])
    return task
