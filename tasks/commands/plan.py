"""`Plan`: what a run would do, and why; `ShowConfig`: what the configuration is, and where each value is from."""

import json
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Optional

from fse import config as configuration
from fse.runtime import locks
from fse.stages import STAGES
from tasks.caching import reasons
from tasks.stages.pipeline import FullRun
from tasks.stages.stage_task import Command, StageTask, building, lock_of


class Step(NamedTuple):
    """What a run would do about a stage. seconds: what it took the last time; None if that is not known."""

    stage: str
    does: str
    why: str
    seconds: Optional[float]


class Plan(Command):
    """Says for each stage whether it is done, will run or will resume, why, and how long that takes. Changes nothing."""

    def act(self) -> None:
        """Prints the plan."""
        steps = [step(task) for task in self.clone(FullRun).stages().values()]
        width = max(len(each.stage) for each in steps) + 1
        for stage, does, why, seconds in steps:
            print(f"{stage.ljust(width)} {does:<12} {_duration(seconds):>9}  {why}".rstrip())
        known = [seconds for _, does, _, seconds in steps if does != "done" and seconds is not None]
        if known:
            print("{} {:<12} {:>9}".format(" " * width, "in all", _duration(sum(known))))


class ShowConfig(Command):
    """Prints every value of the configuration and where it is from: the default, the file, or --set."""

    def act(self) -> None:
        """Prints it as TOML."""
        file = configuration.find(self.config or None)
        origins = dict.fromkeys(_names(configuration.read(file)), file.name)
        origins.update(dict.fromkeys(_names(configuration.parse_overrides(self.set)), "--set"))
        print(f"# {file}")
        for section, values in configuration.as_tables(self.experiment).items():
            print(f"\n[{section}]")
            for key, value in values.items():
                name = f"{section}.{key}"
                # What [evaluate.crop] leaves out is as in [crop].
                inherited = origins.get("crop." + key, "default") if section == "evaluate.crop" else "default"
                print("{:<48} # {}".format(f"{key} = {_toml(value)}", origins.get(name, inherited)))


def step(task: StageTask) -> Step:
    """What a run would do about a stage."""
    made = task.made()
    if made:
        return Step(task.name, "done", "", made.get("seconds"))
    before = reasons.made_before(task.folder)
    last = reasons.nearest(task.parts(), [made for made in before if not made.get("resumed")] or before)
    seconds = last["seconds"] if last else None
    folder = task.output().folder
    if folder and not locks.is_free(lock_of(folder), shared=True):
        return Step(task.name, "is running", f"in {locks.holder(lock_of(folder))}", seconds)
    reached = _reached(building(folder)) if folder and STAGES[task.verb].resumes else ""
    if reached:
        return Step(task.name, "will resume", f"{reached}: {task.reason()}", seconds)
    return Step(task.name, "will run", task.reason(), seconds)


def _reached(folder: Path) -> str:
    """From where an interrupted stage goes on: its newest checkpoint or its finished shards; "" from the beginning."""
    names = [path.stem.rpartition("-")[2] for path in folder.glob("checkpoints/*.index")]
    newest = max((int(name) for name in names if name.isdigit()), default=0)
    if newest:
        return f"from step {newest}"
    shards = sum(1 for pattern in ("finished/*.json", "*.tfrecord") for _ in folder.glob(pattern))
    return "after {} finished shard{}".format(shards, "" if shards == 1 else "s") if shards else ""


def _names(tables: Dict[str, Any]) -> List[str]:
    return [f"{section}.{key}" for section, values in tables.items() for key in values]


def _toml(value: Any) -> str:
    """A setting as TOML; JSON is the same for numbers, strings and lists of them."""
    return json.dumps(value, ensure_ascii=False)


def _duration(seconds: Optional[float]) -> str:
    if seconds is None:
        return ""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
