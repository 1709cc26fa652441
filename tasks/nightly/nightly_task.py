"""The base of the nightly's Luigi tasks: common parameters, and the nightly's configuration, folder and history."""

from pathlib import Path

import luigi

from fse.config import Config
from tasks.experiment_task import ExperimentTask, OverridesParameter
from tasks.nightly.config import NightlyConfig, load
from tasks.nightly.history import History


class NightlyTask(ExperimentTask):
    """A task of a nightly."""

    # Luigi's range tasks set the first positional parameter, so the date must come first.
    date = luigi.DateParameter(description="date of the night, as in 2026-11-23")
    config = luigi.Parameter(default="nightly", description="the nightly's file, or the name of a shipped nightly")
    set = OverridesParameter(default="", description="settings that override those of every run: section.key=value,…")
    workspace = luigi.Parameter(default="workspace", description="folder of all outputs")

    @property
    def nightly_config(self) -> NightlyConfig:
        """The checked configuration of the nightly."""
        return load(self.config)

    @property
    def experiment(self) -> Config:
        """The configuration of the first run. All runs are checked, so an error in any run is reported."""
        return self.nightly_config.experiments(self.set)[0]

    @property
    def folder(self) -> Path:
        """The folder of the nightly's history, page and verdicts."""
        return self.root / "nightly" / self.nightly_config.nightly.name

    def history(self) -> History:
        """Open the nightly's history."""
        return History(self.folder / "history.sqlite")
