"""The stage that learns landmarks."""

import contextlib
import os
from dataclasses import replace
from pathlib import Path
from typing import Any, Dict, List

import luigi

from fse.config import Config
from fse.distributed import ranks
from fse.errors import ConfigError
from fse.runtime import locks
from fse.training import checkpoint_paths
from tasks.caching import fingerprint
from tasks.exit_codes import BAD_CONFIGURATION, exit_or_raise
from tasks.stages.data import Archive, ConvertTFRecord
from tasks.stages.stage_task import StageTask

# Settings that choose where the ranks run and how long they wait. They do not change the output.
_PLACEMENT = ("devices", "hosts", "rank_table", "connect_timeout", "step_timeout")


class Train(StageTask):
    """Learns landmarks from warped pairs of images. An interrupted training resumes from its newest valid checkpoint."""

    device_wait = luigi.IntParameter(
        default=3600, significant=False, description="seconds to wait for a device that another training uses"
    )

    verb = "train"
    config_keys = ("augment", "network", "loss", "train", "npu", "crop.size")
    inputs = (ConvertTFRecord,)
    uses_tensorflow = True

    @property
    def experiment(self) -> Config:
        """The checked configuration. `train.init_from` is a path here, also if it names an experiment of the workspace."""
        experiment = super().experiment
        start = experiment.train.init_from
        if not start or "/" in start:
            return experiment
        return replace(experiment, train=replace(experiment.train, init_from=str(self.root / start)))

    def requires(self) -> List[luigi.Task]:
        """Return the records, and the checkpoint of `train.init_from` if it is missing."""
        start = self.experiment.train.init_from
        if not start or checkpoint_paths.resolve_checkpoint(start):
            return super().requires()
        path = os.fspath(Path(start, "checkpoint model-…"))
        return [*super().requires(), Archive(path=path, advice=checkpoint_paths.missing_message(start))]

    def settings(self) -> Dict[str, Any]:
        """Return all that training depends on, with the content of the checkpoint that it starts from.

        The number of ranks counts; where they run does not.

        Raises:
          ConfigError: the ranks are invalid. On Luigi's command line the program exits instead.
        """
        settings = super().settings()
        for name in _PLACEMENT:
            del settings["train." + name]
        start = settings.pop("train.init_from")
        if start:
            settings["content of train.init_from"] = fingerprint.checkpoint_identity(start, self.root)
        if self.experiment.train.device != "npu":
            settings = {name: value for name, value in settings.items() if not name.startswith("npu.")}
        try:
            return dict(settings, ranks=ranks.rank_count(self.experiment.train))
        except ConfigError as error:
            exit_or_raise(error, BAD_CONFIGURATION)

    @property
    def resources(self) -> Dict[str, int]:
        """One training per kind of device and host, among the workers of one scheduler."""
        return {f"{self.experiment.train.device}-{os.uname().nodename}": 1}

    def lock_devices(self, stack: contextlib.ExitStack) -> List[int]:
        """Lock the cards against all other trainings of this host; return the locks' descriptors.

        Raises:
          DeviceBusyError: another process still uses a card after `device_wait` seconds.
        """
        train = self.experiment.train
        return stack.enter_context(locks.lock_devices(train.device, ranks.topology(train).devices, self.device_wait))
