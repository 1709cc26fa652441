"""The tasks of the pipeline, one per stage, and `FullRun`, which asks for all of them."""

import contextlib
import json
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, Dict, List, cast

import luigi

from fse.config import Config, evaluates_other_data, for_evaluation, is_remote, redact_url
from fse.distributed import ranks
from fse.errors import ConfigError, StageError
from fse.runtime import locks
from fse.runtime.outputs import MANIFEST
from fse.stages import EVALUATED
from fse.training import checkpoint_paths
from tasks.caching import fingerprint
from tasks.stages.stage_task import BAD_CONFIGURATION, Settings, StageTask, all_settings, end, metrics_of, need, point

# Values of `DataTask.data`.
TRAIN, EVALUATE = "train", "evaluate"


class Archive(luigi.ExternalTask):
    """An archive or folder of images on this machine, which nothing here can make."""

    path = luigi.Parameter()
    advice = luigi.Parameter(default="", significant=False)

    def output(self) -> luigi.LocalTarget:
        """The archive."""
        return luigi.LocalTarget(self.path)


@Archive.event_handler(luigi.Event.DEPENDENCY_MISSING)
def _say_missing(task: Archive) -> None:
    told = task.advice or f"dataset.archive: {task.path}: no such file or folder"
    print(f"error: {told}", file=sys.stderr, flush=True)


class DataTask(StageTask):
    """A stage that brings or prepares images, to train on or to evaluate on.

    Where these are the same, it is one task and one output.
    """

    data = luigi.ChoiceParameter(
        default=TRAIN, choices=[TRAIN, EVALUATE], description="of what is trained on, or of what is evaluated on"
    )
    # What is missing or broken of the data that are evaluated on shows before a training of days, not after it.
    priority = 1

    @property
    def experiment(self) -> Config:
        """The checked configuration, with the data set and crop that `data` says."""
        return for_evaluation(super().experiment) if self.data == EVALUATE else super().experiment

    @property
    def name(self) -> str:
        """The stage; of what is evaluated on it says so."""
        return super().name + (EVALUATED if self.data == EVALUATE else "")

    def before(self) -> Dict[str, StageTask]:
        """The stage before it, with the same data."""
        return {kind.verb: self.other(kind, data=self.data) for kind in self.inputs}


class SharedTask(DataTask):
    """One whose shards several hosts may make."""

    def requires(self) -> List[luigi.Task]:
        """The stage before it; the parts that hosts take, before it makes what is left and one output of all.

        To force it is to have one host do it.
        """
        parts = range(1, self.hosts + 1) if self.hosts > 1 and not self.force else ()
        return [
            *super().requires(),
            *(self.other(Part, stage=self.verb, data=self.data, part=part) for part in parts),
        ]


class Download(DataTask):
    """Brings a data set into the workspace, or renders the synthetic one."""

    verb = "download"

    @property
    def resources(self) -> Dict[str, int]:
        """One at a time on a host: what is trained on and what is evaluated on may be made of the same files."""
        return {f"download-{os.uname().nodename}": 1}

    def requires(self) -> List[luigi.Task]:
        """The archive, if it is a local one; the files of a known data set that have to be fetched by hand."""
        dataset = self.experiment.dataset
        if dataset.name == "synthetic" or is_remote(dataset.archive):
            return []
        if dataset.archive:
            return [Archive(path=str(fingerprint.local(dataset.archive)))]
        return [Archive(path=path, advice=advice) for path, advice in fingerprint.missing(self.experiment).items()]

    def settings(self) -> Dict[str, Any]:
        """What the data set is, not where it comes from."""
        return fingerprint.dataset(self.experiment, self.root)

    def untold(self) -> Dict[str, str]:
        """Addresses with their queries, which the stage's file of settings does not have."""
        archive, mirrors = self.experiment.dataset.archive, list(self.experiment.download.mirrors)
        values = {"dataset.archive": archive if is_remote(archive) else "", "download.mirrors": mirrors}
        told = [f"{name}={json.dumps(value)}" for name, value in values.items() if value]
        return {"FSE_SET": ",".join(told)} if told else {}


class AlignCrop(SharedTask):
    """Cuts a square of one size out of every image and carries the landmarks along."""

    verb = "align-crop"
    reads = ("crop",)
    inputs = (Download,)

    def settings(self) -> Dict[str, Any]:
        """The crop's geometry; how many processes work on it, and that it may read what it reads, makes no difference."""
        settings = super().settings()
        del settings["crop.processes"], settings["crop.reads_test_annotations"]
        if settings["crop.mode"] == "landmarks":
            settings["evaluate.eyes"] = list(self.experiment.evaluate.eyes)
        return settings


class ConvertTFRecord(SharedTask):
    """Packs the crops into TFRecord shards."""

    verb = "convert"
    reads = ("records",)
    inputs = (AlignCrop,)

    def settings(self) -> Dict[str, Any]:
        """How many shards there are; how many processes write them makes no difference."""
        settings = super().settings()
        del settings["records.processes"]
        return settings


class Part(Settings):
    """A host's share in a stage: shards that no other host is at, until there are none. The stage does what is left."""

    stage = luigi.Parameter()
    data = luigi.Parameter()
    part = luigi.IntParameter()

    priority = DataTask.priority
    _done = False

    @property
    def whole(self) -> SharedTask:
        """The stage."""
        kinds = {kind.verb: kind for kind in (AlignCrop, ConvertTFRecord)}
        return cast(SharedTask, self.other(kinds[self.stage], data=self.data))

    @property
    def resources(self) -> Dict[str, int]:
        """One of a stage on a host, which it keeps busy; another is for another host."""
        return {f"{self.whole.name}-{os.uname().nodename}": 1}

    def requires(self) -> List[luigi.Task]:
        """The stage before the stage."""
        return list(self.whole.before().values())

    def complete(self) -> bool:
        """Whether it was run, or there is nothing left to share."""
        return self._done or self.whole.complete()

    def run(self) -> None:
        """Makes shards.

        Raises:
          StageError: as the stage.
        """
        self.whole.make(self, f"part {self.part}")
        self._done = True


class Train(StageTask):
    """Learns landmarks on warped pairs, in a child process that resumes from its newest valid checkpoint."""

    device_wait = luigi.IntParameter(
        default=3600, significant=False, description="seconds to wait for a device that another training has"
    )

    verb = "train"
    reads = ("augment", "network", "loss", "train", "npu", "crop.size")
    inputs = (ConvertTFRecord,)
    computes = True

    @property
    def experiment(self) -> Config:
        """The checked configuration; an experiment of the workspace to start from by its path."""
        experiment = super().experiment
        start = experiment.train.init_from
        if not start or "/" in start:
            return experiment
        return replace(experiment, train=replace(experiment.train, init_from=str(self.root / start)))

    def requires(self) -> List[luigi.Task]:
        """The records, and the checkpoint to start from."""
        start = self.experiment.train.init_from
        if not start or checkpoint_paths.resolve_checkpoint(start):
            return super().requires()
        return [
            *super().requires(),
            Archive(path=str(Path(start, "checkpoint model-…")), advice=checkpoint_paths.missing(start)),
        ]

    def settings(self) -> Dict[str, Any]:
        """All that it learns by, with the content of what it starts from.

        Of the ranks it is their number, not where they are or how long one may wait for them.

        Raises:
          ConfigError: the ranks cannot be meant. On Luigi's command line it ends the program instead.
        """
        settings = super().settings()
        for name in ("devices", "hosts", "rank_table", "connect_timeout", "step_timeout"):
            del settings["train." + name]
        start = settings.pop("train.init_from")
        if start:
            settings["content of train.init_from"] = fingerprint.start(start, self.root)
        if self.experiment.train.device != "npu":
            settings = {name: value for name, value in settings.items() if not name.startswith("npu.")}
        try:
            return dict(settings, ranks=ranks.size(self.experiment.train))
        except ConfigError as error:
            end(error, BAD_CONFIGURATION)

    @property
    def resources(self) -> Dict[str, int]:
        """One training per device at a time, as far as one scheduler knows."""
        return {f"{self.experiment.train.device}-{os.uname().nodename}": 1}

    def hold_devices(self, stack: contextlib.ExitStack) -> List[int]:
        """One training per card at a time, whoever started it."""
        train = self.experiment.train
        return stack.enter_context(locks.devices(train.device, ranks.team(train).devices, self.device_wait))


class Export(StageTask):
    """Freezes the detector and checks it against its checkpoint."""

    verb = "export"
    reads = ("network", "crop.mode", "crop.size", "crop.scale", "train.ema_decay", "export")
    inputs = (Train, ConvertTFRecord)
    computes = True


class Evaluate(StageTask):
    """Measures the exported detector on annotated images, upright and warped."""

    verb = "evaluate"
    reads = ("augment", "network", "evaluate", "report.examples")
    inputs = (Export, Train, ConvertTFRecord)
    computes = True

    def __init__(self, *arguments: Any, **parameters: Any):
        """Takes Luigi's parameters.

        Raises:
          ConfigError: what is to be evaluated on has no test images. On Luigi's command line it ends the program
            instead.
        """
        super().__init__(*arguments, **parameters)
        try:
            if for_evaluation(self.experiment).dataset.name != "synthetic":
                from fse.datasets import registry

                registry.check_evaluation(self.experiment)
        except ConfigError as error:
            end(error, BAD_CONFIGURATION)

    def before(self) -> Dict[str, StageTask]:
        """Model, training, and the records that are evaluated on."""
        data = EVALUATE if evaluates_other_data(self.experiment) else TRAIN
        return dict(super().before(), convert=self.other(ConvertTFRecord, data=data))


class Report(StageTask):
    """Writes one page that shows configuration, data, losses, landmarks, errors and times."""

    verb = "report"
    inputs = (Download, AlignCrop, ConvertTFRecord, Train, Export, Evaluate)

    def before(self) -> Dict[str, StageTask]:
        """All stages, and those of what is evaluated on where it is not what is trained on."""
        found = super().before()
        if evaluates_other_data(self.experiment):
            kinds = (Download, AlignCrop, ConvertTFRecord)
            found.update((kind.verb + EVALUATED, self.other(kind, data=EVALUATE)) for kind in kinds)
        return found

    def settings(self) -> Dict[str, Any]:
        """All of them, since the page lists them; of archives their names, so that the key is the same anywhere."""
        settings = all_settings(self.experiment)
        for name in {"dataset.archive", "evaluate.dataset.archive"} & {*settings}:
            settings[name] = Path(redact_url(settings[name])).name
        settings["train.init_from"] = Path(settings["train.init_from"]).name
        settings["download.data_path"] = settings["download.mirrors"] = ""
        return settings


class FullRun(Settings):
    """Every stage; afterwards `<workspace>/<experiment>/` leads to the results."""

    def requires(self) -> List[StageTask]:
        """All stages: one whose output was lost is run again though the report is there."""
        return list(self.stages().values())

    def complete(self) -> bool:
        """Whether every stage is complete and the experiment's folder leads to its results."""
        if not all(task.complete() for task in self.stages().values()):
            return False
        return all(os.path.realpath(str(link)) == os.path.realpath(str(to)) for link, to in self._links().items())

    def run(self) -> None:
        """Points `<workspace>/<experiment>/` at the results.

        Raises:
          StageError: a result is not there, or the workspace cannot be written.
        """
        need(list(self.stages().values()))
        try:
            for link, target in self._links().items():
                point(link, target)
        except OSError as error:
            raise StageError(f"{error.filename}: cannot be written: {error.strerror}") from error

    def summary(self) -> str:
        """The main figures and the path of the report, in a few lines."""
        folder = self.root / self.experiment.experiment.name
        found = metrics_of(folder)
        lines = [""]
        if found["nme"] is not None:
            lines += [
                "error (% of the inter-ocular distance)   upright   warped",
                "  {:<37}{:>9.2f}{:>9.2f}".format("learned landmarks", found["nme"], found["nme_warped"]),
                "  {:<37}{:>9.2f}{:>9.2f}".format(
                    "always the mean shape", found["mean_shape_nme"], found["mean_shape_nme_warped"]
                ),
            ]
        lines += [
            "equivariance error: {:.2f} % of the view's width".format(found["equivariance_error"]),
            "training: {steps} steps in {train_seconds:.0f} s, {train_pairs_per_second:.0f} pairs/s".format(**found),
            "metrics: {}".format(folder / "metrics.json"),
            "report:  {}".format(folder / "report.html"),
        ]
        return "\n".join(lines)

    def stages(self) -> Dict[str, StageTask]:
        """All stages by name, in their order."""
        report = self.other(Report)
        tasks = sorted([*report.before().values(), report], key=lambda task: not isinstance(task, DataTask))
        return {task.name: task for task in tasks}

    def _links(self) -> Dict[Path, Path]:
        folders = {name: task.folder / str(task.made()["key"]) for name, task in self.stages().items()}
        targets = {"stages/" + name: folder for name, folder in folders.items()}
        targets.update(
            {
                "metrics.json": folders["Evaluate"] / "metrics.json",
                "predictions.csv": folders["Evaluate"] / "predictions.csv",
                "report.html": folders["Report"] / "report.html",
                "model": folders["Export"],
                MANIFEST: folders["Report"] / MANIFEST,
            }
        )
        return {self.root / self.experiment.experiment.name / name: target for name, target in targets.items()}


@FullRun.event_handler(luigi.Event.SUCCESS)
@FullRun.event_handler(luigi.Event.DEPENDENCY_PRESENT)
def _print_summary(task: FullRun) -> None:
    print(task.summary(), flush=True)
