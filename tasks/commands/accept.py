"""`Accept`: keep outputs although the code that makes them changed."""

import dataclasses
import os
from pathlib import Path
from typing import Any, Dict

import luigi

from fse.errors import DataError
from fse.runtime import integrity
from fse.runtime.clock import utc_timestamp
from fse.runtime.files import write_json
from fse.runtime.manifests import MANIFEST
from tasks.caching import key_cache, reasons
from tasks.commands.command import Command
from tasks.stages.full_run import FullRun
from tasks.stages.stage_task import StageTask


class Accept(Command):
    """Declares that the code changes since the last run do not change any output.

    Outputs that differ from what the experiment needs in their code only are accepted for the current code. So are the
    outputs of other experiments that the same old code made. Their manifests record the reason.
    """

    reason = luigi.Parameter(default="", description="why the code change is harmless; the manifests record it")

    def act(self) -> None:
        """Print the decision for each stage.

        Raises:
          DataError: the reason is missing.
        """
        if not self.reason.strip():
            raise DataError("--reason: missing; say why the code change is harmless, the manifests record it")
        for task in self.clone(FullRun).stages().values():
            print(f"{task.name:<16} {'done' if task.complete() else accept(task, self.reason)}")


def accept(task: StageTask, reason: str) -> str:
    """Accept outputs of a stage for its current code if only the code changed; return the decision in words."""
    parts = task.key_parts()
    manifests = reasons.earlier_manifests(task.folder)
    nearest = reasons.nearest_manifest(parts, manifests)
    changes = list(reasons.differences(parts, reasons.key_parts_of(nearest))) if nearest else ["never run"]
    if not parts.complete:
        return "not accepted: an input is missing"
    if not nearest or not changes or not all(change.startswith("code of ") for change in changes):
        return f"not accepted: {reasons.summarize(changes) or 'output missing'}"
    old_code = nearest["covers"]["code"]
    for manifest in {manifest["key"]: manifest for manifest in manifests}.values():
        folder = task.folder / manifest["key"]
        if manifest["covers"].get("code") == old_code and not integrity.problem(folder):
            _accept_output(folder, manifest, parts.code, reason)
    task.forget()
    if not task.complete():
        return f"not accepted: {integrity.problem(task.folder / nearest['key'])}"
    return f"accepted: {reasons.summarize(changes)}"


def _accept_output(folder: Path, manifest: Dict[str, Any], code: Dict[str, str], reason: str) -> None:
    """Write the new code and the reason to the manifest, and link the key of the new code to the output."""
    old = manifest["covers"]["code"]
    changed = {name: [old.get(name), code.get(name)] for name in {*old, *code} if old.get(name) != code.get(name)}
    entry = {"when": utc_timestamp(), "reason": reason, "code": dict(sorted(changed.items()))}
    parts = dataclasses.replace(reasons.key_parts_of(manifest), code=code)
    accepted = dict(
        manifest,
        covers=dict(manifest["covers"], code=code),
        code=key_cache.digest_of(code),
        accepted=[*manifest.get("accepted", ()), entry],
    )
    write_json(folder / MANIFEST, accepted)
    alias = folder.with_name(parts.key())
    if not os.path.lexists(alias):
        alias.symlink_to(folder.name)
