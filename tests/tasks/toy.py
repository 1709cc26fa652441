"""A pipeline of three stages that are quick: First -> Second -> Third, each a function in a file that tests rewrite."""

from pathlib import Path
from typing import Any, Dict, List

import luigi
from luigi.task_register import Register

from fse.config import redact_config
from fse.runtime import git, manifests, outputs
from tasks.caching import code_identity, fingerprint
from tasks.stages.stage_task import StageTask

# What `set_up` prepares and tests change: settings by stage, sources by stage; and which stages were made, in order.
settings: Dict[str, Any] = {}
sources: Dict[str, str] = {}
made: List[str] = []


class Toy(StageTask):
    """A stage that hands a number on."""

    def settings(self) -> Dict[str, Any]:
        return {"toy." + self.verb: settings[self.verb]}

    def code(self) -> Dict[str, str]:
        return fingerprint.code("toy.code:" + self.verb, self.root)

    def hold_devices(self, stack: Any) -> List[int]:
        made.append(self.verb)
        return []

    def _make(self, folder: Path, held: List[int], task: luigi.Task, part: str) -> None:
        parts = self.parts()
        covers = {"settings": parts.settings, "code": parts.code, "tensorflow": ""}
        inputs = {role: task.output().folder for role, task in self.before().items()}
        facts = manifests.new_manifest(
            self.verb,
            redact_config(self.experiment),
            "cpu",
            inputs,
            {"key": folder.name, "run": self._run, "covers": covers},
        )
        names: Dict[str, Any] = {}
        exec((code_identity.PACKAGES["toy"] / "code.py").read_text(), names)
        values = [int((path / "number").read_text()) for path in inputs.values()]
        with outputs.atomic_output(folder, dict(facts, why=self.reason()), replace=True) as building:
            (building / "number").write_text(str(names[self.verb](settings[self.verb], *values)))


class First(Toy):
    verb = "first"


class Second(Toy):
    verb = "second"
    inputs = (First,)


class Third(Toy):
    verb = "third"
    inputs = (Second,)


KINDS = {"first": First, "second": Second, "third": Third}


def set_up(folder: Path, monkeypatch: Any) -> None:
    """Begins afresh in an empty folder."""
    monkeypatch.setitem(code_identity.PACKAGES, "toy", folder / "toy")
    monkeypatch.chdir(folder)
    monkeypatch.setattr(git, "source_state", lambda file: None)  # three processes each time
    (folder / "toy").mkdir()
    (folder / "toy" / "__init__.py").write_text("")
    settings.clear()
    settings.update(first=7, second=1, third=1)
    sources.clear()
    sources.update(
        first="def first(x):\n    return x % 5\n",
        second="def second(x, y):\n    return x * 10 + y\n",
        third="def third(x, y):\n    return x + helper(y)\ndef helper(y):\n    return y // 2\n",
    )
    made.clear()
    changed()


def changed() -> None:
    """After settings or sources changed: what a new process would see."""
    file, text = code_identity.PACKAGES["toy"] / "code.py", "\n".join(sources.values())
    if not file.exists() or file.read_text() != text:
        file.write_text(text)
    fingerprint.forget()
    Register.clear_instance_cache()


def run(task: str = "third", **parameters: Any) -> List[str]:
    """Runs up to a stage with Luigi; returns the stages that were made."""
    made.clear()
    changed()
    assert luigi.build([KINDS[task](**parameters)], local_scheduler=True, log_level="CRITICAL")
    return list(made)


def folder(task: str = "third") -> Path:
    """Where the output of a stage is."""
    changed()
    found = KINDS[task]().output().folder
    assert found is not None
    return found


def number(task: str = "third") -> int:
    """What a stage handed on."""
    return int((folder(task) / "number").read_text())
