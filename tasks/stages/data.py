"""The stages that prepare images: Download, AlignCrop and ConvertTFRecord, and the shares of several hosts in them."""

import json
import os
import sys
from typing import Any, Dict, List, cast

import luigi

from fse.config import Config, for_evaluation, is_remote
from fse.stages import EVALUATION_SUFFIX
from tasks.caching import fingerprint
from tasks.experiment_task import ExperimentTask
from tasks.stages.stage_task import StageTask

# Values of `DataTask.data`.
TRAIN, EVALUATE = "train", "evaluate"


class Archive(luigi.ExternalTask):
    """A local archive, folder or checkpoint that no task can make."""

    path = luigi.Parameter()
    advice = luigi.Parameter(default="", significant=False)

    def output(self) -> luigi.LocalTarget:
        """Return the file or folder."""
        return luigi.LocalTarget(self.path)


@Archive.event_handler(luigi.Event.DEPENDENCY_MISSING)
def _report_missing(task: Archive) -> None:
    message = task.advice or f"dataset.archive: {task.path}: no such file or folder"
    print(f"error: {message}", file=sys.stderr, flush=True)


class DataTask(StageTask):
    """A stage that prepares images, either those to train on or those to evaluate on.

    If both are the same, FullRun has one task and one output.
    """

    data = luigi.ChoiceParameter(
        default=TRAIN,
        choices=[TRAIN, EVALUATE],
        description="the images to train on, or the images to evaluate on",
    )
    # Prepare the images to evaluate on before training starts: missing or broken files show at once, not days later.
    priority = 1

    @property
    def experiment(self) -> Config:
        """The checked configuration, with the data set and the crop that `data` chooses."""
        return for_evaluation(super().experiment) if self.data == EVALUATE else super().experiment

    @property
    def name(self) -> str:
        """The stage's name, with a suffix for the images to evaluate on."""
        return super().name + (EVALUATION_SUFFIX if self.data == EVALUATE else "")

    def upstream(self) -> Dict[str, StageTask]:
        """Return the upstream stage for the same images."""
        return {task_class.verb: self.sibling(task_class, data=self.data) for task_class in self.inputs}


class ShardedTask(DataTask):
    """A stage whose shards several hosts can make."""

    def requires(self) -> List[luigi.Task]:
        """Return the upstream stages and one `HostShare` per host.

        The shares run first. The stage then makes the shards that are left, and publishes the output. A forced stage runs
        on one host.
        """
        shares = range(1, self.hosts + 1) if self.hosts > 1 and not self.force else ()
        return [
            *super().requires(),
            *(self.sibling(HostShare, stage=self.verb, data=self.data, number=number) for number in shares),
        ]


class Download(DataTask):
    """Downloads or imports a data set into the workspace, or renders the synthetic one."""

    verb = "download"

    @property
    def resources(self) -> Dict[str, int]:
        """One download per host at a time: both data sets of an experiment may use the same files."""
        return {f"download-{os.uname().nodename}": 1}

    def requires(self) -> List[luigi.Task]:
        """Return a local archive, or the files of a known data set that the user must download."""
        dataset = self.experiment.dataset
        if dataset.name == "synthetic" or is_remote(dataset.archive):
            return []
        if dataset.archive:
            return [Archive(path=os.fspath(fingerprint.local_path(dataset.archive)))]
        missing = fingerprint.missing_files(self.experiment)
        return [Archive(path=path, advice=advice) for path, advice in missing.items()]

    def settings(self) -> Dict[str, Any]:
        """Return the identity of the data set. Where its files are does not count."""
        return fingerprint.dataset_identity(self.experiment, self.root)

    def secret_env(self) -> Dict[str, str]:
        """Return the URLs with their queries, which may hold tokens, as `--set` in FSE_SET."""
        archive, mirrors = self.experiment.dataset.archive, list(self.experiment.download.mirrors)
        values = {"dataset.archive": archive if is_remote(archive) else "", "download.mirrors": mirrors}
        overrides = [f"{name}={json.dumps(value)}" for name, value in values.items() if value]
        return {"FSE_SET": ",".join(overrides)} if overrides else {}


class AlignCrop(ShardedTask):
    """Crops every image to the same size and transforms the landmarks accordingly."""

    verb = "align-crop"
    config_keys = ("crop",)
    inputs = (Download,)

    def settings(self) -> Dict[str, Any]:
        """Return the crop's geometry. The number of processes and `reads_test_annotations` do not change the output."""
        settings = super().settings()
        del settings["crop.processes"], settings["crop.reads_test_annotations"]
        if settings["crop.mode"] == "landmarks":
            settings["evaluate.eyes"] = list(self.experiment.evaluate.eyes)
        return settings


class ConvertTFRecord(ShardedTask):
    """Packs the crops into TFRecord shards."""

    verb = "convert"
    config_keys = ("records",)
    inputs = (AlignCrop,)

    def settings(self) -> Dict[str, Any]:
        """Return the number of shards. The number of processes does not change the output."""
        settings = super().settings()
        del settings["records.processes"]
        return settings


class HostShare(ExperimentTask):
    """A host's share of a stage: it makes shards that no other host is making, until none is left."""

    stage = luigi.Parameter()
    data = luigi.Parameter()
    number = luigi.IntParameter()

    priority = DataTask.priority
    _done = False

    @property
    def stage_task(self) -> ShardedTask:
        """The stage."""
        classes = {task_class.verb: task_class for task_class in (AlignCrop, ConvertTFRecord)}
        return cast(ShardedTask, self.sibling(classes[self.stage], data=self.data))

    @property
    def resources(self) -> Dict[str, int]:
        """One share of a stage per host at a time: a share keeps its host busy, and the others are for other hosts."""
        return {f"{self.stage_task.name}-{os.uname().nodename}": 1}

    def requires(self) -> List[luigi.Task]:
        """Return the upstream stages of the stage."""
        return list(self.stage_task.upstream().values())

    def complete(self) -> bool:
        """Return whether the share ran in this process, or the stage is complete."""
        return self._done or self.stage_task.complete()

    def run(self) -> None:
        """Make shards.

        Raises:
          StageError: as for the stage.
        """
        self.stage_task.produce(self, f"part {self.number}")
        self._done = True
