"""The base of all tasks: the parameters that name an experiment, and its configuration."""

import functools
from pathlib import Path
from typing import Any

import luigi

from fse import config as configuration
from fse.config import Config
from fse.errors import ConfigError, FseError
from fse.redaction import redact_text
from tasks.exit_codes import BAD_CONFIGURATION, exit_code_of, exit_or_raise, record_exit_code


class OverridesParameter(luigi.Parameter):
    """The parameter `--set`. Luigi's output and its central scheduler see the settings without the queries of URLs."""

    def serialize(self, x: str) -> str:
        """Return the settings without secrets."""
        return redact_text(x)


class ExperimentTask(luigi.Task):
    """A task of one experiment.

    Invalid settings stop the program here, before Luigi schedules anything.

    Raises:
      ConfigError: the configuration is invalid. On Luigi's command line the program exits instead.
    """

    config = luigi.Parameter(
        default="", description="experiment file, or the name of a shipped experiment (default: synthetic)"
    )
    set = OverridesParameter(default="", description="settings that override those of the file: section.key=value,…")
    workspace = luigi.Parameter(default="workspace", description="folder of all outputs")
    hosts = luigi.NumericalParameter(
        default=1,
        var_type=int,
        min_value=1,
        max_value=65,  # exclusive
        positional=False,  # Luigi's range tasks take the first positional parameter, which must be the nightly's date
        significant=False,
        description="number of hosts that share the shards of AlignCrop and ConvertTFRecord; needs luigid",
    )

    def __init__(self, *arguments: Any, **parameters: Any):
        super().__init__(*arguments, **parameters)
        try:
            self.experiment  # noqa: B018 (the property checks the configuration)
        except ConfigError as error:
            exit_or_raise(error, BAD_CONFIGURATION)

    @property
    def experiment(self) -> Config:
        """The checked configuration."""
        return _load_experiment(self.config, self.set)

    @property
    def root(self) -> Path:
        """The absolute path of the workspace."""
        return Path(self.workspace).absolute()

    def sibling(self, task_class: Any, **parameters: Any) -> Any:
        """Return a task of the same experiment.

        Only the parameters of `ExperimentTask` are passed on. Other parameters come from `parameters`, or from the
        command line under the name of the task (`--Train-force`).
        """
        shared = {name: getattr(self, name) for name, _ in ExperimentTask.get_params()}
        return task_class(**shared, **parameters)

    def on_failure(self, exception: BaseException) -> str:
        """Record the exit code, and return the text for the scheduler's page: a user's mistake needs no traceback."""
        record_exit_code(exit_code_of(exception))
        return str(exception) if isinstance(exception, FseError) else str(super().on_failure(exception))


@functools.lru_cache(maxsize=None)
def _load_experiment(path: str, overrides: str) -> Config:
    experiment = configuration.load(path or None, overrides)
    if {experiment.dataset.name, configuration.for_evaluation(experiment).dataset.name} != {"synthetic"}:
        from fse.datasets import registry  # imports every data set, which the synthetic one does without

        registry.check(experiment)
    return experiment
