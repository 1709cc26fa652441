"""The base of all tasks: common parameters, artefacts by key, running a stage of `fse` in a child process."""

import functools
import json
import sys
from pathlib import Path
from typing import Any, Dict, List, Tuple

import filelock
import luigi
from luigi.cmdline_parser import CmdlineParser

from fse import config as configuration
from fse.config import Config, as_tables
from fse.errors import ConfigError, FseError, StageError
from fse.outputs import MANIFEST, write_json
from fse.stages import STAGES
from tasks import children, fingerprint

# Exit code of `luigi` for a configuration that cannot be meant.
BAD_CONFIGURATION = 45

# Another run that makes the same artefact is waited for: a training may take days, but not for ever.
_LOCK_SECONDS = 7 * 24 * 3600


class Settings(luigi.Task):
    """A task of one experiment.

    A mistake in the configuration ends the program here, before anything is scheduled.
    """

    config = luigi.Parameter(default="", description="experiment file, or name of a shipped one (default: synthetic)")
    set = luigi.Parameter(default="", description="settings that override the file's: section.key=value,…")
    workspace = luigi.Parameter(default="workspace", description="folder of all outputs")

    def __init__(self, *arguments: Any, **parameters: Any):
        """Takes Luigi's parameters.

        Raises:
          ConfigError: the configuration cannot be meant. On Luigi's command line it ends the program instead.
        """
        super().__init__(*arguments, **parameters)
        try:
            self.experiment  # noqa: B018 (a mistake shows when it is read)
        except ConfigError as error:
            if CmdlineParser.get_instance() is None:
                raise
            print("error: {}".format(error), file=sys.stderr)
            raise SystemExit(BAD_CONFIGURATION) from None

    @property
    def experiment(self) -> Config:
        """The checked configuration."""
        return _load(self.config, self.set)

    @property
    def root(self) -> Path:
        """The workspace, absolute."""
        return Path(self.workspace).absolute()

    def on_failure(self, exception: BaseException) -> str:
        """What the scheduler's page shows: a user's mistake needs no traceback."""
        return str(exception) if isinstance(exception, FseError) else super().on_failure(exception)


class Artifact(luigi.Target):
    """A stage's output folder; it exists when its manifest does, which is written before the folder gets its name."""

    def __init__(self, folder: Path):
        """`folder` is where it is, or will be."""
        self.folder = folder

    def exists(self) -> bool:
        """Whether it is whole."""
        return (self.folder / MANIFEST).is_file()


class StageTask(Settings):
    """One stage of the pipeline: `fse VERB` in a child process, into a folder named by what the output depends on."""

    verb = ""
    # Sections of the configuration that the stage reads and no stage before it does.
    sections: Tuple[str, ...] = ()
    # The stages whose outputs it reads, in the order of `STAGES[verb].inputs`.
    inputs: Tuple[Any, ...] = ()
    # Whether TensorFlow computes its output.
    computes = False

    def requires(self) -> List["StageTask"]:
        """The stages before it, of the same experiment."""
        return [self.clone(kind) for kind in self.inputs]

    def output(self) -> Artifact:
        """`<workspace>/artifacts/<stage>/<key>`."""
        return Artifact(self.root / "artifacts" / type(self).__name__ / self.key)

    @property
    def key(self) -> str:
        """Identity of the output: what the stage reads of the configuration, its code, and its inputs' identities."""
        if not hasattr(self, "_key"):
            self._key = fingerprint.key(
                {
                    "stage": self.verb,
                    "settings": self.identity(),
                    "code": fingerprint.code(STAGES[self.verb].function.split(":")[0]),
                    "inputs": [task.key for task in self.requires()],
                    "tensorflow": fingerprint.tensorflow_version() if self.computes else "",
                }
            )
        return self._key

    def identity(self) -> Dict[str, Any]:
        """The settings that the output depends on."""
        tables = as_tables(self.experiment)
        return {section: tables[section] for section in self.sections}

    def run(self) -> None:
        """Makes the artefact, unless another run has made it meanwhile.

        Raises:
          StageError: the stage failed, or the workspace cannot be written.
        """
        folder = self.output().folder
        log = self.root / "logs" / "{}-{}.log".format(self.verb, self.key)
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            lock = filelock.FileLock(str(folder) + ".lock", timeout=_LOCK_SECONDS)
            with lock:
                if not self.complete():
                    _say("{}: started (log: {})".format(self.task_family, log))
                    children.run(self._command(folder), log)
            _say("{}: done: {}".format(self.task_family, folder))
        except OSError as error:
            raise StageError("{}: cannot be written: {}".format(error.filename or folder, error.strerror)) from error

    def _command(self, folder: Path) -> List[str]:
        settings = folder.with_name(folder.name + ".json")
        write_json(settings, as_tables(self.experiment))
        command = [sys.executable, "-m", "fse", self.verb, "--config", str(settings)]
        for verb, target in zip(STAGES[self.verb].inputs, self.input()):
            command += ["--" + STAGES[verb].flag, str(target.folder)]
        return [*command, "--output", str(folder), "--key", self.key]


@StageTask.event_handler(luigi.Event.DEPENDENCY_PRESENT)
def _say_complete(task: StageTask) -> None:
    _say("{}: already done: {}".format(task.task_family, task.output().folder))


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


@functools.lru_cache(maxsize=None)
def _load(path: str, overrides: str) -> Config:
    return configuration.load(path or None, overrides)


def metrics_of(folder: Path) -> Dict[str, Any]:
    """The contents of an evaluation's `metrics.json`."""
    return dict(json.loads((folder / "metrics.json").read_text()))
