"""`Plan`: what a run would do, and why. `ShowConfig`: every setting, and where its value comes from."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, List, Optional

from fse import config as configuration
from fse.runtime import locks
from fse.runtime.outputs import building_folder
from fse.stages import STAGES
from tasks.caching import reasons
from tasks.caching.publishing import lock_path
from tasks.commands.command import Command
from tasks.stages.full_run import FullRun
from tasks.stages.stage_task import StageTask


@dataclass(frozen=True)
class Step:
    """What a run would do about a stage."""

    # The stage's name.
    stage: str
    # "done", "is running", "will resume" or "will run".
    action: str
    # Why, or which process is running the stage; "" if the stage is done.
    reason: str
    # How long the most similar earlier run of the stage took; None if there was none.
    seconds: Optional[float]


class Plan(Command):
    """Prints for each stage whether it is done, will run or will resume, why, and how long it took before.

    It changes nothing.
    """

    def act(self) -> None:
        """Print the plan."""
        steps = [plan_stage(task) for task in self.clone(FullRun).stages().values()]
        width = max(len(step.stage) for step in steps) + 1
        for step in steps:
            print(f"{step.stage:<{width}} {step.action:<12} {_duration(step.seconds):>9}  {step.reason}".rstrip())
        estimates = [step.seconds for step in steps if step.action != "done" and step.seconds is not None]
        if estimates:
            print(f"{'':<{width}} {'total':<12} {_duration(sum(estimates)):>9}")


class ShowConfig(Command):
    """Prints every value of the configuration and its origin: the default, the file or --set."""

    def act(self) -> None:
        """Print the configuration as TOML."""
        file = configuration.find_file(self.config or None)
        origins = dict.fromkeys(_setting_names(configuration.read_tables(file)), file.name)
        origins.update(dict.fromkeys(_setting_names(configuration.parse_overrides(self.set)), "--set"))
        print(f"# {file}")
        for section, values in configuration.as_tables(self.experiment).items():
            print(f"\n[{section}]")
            for key, value in values.items():
                # Values that [evaluate.crop] leaves out are those of [crop].
                default = origins.get("crop." + key, "default") if section == "evaluate.crop" else "default"
                assignment = f"{key} = {json.dumps(value, ensure_ascii=False)}"  # JSON is TOML for these types
                print(f"{assignment:<48} # {origins.get(f'{section}.{key}', default)}")


def plan_stage(task: StageTask) -> Step:
    """Return what a run would do about a stage."""
    manifest = task.manifest()
    if manifest:
        return Step(task.name, "done", "", manifest.get("seconds"))
    earlier = reasons.earlier_manifests(task.folder)
    # The seconds of a resumed run are only those of its last attempt.
    uninterrupted = [manifest for manifest in earlier if not manifest.get("resumed")]
    nearest = reasons.nearest_manifest(task.key_parts(), uninterrupted or earlier)
    seconds = nearest["seconds"] if nearest else None
    folder = task.output().folder
    if folder and not locks.is_free(lock_path(folder), shared=True):
        return Step(task.name, "is running", f"in {locks.holder(lock_path(folder))}", seconds)
    progress = _progress(building_folder(folder)) if folder and STAGES[task.verb].resumes else ""
    if progress:
        return Step(task.name, "will resume", f"{progress}: {task.reason()}", seconds)
    return Step(task.name, "will run", task.reason(), seconds)


def _progress(folder: Path) -> str:
    """Return where an interrupted stage resumes: its newest checkpoint or its finished shards; "" for the beginning."""
    names = [path.stem.rpartition("-")[2] for path in folder.glob("checkpoints/*.index")]
    newest = max((int(name) for name in names if name.isdigit()), default=0)
    if newest:
        return f"from step {newest}"
    shards = sum(1 for pattern in ("finished/*.json", "*.tfrecord") for _ in folder.glob(pattern))
    if not shards:
        return ""
    return f"after {shards} finished shard{'' if shards == 1 else 's'}"


def _setting_names(tables: Dict[str, Any]) -> List[str]:
    return [f"{section}.{key}" for section, values in tables.items() for key in values]


def _duration(seconds: Optional[float]) -> str:
    if seconds is None:
        return ""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
