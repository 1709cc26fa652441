"""The base of the stages: the output's key, whether the stage is complete, and running it in a child process."""

import contextlib
import multiprocessing
import os
import sys
import uuid
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence, Tuple

import luigi
from luigi.worker import TaskProcess

from fse.config import Config, as_tables
from fse.errors import StageError
from fse.runtime import integrity, processes
from fse.runtime.files import replace_symlink
from fse.runtime.manifests import read_manifest
from fse.runtime.outputs import CLAIMS, building_folder
from fse.stages import STAGES
from tasks import child_process
from tasks.caching import fingerprint, key_cache, publishing, reasons
from tasks.caching.fingerprint import KeyParts
from tasks.exit_codes import DATA_MISSING, SCHEDULING_FAILED, exit_or_raise
from tasks.experiment_task import ExperimentTask
from tasks.stages import stage_process


class Artifact(luigi.Target):
    """The output folder of a stage as a Luigi target."""

    def __init__(self, folder: Optional[Path]):
        # None while an input does not exist: the key, and so the path, depends on the content of all inputs.
        self.folder = folder

    def exists(self) -> bool:
        """Return whether the output exists and its content matches its manifest."""
        return self.folder is not None and not integrity.problem(self.folder)


class StageTask(ExperimentTask):
    """One stage of the pipeline, which runs `fse VERB` in a child process.

    The output's folder is named by a key of all that the output depends on: settings, code and the *content* of the
    inputs. So the folder is unknown while an input is missing. If a rebuilt input has the same content as before, the key
    is the same and the old output is reused. See docs/caching.md.

    Raises:
      StageError: `only` is set, and an input is missing. On Luigi's command line the program exits instead.
    """

    force = luigi.BoolParameter(default=False, description="run this stage again even if it is complete")
    only = luigi.BoolParameter(
        default=False, significant=False, description="run this stage alone; its inputs must be complete"
    )

    # The stage's name in `fse.stages.STAGES`.
    verb = ""
    # The settings that the stage reads: sections, or single settings as section.key.
    config_keys: Tuple[str, ...] = ()
    # The stages whose outputs the stage reads.
    inputs: Tuple[Any, ...] = ()
    # Whether the output depends on TensorFlow's version.
    uses_tensorflow = False

    def __init__(self, *arguments: Any, **parameters: Any):
        super().__init__(*arguments, **parameters)
        self._manifest: Dict[str, Any] = {}
        # The manifest records this id. A forced stage is complete once a manifest has it, also in the processes that
        # Luigi forks.
        self._run_id = uuid.uuid4().hex
        missing = [task for task in self.upstream().values() if not task.complete()] if self.only else []
        if missing:
            listed = "; ".join(f"{task.name} ({task.reason()})" for task in missing)
            message = f"{self.name} --only: missing inputs: {listed}; run these stages first, or omit --only"
            exit_or_raise(StageError(message), DATA_MISSING)

    @property
    def name(self) -> str:
        """The stage's name in messages, and the name of its link in the experiment's folder."""
        return str(self.task_family)

    def upstream(self) -> Dict[str, "StageTask"]:
        """Return the stages of the same experiment whose outputs this stage reads, by role (see `fse.stages`)."""
        return {task_class.verb: self.sibling(task_class) for task_class in self.inputs}

    def requires(self) -> List[luigi.Task]:
        """Return the upstream stages."""
        return list(self.upstream().values())

    def settings(self) -> Dict[str, Any]:
        """Return the settings that the output depends on, by `section.key`."""
        values = flat_settings(self.experiment)
        return {name: value for name, value in values.items() if {name, name.rpartition(".")[0]} & {*self.config_keys}}

    def code(self) -> Dict[str, str]:
        """Return digests of the code that the stage uses, by dotted name."""
        return key_cache.CACHE.code(STAGES[self.verb].function, self.root)

    def key_parts(self) -> KeyParts:
        """Return all that the output depends on."""
        return KeyParts(
            stage=self.verb,
            settings=self.settings(),
            code=self.code(),
            inputs={role: task.manifest().get("content") for role, task in self.upstream().items()},
            tensorflow=fingerprint.installed_tensorflow() if self.uses_tensorflow else "",
        )

    @property
    def folder(self) -> Path:
        """The folder of all outputs of this stage."""
        return self.root / "artifacts" / str(self.task_family)

    def output(self) -> Artifact:
        """Return the target `<workspace>/artifacts/<stage>/<key>`."""
        parts = self.key_parts()
        return Artifact(self.folder / parts.key() if parts.complete else None)

    def manifest(self) -> Dict[str, Any]:
        """Return the manifest of the output.

        It is empty if the output or an input is missing or damaged, and while `force` has not run the stage again.
        """
        if not self._manifest:
            folder = self.output().folder
            try:
                manifest = read_manifest(folder) if folder and not integrity.problem(folder) else {}
            except StageError as error:
                exit_or_raise(error, SCHEDULING_FAILED)
            if not self.force or manifest.get("run") == self._run_id:
                self._manifest = manifest
        return self._manifest

    def forget(self) -> None:
        """Read the manifest again at its next use."""
        self._manifest = {}

    def complete(self) -> bool:
        """Return whether there is an output for the current inputs, settings and code."""
        return bool(self.manifest())

    def reason(self) -> str:
        """Return why the stage has to run, in a few words."""
        if self.force:
            return "--force"
        folder = self.output().folder
        return (_state_reason(folder) if folder else "") or self._change_reason()

    def _change_reason(self) -> str:
        """Return how the key parts differ from those of the most similar earlier output."""
        parts = self.key_parts()
        nearest = reasons.nearest_manifest(parts, reasons.earlier_manifests(self.folder))
        changes = list(reasons.differences(parts, reasons.key_parts_of(nearest))) if nearest else ["never run"]
        missing = [task.name for task in self.upstream().values() if not task.manifest()]
        if missing and not changes:
            verb, outcome = ("runs", "its output does") if len(missing) == 1 else ("run", "their outputs do")
            return f"{' and '.join(missing)} {verb} first; skipped if {outcome} not change"
        return reasons.summarize(changes)

    def run(self) -> None:
        """Make the output, unless another run has made it meanwhile.

        Raises:
          StageError: the stage failed, an input changed or the workspace is not writable.
          DeviceBusyError: another process uses the device.
        """
        self.produce(self)

    def produce(self, task: luigi.Task, share: str = "") -> None:
        """Make the output, or a host's share of its shards.

        Args:
          task: the task that Luigi runs.
          share: the name of the host's share; "" makes all shards that are left, and publishes the output.

        Raises:
          StageError, DeviceBusyError: as for `run`.
        """
        process: Any = multiprocessing.current_process()
        if isinstance(process, TaskProcess):  # Luigi forked it for this task
            processes.die_with_parent(process._parent_pid)
        try:
            parts = self._produce_locked(task, share)
        except OSError as error:
            raise StageError(f"{error.filename or self.folder}: cannot be written: {error.strerror}") from error
        self.forget()
        key_cache.CACHE.save(self.root)
        self._require_unchanged(parts, "it ran; its output was stored under its old key")

    def _produce_locked(self, task: luigi.Task, share: str) -> KeyParts:
        """Lock inputs, output and devices and run the stage; return the key parts that the output has."""
        name = f"{self.name} {share}".rstrip()
        with contextlib.ExitStack() as stack:
            for upstream in self.upstream().values():
                upstream.lock_output(stack)
            parts, folder = self.key_parts(), self.output().folder
            assert folder is not None
            self.link(folder)
            folder.parent.mkdir(parents=True, exist_ok=True)
            lock = stack.enter_context(publishing.lock_for_writing(folder, f"{name} {folder}", shared=bool(share)))
            if self.force or integrity.problem(folder):
                descriptors = [lock, *self.lock_devices(stack)]
                self._require_unchanged(parts, "it waited for other runs")
                self._run_child(folder, descriptors, task, share)
                _print_status(f"{name}: done: {folder}")
            else:
                _print_status(f"{name}: reused an output with the same inputs, settings and code: {folder}")
        return parts

    def _require_unchanged(self, parts: KeyParts, event: str) -> None:
        """Compare the current key parts with `parts`.

        Raises:
          StageError: they differ; `event` completes the message "changed while …".
        """
        key_cache.CACHE.recheck_sources()
        changes = list(reasons.differences(self.key_parts(), parts))
        if changes:
            raise StageError(f"{self.name}: {reasons.summarize(changes)} while {event}; run the command again")

    def lock_output(self, stack: contextlib.ExitStack) -> None:
        """Lock the output against replacement and removal until `stack` closes, and verify its content.

        Raises:
          StageError: the output is missing or differs from its manifest.
        """
        self.forget()
        folder = self.output().folder
        if folder is None:
            raise StageError(f"{self.task_family}: output missing; run the command again to rebuild it")
        publishing.lock_for_reading(folder, stack)

    def lock_devices(self, stack: contextlib.ExitStack) -> List[int]:
        """Lock the devices that the stage needs for itself until `stack` closes; return the locks' descriptors."""
        return []

    def _run_child(self, folder: Path, descriptors: List[int], task: luigi.Task, share: str) -> None:
        """Run the stage in a child process, which inherits the locks `descriptors`."""
        parts, reason = self.key_parts(), self.reason()
        log_name = "-".join(filter(None, [self.verb, share.replace(" ", "-"), folder.name]))
        log = self.root / "logs" / f"{log_name}.log"
        _print_status(f"{f'{self.name} {share}'.rstrip()}: started: {reason} (log: {log})")
        manifest_extra = {
            "key": folder.name,
            "run": self._run_id,
            "why": reason,
            "code": key_cache.digest_of(parts.code),
            "covers": {"settings": parts.settings, "code": parts.code, "tensorflow": parts.tensorflow},
        }
        inputs = {role: upstream.output().folder for role, upstream in self.upstream().items()}
        command = stage_process.prepare(self.verb, self.experiment, inputs, folder, manifest_extra, bool(share))
        report = stage_process.progress_reporter(task, log)
        child_process.run(command, log, report, descriptors, environment=self.secret_env())

    def secret_env(self) -> Dict[str, str]:
        """Return environment variables that pass secrets to the child, which its command line and files must not show."""
        return {}

    def link(self, folder: Path) -> None:
        """Link the experiment's folder to the output.

        The link is made before the output exists, so that Clean keeps the unfinished output.
        """
        replace_symlink(self.root / self.experiment.experiment.name / "stages" / self.name, folder)


def _state_reason(folder: Path) -> str:
    """Return why the output in `folder` is missing although a run began or finished it; '' if neither happened."""
    if os.path.lexists(folder):
        return integrity.problem(folder)
    building = building_folder(folder)
    if (building / CLAIMS).exists():
        return "several processes began it"
    if building.exists():
        return "an earlier attempt was interrupted"
    return "output missing" if publishing.config_path(folder).exists() else ""


def flat_settings(experiment: Config) -> Dict[str, Any]:
    """Return the configuration as JSON values by `section.key`."""
    tables = as_tables(experiment)
    return {f"{section}.{key}": value for section in tables for key, value in tables[section].items()}


def require_complete(tasks: Sequence[StageTask]) -> None:
    """Check that tasks which Luigi believes to be done are complete here.

    Raises:
      StageError: an output is missing.
    """
    missing = sorted({task.name for task in tasks if not task.complete()})
    if missing:
        raise StageError(
            f"{', '.join(missing)}: no output for the current code and data; another host made it with other code or data, "
            "or it was removed; run the command again"
        )


@StageTask.event_handler(luigi.Event.DEPENDENCY_PRESENT)
def _report_complete(task: StageTask) -> None:
    for stage in [*task.upstream().values(), task]:
        integrity.remember(stage.folder / str(stage.manifest()["key"]))
    key_cache.CACHE.save(task.root)
    with contextlib.suppress(OSError):  # the workspace is read-only
        task.link(task.folder / str(task.manifest()["key"]))
    _print_status(f"{task.name}: already done: {task.output().folder}")


def _print_status(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
