"""The base of all tasks: common parameters, outputs by key, running a stage of `fse` in a child process."""

import contextlib
import functools
import json
import mmap
import multiprocessing
import os
import re
import socket
import sys
import time
import uuid
from pathlib import Path
from typing import Any, Dict, List, NoReturn, Optional, Tuple

import luigi
from luigi.cmdline_parser import CmdlineParser
from luigi.rpc import RPCError
from luigi.worker import TaskProcess

from fse import config as configuration
from fse.config import Config, as_tables, redact_config
from fse.errors import ConfigError, DeviceBusyError, DeviceUnusedError, FseError, StageError, is_machines
from fse.runtime import locks, outputs, processes
from fse.stages import STAGES, flag_of
from tasks import child_process
from tasks.caching import fingerprint, reasons
from tasks.caching.reasons import Parts

# Exit codes of `luigi` besides its own.
DATA_MISSING = 20
SCHEDULING_FAILED = 35
BAD_CONFIGURATION = 45
DEVICE_BUSY = 50
MACHINE_FAILED = 55
DEVICE_UNUSED = 58

# Another run that makes the same output is waited for: a training may take days, but not for ever.
_LOCK_SECONDS = 7 * 24 * 3600

# Shared with the processes that Luigi forks for its tasks: the exit code for a failure that has one of its own.
_failure = mmap.mmap(-1, 1)


def failure_code() -> int:
    """The exit code that a failed task asked for; 0 if none did."""
    return _failure[0]


def fail_with(code: int) -> None:
    """Has the program end with `code`, or with a larger one that was asked for."""
    _failure[0] = max(_failure[0], code)


class Overrides(luigi.Parameter):
    """`--set`. What Luigi shows of it, and its central scheduler is told, has no queries of addresses."""

    def serialize(self, x: str) -> str:
        """The settings as they may be seen."""
        return configuration.redact_text(x)


class Settings(luigi.Task):
    """A task of one experiment.

    A mistake in the configuration ends the program here, before anything is scheduled.
    """

    config = luigi.Parameter(default="", description="experiment file, or name of a shipped one (default: synthetic)")
    set = Overrides(default="", description="settings that override the file's: section.key=value,…")
    workspace = luigi.Parameter(default="workspace", description="folder of all outputs")
    hosts = luigi.NumericalParameter(
        default=1,
        var_type=int,
        min_value=1,
        max_value=65,  # which is too many
        positional=False,  # the first of these is what a range of nights is of
        significant=False,
        description="how many hosts share the shards of AlignCrop and of ConvertTFRecord, where there is a luigid",
    )

    def __init__(self, *arguments: Any, **parameters: Any):
        """Takes Luigi's parameters.

        Raises:
          ConfigError: the configuration cannot be meant. On Luigi's command line it ends the program instead.
        """
        super().__init__(*arguments, **parameters)
        try:
            self.experiment  # noqa: B018 (a mistake shows when it is read)
        except ConfigError as error:
            end(error, BAD_CONFIGURATION)

    @property
    def experiment(self) -> Config:
        """The checked configuration."""
        return _load(self.config, self.set)

    @property
    def root(self) -> Path:
        """The workspace, absolute."""
        return Path(self.workspace).absolute()

    def other(self, kind: Any, **parameters: Any) -> Any:
        """A task of the same experiment; what else it takes is its own (`--Train-force`), or given here."""
        return kind(**{name: getattr(self, name) for name, _ in Settings.get_params()}, **parameters)

    def on_failure(self, exception: BaseException) -> str:
        """What the scheduler's page shows: a user's mistake needs no traceback."""
        if isinstance(exception, DeviceBusyError):
            fail_with(DEVICE_BUSY)
        elif isinstance(exception, DeviceUnusedError):
            fail_with(DEVICE_UNUSED)
        elif isinstance(exception, FseError) and is_machines(exception):
            fail_with(MACHINE_FAILED)
        return str(exception) if isinstance(exception, FseError) else super().on_failure(exception)


class Command(Settings):
    """A task that tells or tidies, and has no output: it is run whenever it is asked for."""

    _done = False

    def complete(self) -> bool:
        """Whether it has been run."""
        return self._done

    def run(self) -> None:
        """Does it.

        Raises:
          StageError: a file cannot be read or written.
        """
        try:
            self.act()
        except OSError as error:
            raise StageError(f"{error.filename}: cannot be used: {error.strerror}") from error
        self._done = True

    def act(self) -> None:
        """What the command does."""
        raise NotImplementedError


class Artifact(luigi.Target):
    """A stage's output folder."""

    def __init__(self, folder: Optional[Path]):
        """`folder` is where it is, or will be; None while an input is not made, since that decides."""
        self.folder = folder

    def exists(self) -> bool:
        """Whether it is whole and what its manifest says."""
        return self.folder is not None and not outputs.problem(self.folder)


class StageTask(Settings):
    """One stage of the pipeline: `fse VERB` in a child process, into a folder named by what the output depends on.

    That is the settings, code and *content of the inputs*: while an input is not made, nobody knows where the output
    will be, and when it turns out the same as it was, the old output is found. See docs/caching.md.
    """

    force = luigi.BoolParameter(default=False, description="run this stage again though it is complete")
    only = luigi.BoolParameter(default=False, significant=False, description="run nothing but this stage")

    verb = ""
    # What the stage reads of the configuration: sections, or single settings as section.key.
    reads: Tuple[str, ...] = ()
    # The stages whose outputs it reads.
    inputs: Tuple[Any, ...] = ()
    # Whether TensorFlow computes its output.
    computes = False

    def __init__(self, *arguments: Any, **parameters: Any):
        """Takes Luigi's parameters.

        Raises:
          StageError: `only`, and an input is missing. On Luigi's command line it ends the program instead.
        """
        super().__init__(*arguments, **parameters)
        self._made: Dict[str, Any] = {}
        # In the manifest of what it makes: so the processes that Luigi forks know that a forced stage has run.
        self._run = uuid.uuid4().hex
        missing = [task for task in self.before().values() if not task.complete()] if self.only else []
        if missing:
            words = "{} --only: it needs what is not there: {}; run these first, or leave --only out"
            listed = "; ".join(f"{task.name} ({task.reason()})" for task in missing)
            end(StageError(words.format(self.name, listed)), DATA_MISSING)

    @property
    def name(self) -> str:
        """What it is called in messages, and its link in the experiment's folder."""
        return str(self.task_family)

    def before(self) -> Dict[str, "StageTask"]:
        """The stages whose outputs it reads, of the same experiment, by their roles (see `fse.stages`)."""
        return {kind.verb: self.other(kind) for kind in self.inputs}

    def requires(self) -> List[luigi.Task]:
        """The stages before it."""
        return list(self.before().values())

    def settings(self) -> Dict[str, Any]:
        """The settings that the output depends on, by `section.key`."""
        values = all_settings(self.experiment)
        return {name: value for name, value in values.items() if {name, name.rpartition(".")[0]} & {*self.reads}}

    def parts(self) -> Parts:
        """All that the output depends on."""
        return Parts(
            self.verb,
            self.settings(),
            self.code(),
            {role: task.made().get("content") for role, task in self.before().items()},
            fingerprint.tensorflow() if self.computes else "",
        )

    def code(self) -> Dict[str, str]:
        """Digests of the code that the stage uses, by function."""
        return fingerprint.code(STAGES[self.verb].function, self.root)

    def output(self) -> Artifact:
        """`<workspace>/artifacts/<stage>/<key>`."""
        parts = self.parts()
        known = None not in parts.inputs.values()
        return Artifact(self.folder / fingerprint.key(parts._asdict()) if known else None)

    @property
    def folder(self) -> Path:
        """Where all outputs of this stage are."""
        return self.root / "artifacts" / self.task_family

    def made(self) -> Dict[str, Any]:
        """The manifest of the output; empty while it, or an input, is not there, not what it should be, or to be forced."""
        if not self._made:
            folder = self.output().folder
            try:
                made = outputs.read_manifest(folder) if folder and not outputs.problem(folder) else {}
            except StageError as error:
                end(error, SCHEDULING_FAILED)
            if not self.force or made.get("run") == self._run:
                self._made = made
        return self._made

    def forget(self) -> None:
        """Looks for the output again when it is asked for next."""
        self._made = {}

    def complete(self) -> bool:
        """Whether the output is there, made of the inputs that are there, by the code that is there."""
        return bool(self.made())

    def reason(self) -> str:
        """Why it has to run, in words."""
        if self.force:
            return "--force"
        folder = self.output().folder
        if folder and os.path.lexists(str(folder)):
            return outputs.problem(folder)
        if folder and (building(folder) / outputs.CLAIMS).exists():
            return "it was begun by several processes"
        if folder and building(folder).exists():
            return "it was interrupted"
        if folder and configuration_of(folder).exists():
            return "output missing"
        parts = self.parts()
        before = reasons.nearest(parts, reasons.made_before(self.folder))
        changes = list(reasons.differences(parts, reasons.of_manifest(before))) if before else ["never run"]
        waits = [task.name for task in self.before().values() if not task.made()]
        if waits and not changes:
            words = "{} runs first; kept if its output stays the same"
            if len(waits) > 1:
                words = words.replace("runs", "run").replace("its output stays", "their outputs stay")
            changes = [words.format(" and ".join(waits))]
        return reasons.in_words(changes)

    def run(self) -> None:
        """Makes the output, unless it turns out to be there.

        Raises:
          StageError: the stage failed, an input is not what it was, or the workspace cannot be written.
          DeviceBusyError: another process has the device.
        """
        self.make(self)

    def make(self, task: luigi.Task, part: str = "") -> None:
        """Makes the output, or a part of it: those shards that no other process is at.

        Args:
          task: what Luigi runs.
          part: what the part is called; "" is all that is left.

        Raises:
          StageError, DeviceBusyError: as `run`.
        """
        process: Any = multiprocessing.current_process()
        if isinstance(process, TaskProcess):  # Luigi forked
            processes.die_with_parent(process._parent_pid)
        name = " ".join(filter(None, [self.name, part]))
        try:
            with contextlib.ExitStack() as stack:
                for before in self.before().values():
                    before.hold(stack)
                parts, folder = self.parts(), self.output().folder
                assert folder is not None
                self.link(folder)
                folder.parent.mkdir(parents=True, exist_ok=True)
                what = f"{name} {folder}"
                lock = stack.enter_context(locks.lock(lock_of(folder), what, _LOCK_SECONDS, shared=bool(part)))
                if self.force or outputs.problem(folder):
                    held = [lock, *self.hold_devices(stack)]
                    self._expect(parts, "it waited for other runs")
                    self._make(folder, held, task, part)
                    _say(f"{name}: done: {folder}")
                else:
                    _say(f"{name}: inputs, settings and code are those of an earlier run: {folder}")
        except OSError as error:
            raise StageError(f"{error.filename or self.folder}: cannot be written: {error.strerror}") from error
        self.forget()
        fingerprint.remember(self.root)
        self._expect(parts, "it ran; what it made is kept for what that was")

    def _expect(self, parts: Parts, meanwhile: str) -> None:
        """Raises a StageError if the stage depends on something else now than at first, on `parts`."""
        fingerprint.forget()
        changes = list(reasons.differences(self.parts(), parts))
        if changes:
            words = "{}: {} while {}; start again"
            raise StageError(words.format(self.name, reasons.in_words(changes), meanwhile))

    def hold(self, stack: contextlib.ExitStack) -> None:
        """Has nobody replace or remove the output until `stack` ends, and looks at all of it anew.

        Raises:
          StageError: it is not what its manifest says.
        """
        self.forget()
        folder, found = self.output().folder, "output missing"
        if folder:
            stack.enter_context(locks.lock(lock_of(folder), str(folder), _LOCK_SECONDS, shared=True))
            found = outputs.problem(folder, thorough=True)
        if not folder or found:
            outputs.forget(folder or self.folder)
            raise StageError(f"{folder or self.task_family}: {found}; start again, and it is made again")
        outputs.remember(folder)

    def hold_devices(self, stack: contextlib.ExitStack) -> List[int]:
        """Locks the devices that the stage has for itself until `stack` ends; returns the locks' descriptors."""
        return []

    def _make(self, folder: Path, held: List[int], task: luigi.Task, part: str) -> None:
        """Runs the stage, or a part of it, in a child process that holds the locks `held` as well."""
        words = list(filter(None, [self.verb, part.replace(" ", "-"), folder.name]))
        why, log = self.reason(), self.root / "logs" / "{}.log".format("-".join(words))
        _say("{}: started: {} (log: {})".format(" ".join(filter(None, [self.name, part])), why, log))
        _tell(task.set_tracking_url, log.as_uri())
        parts = self.parts()
        covers = {"settings": parts.settings, "code": parts.code, "tensorflow": parts.tensorflow}
        facts = folder.with_name(folder.name + ".facts.json")
        code_hash = fingerprint.key(parts.code)
        outputs.write_json(configuration_of(folder), redact_config(self.experiment))
        known = {"key": folder.name, "run": self._run, "why": why, "code": code_hash, "covers": covers}
        outputs.write_json(facts, known)
        command = [sys.executable, "-m", "fse", self.verb, "--config", str(configuration_of(folder))]
        for role, before in self.before().items():
            command += ["--" + flag_of(role), str(before.output().folder)]
        command += ["--output", str(folder), "--facts", str(facts), "--share" if part else "--replace"]
        child_process.run(command, log, _progress(task), held, environment=self.untold())

    def untold(self) -> Dict[str, str]:
        """Environment variables that tell the child what nobody else is to see."""
        return {}

    def link(self, folder: Path) -> None:
        """Leads from the experiment to the output, before it is there: so Clean knows that it is wanted."""
        point(self.root / self.experiment.experiment.name / "stages" / self.name, folder)


def _progress(task: luigi.Task) -> Any:
    """A function that shows the progress in a line of a child's output on the scheduler's page."""
    last = [0.0]

    def show(line: str) -> None:
        found = re.search(r"(\d+)%\|", line)
        if found and time.monotonic() - last[0] >= 1.0:
            last[0] = time.monotonic()
            _tell(task.set_progress_percentage, int(found.group(1)))
            _tell(task.set_status_message, line)

    return show


def _tell(setter: Any, value: Any) -> None:
    """Luigi has these setters while it runs a task, and they fail when the central scheduler is away."""
    if setter is not None:
        with contextlib.suppress(RPCError):
            setter(value)


def all_settings(experiment: Config) -> Dict[str, Any]:
    """The configuration by `section.key`, as JSON values."""
    tables = as_tables(experiment)
    return {f"{section}.{key}": value for section in tables for key, value in tables[section].items()}


def lock_of(folder: Path) -> Path:
    """The lock file of an output."""
    return folder.with_name(folder.name + ".lock")


def building(folder: Path) -> Path:
    """Where an output is made."""
    return folder.with_name(folder.name + ".building")


def configuration_of(folder: Path) -> Path:
    """The configuration with which an output was begun."""
    return folder.with_name(folder.name + ".json")


def need(tasks: List[StageTask]) -> None:
    """Raises a StageError if the output of one is not there, though Luigi believes that it was made."""
    missing = sorted({task.name for task in tasks if not task.complete()})
    if missing:
        words = "{}: made by other code or of other data than are here now, or removed meanwhile; start again"
        raise StageError(words.format(", ".join(missing)))


def point(link: Path, target: Path) -> None:
    """Makes a relative symbolic link, in place of another."""
    if link.is_symlink() and os.readlink(str(link)) == os.path.relpath(str(target), str(link.parent)):
        return
    link.parent.mkdir(parents=True, exist_ok=True)
    temporary = link.with_name(f"{link.name}.{socket.gethostname()}-{os.getpid()}.new")
    with contextlib.suppress(FileNotFoundError):
        temporary.unlink()
    temporary.symlink_to(os.path.relpath(str(target), str(link.parent)))
    os.replace(str(temporary), str(link))


def end(error: FseError, code: int) -> NoReturn:
    """Ends the program on Luigi's command line; elsewhere raises the error."""
    if CmdlineParser.get_instance() is None:
        raise error
    print(f"error: {error}", file=sys.stderr)
    raise SystemExit(code) from None


@StageTask.event_handler(luigi.Event.DEPENDENCY_PRESENT)
def _say_complete(task: StageTask) -> None:
    for other in [*task.before().values(), task]:
        outputs.remember(other.folder / str(other.made()["key"]))
    fingerprint.remember(task.root)
    with contextlib.suppress(OSError):
        task.link(task.folder / str(task.made()["key"]))
    _say(f"{task.name}: already done: {task.output().folder}")


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


@functools.lru_cache(maxsize=None)
def _load(path: str, overrides: str) -> Config:
    experiment = configuration.load(path or None, overrides)
    if {experiment.dataset.name, configuration.for_evaluation(experiment).dataset.name} != {"synthetic"}:
        from fse.datasets import registry

        registry.check(experiment)
    return experiment


def metrics_of(folder: Path) -> Dict[str, Any]:
    """The contents of an evaluation's `metrics.json`."""
    return dict(json.loads((folder / "metrics.json").read_text()))
