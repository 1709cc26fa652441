"""A pipeline of three fast stages: First -> Second -> Third, each a function in a file that tests rewrite."""

from pathlib import Path
from typing import Any, Dict, List

import luigi
import pytest
from luigi.task_register import Register

from fse.config import redact_config
from fse.runtime import git, manifests, outputs
from tasks.caching import code_identity, key_cache, source_modules
from tasks.stages.stage_task import StageTask

# `set_up` fills these and tests change them: settings and sources by stage.
settings: Dict[str, Any] = {}
sources: Dict[str, str] = {}
# The stages that ran, in their order.
executed: List[str] = []


class Toy(StageTask):
    """A stage that passes on a number."""

    def settings(self) -> Dict[str, Any]:
        return {"toy." + self.verb: settings[self.verb]}

    def code(self) -> Dict[str, str]:
        return key_cache.CACHE.code("toy.code:" + self.verb, self.root)

    def lock_devices(self, stack: Any) -> List[int]:
        executed.append(self.verb)
        return []

    def _run_child(self, folder: Path, descriptors: List[int], task: luigi.Task, share: str) -> None:
        parts = self.key_parts()
        covers = {"settings": parts.settings, "code": parts.code, "tensorflow": ""}
        extra = {"key": folder.name, "run": self._run_id, "covers": covers, "why": self.reason()}
        inputs = {role: require_folder(task) for role, task in self.upstream().items()}
        manifest = manifests.new_manifest(self.verb, redact_config(self.experiment), "cpu", inputs, extra)
        names: Dict[str, Any] = {}
        exec((source_modules.PACKAGES["toy"] / "code.py").read_text(), names)
        values = [int((path / "number").read_text()) for path in inputs.values()]
        with outputs.atomic_output(folder, manifest, replace=True) as building:
            (building / "number").write_text(str(names[self.verb](settings[self.verb], *values)))


class First(Toy):
    verb = "first"


class Second(Toy):
    verb = "second"
    inputs = (First,)


class Third(Toy):
    verb = "third"
    inputs = (Second,)


STAGES = {"first": First, "second": Second, "third": Third}


def set_up(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Start with an empty workspace and an empty cache of keys; `folder` becomes the current folder."""
    code_identity.forget()
    monkeypatch.setitem(source_modules.PACKAGES, "toy", folder / "toy")
    monkeypatch.setattr(key_cache, "CACHE", key_cache.KeyCache())
    monkeypatch.chdir(folder)
    monkeypatch.setattr(git, "source_state", lambda file: None)  # saves three processes per output
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
    executed.clear()
    apply_changes()


def apply_changes() -> None:
    """Make changes of settings and sources visible, as to a new process."""
    file, text = source_modules.PACKAGES["toy"] / "code.py", "\n".join(sources.values())
    if not file.exists() or file.read_text() != text:
        file.write_text(text)
    key_cache.CACHE.recheck_sources()
    Register.clear_instance_cache()


def run(task: str = "third", **parameters: Any) -> List[str]:
    """Run a stage and what it needs with Luigi; return the stages that were executed."""
    executed.clear()
    apply_changes()
    assert luigi.build([STAGES[task](**parameters)], local_scheduler=True, log_level="CRITICAL")
    return list(executed)


def folder(task: str = "third") -> Path:
    """Return the output folder of a stage."""
    apply_changes()
    return require_folder(STAGES[task]())


def require_folder(task: StageTask) -> Path:
    """Return the output folder of a task whose inputs exist."""
    output = task.output().folder
    assert output is not None
    return output


def number(task: str = "third") -> int:
    """Return the number that a stage passes on."""
    return int((folder(task) / "number").read_text())
