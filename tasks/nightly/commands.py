"""The nightly on Luigi's command line: `NightlyRegression`, `AcceptBaseline`, `Bisect`, `ExportHistory`."""

import contextlib
import datetime
import json
import multiprocessing
import os
import shutil
import statistics
import sys
from pathlib import Path
from typing import Any, Dict, Iterable, List, Tuple

import luigi
from luigi.worker import TaskProcess

from fse.config import Config
from fse.doctor import installed
from fse.errors import ConfigError, DataError, FseError, StageError, is_machines
from fse.runtime import locks, outputs, processes
from tasks.caching import fingerprint
from tasks.nightly import alarms, baseline, bisect, environment, night, runner
from tasks.nightly import settings as nightly_file
from tasks.nightly.history import GOOD, History
from tasks.nightly.runner import CODE
from tasks.nightly.settings import Run
from tasks.stages.stage_task import BAD_CONFIGURATION, Command, Overrides, Settings, end, fail_with

# Exit codes of a night's verdict; where there are several, the largest is the worst.
CODES = {night.PASS: 0, night.WARN: 0, night.NO_DATA: 60, night.INFRASTRUCTURE: 61, night.REGRESSION: 62}
ALREADY_RUNNING = 10

# Room on the disk that a night keeps for its own record, verdict and page, should its trainings fill the disk.
_RESERVE_BYTES = 2_000_000

_HIDDEN = luigi.parameter.ParameterVisibility.HIDDEN


class BusyError(StageError):
    """Another process is playing a night of this nightly."""


class VerdictError(StageError):
    """A night is not good; `verdict` says in what way."""

    def __init__(self, verdict: str, words: str):
        """`words` says all of it."""
        super().__init__(words)
        self.verdict = verdict


class _Nightly(Settings):
    """What the commands of the nightly have in common."""

    # First, so that Luigi's range tasks find it.
    date = luigi.DateParameter(description="of the night, as in 2026-11-23")
    config = luigi.Parameter(default="nightly", description="the nightly's file, or the name of a shipped one")
    set = Overrides(default="", description="settings that override every run's: section.key=value,…")
    workspace = luigi.Parameter(default="workspace", description="folder of all outputs")

    @property
    def plan(self) -> nightly_file.Settings:
        """The nightly's file, checked."""
        return nightly_file.load(self.config)

    @property
    def experiment(self) -> Config:
        """The first run's configuration; a mistake in any is a mistake in the nightly."""
        return self.plan.experiments(self.set)[0]

    @property
    def folder(self) -> Path:
        """Where the nightly's history, page and verdicts are."""
        return self.root / "nightly" / self.plan.nightly.name

    def history(self) -> History:
        """The nightly's history."""
        return History(self.folder / "history.sqlite")


class NightlyRegression(_Nightly):
    """Runs all experiments of a nightly, judges them and writes the verdict; run again, it goes on or shows the verdict.

    Afterwards `<workspace>/nightly/<name>/` holds `index.html`, `history.sqlite` and `<date>/verdict.json`.
    """

    def __init__(self, *arguments: Any, **parameters: Any):
        """Takes Luigi's parameters.

        Raises:
          ConfigError: the date is to come, or the configuration cannot be meant. On Luigi's command line it ends the
            program instead.
        """
        super().__init__(*arguments, **parameters)
        if self.date > datetime.date.today() + datetime.timedelta(days=1):  # it may be tomorrow elsewhere
            words = "--date {}: that night is to come; this machine's clock says {}"
            end(ConfigError(words.format(self.date, datetime.date.today())), BAD_CONFIGURATION)

    @property
    def priority(self) -> int:
        """Of several nights the oldest is played first; Luigi takes no priority below that of what asks for the task, 0."""
        return datetime.date.max.toordinal() - self.date.toordinal()

    @property
    def verdict_file(self) -> Path:
        """The verdict; it is there once the night has one."""
        return self.folder / str(self.date) / "verdict.json"

    def complete(self) -> bool:
        """Whether the night has a verdict that playing it again would not change, and people were told."""
        known = self.verdict()
        return known.get("verdict") in night.FINAL and bool(known.get("announced", True))

    @classmethod
    def bulk_complete(cls, parameter_tuples: Iterable[Any]) -> List[Any]:
        """Which of several dates are complete, for Luigi's range tasks."""
        return [date for date in parameter_tuples if cls(date).complete()]

    def verdict(self) -> Dict[str, Any]:
        """What the verdict's file says; empty if there is none."""
        try:
            return dict(json.loads(self.verdict_file.read_text()))
        except (OSError, ValueError):
            return {}

    def run(self) -> None:
        """Plays what is left of the night, and tells of it.

        Raises:
          VerdictError: the night is not good.
          BusyError: another process plays a night of this nightly.
          StageError: history or verdict cannot be written.
        """
        if isinstance(multiprocessing.current_process(), TaskProcess):  # Luigi forked
            processes.die_with_parent(os.getppid())
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with locks.lock(self.folder / "lock", f"nightly {self.folder}", 0.0, error=BusyError):
                reserve(self._reserve)
                try:
                    record = self._play()
                finally:
                    give_back(self._reserve)
        except OSError as error:
            raise StageError(f"{error.filename}: cannot be written: {error.strerror}") from error
        print(summary(record, self.folder), flush=True)
        if record["verdict"] not in GOOD:
            raise VerdictError(record["verdict"], alarms.text(record))

    def on_failure(self, exception: BaseException) -> str:
        """What the scheduler's page shows; sets the exit code."""
        if isinstance(exception, VerdictError):
            fail_with(CODES[exception.verdict])
        elif isinstance(exception, BusyError):
            fail_with(ALREADY_RUNNING)
        elif isinstance(exception, FseError) and is_machines(exception):
            fail_with(CODES[night.INFRASTRUCTURE])
        return super().on_failure(exception)

    @property
    def _reserve(self) -> Path:
        return self.folder / "reserve"

    def _play(self) -> Dict[str, Any]:
        from tasks.nightly import page  # brings Jinja2, which scheduling does without

        plan, history, date = self.plan, self.history(), str(self.date)
        accepted = baseline.read(plan.baselines, plan.nightly.name)
        for closed in night.close_unfinished(history, date):
            self.write_verdict(history.record(closed) or {})
        record = history.record(date)
        if record is None or record["verdict"] not in night.FINAL:
            now = self._circumstances(history)
            record = night.play(plan, date, history, accepted, now, self._run)
        self.write_verdict(record)
        page.write(self.folder, plan, history, accepted)
        for told in alarms.tell(record, history, plan.hooks):
            words = "told {}: {}" if not told.outcome else "could NOT tell {}: {}: {}"
            print(words.format(told.hook, told.state, told.outcome), file=sys.stderr, flush=True)
        forget_old(self.folder, plan.nightly.keep, {entry.date for entry in accepted})
        beat = {
            "time": datetime.datetime.now(datetime.timezone.utc).isoformat(),
            "date": date,
            "verdict": record["verdict"],
        }
        outputs.write_json(Path(plan.nightly.heartbeat or self.folder / "heartbeat"), beat)
        self.write_verdict(record, announced=True)
        return record

    def write_verdict(self, record: Dict[str, Any], announced: bool = False) -> None:
        """Writes `verdict.json`, without the outputs' keys, by which Clean would keep them for ever: links do, for a while.

        announced: whether page, hooks and heartbeat have it; a night that was killed before is asked for again.
        """
        plays = [
            dict(
                play,
                stages={
                    name: {fact: value for fact, value in stage.items() if fact != "key"}
                    for name, stage in play["stages"].items()
                },
            )
            for play in record["plays"]
        ]
        file = self.folder / record["date"] / "verdict.json"
        file.parent.mkdir(parents=True, exist_ok=True)
        outputs.write_json(file, dict(record, plays=plays, announced=announced))

    def _circumstances(self, history: History) -> night.Circumstances:
        plan = self.plan
        reports, ill = self._look() if plan.nightly.doctor else ([], "")
        versions = dict(installed())
        for report in reports:
            versions.update({name: value for name, value in report["versions"].items() if value})
        devices = [experiment.train.device for experiment in plan.experiments(self.set)]
        found = environment.describe(devices, versions)
        commit, clean = environment.commit(CODE)
        good, bad = night.last_good(history, str(self.date)), night.first_bad(history, str(self.date))
        return night.Circumstances(
            found,
            environment.fingerprint(found),
            fingerprint.key([plan.key_parts(), self.set]),
            commit,
            clean,
            environment.commits(CODE, good.get("commit", ""), bad.get("commit", commit)),
            reports,
            ill,
        )

    def _look(self) -> Tuple[List[Dict[str, Any]], str]:
        """What `fse doctor` finds, once for all runs that need the same of the machine; and why one cannot be run."""
        needs: Dict[Any, Run] = {}
        for run, experiment in zip(self.plan.runs, self.plan.experiments(self.set)):
            train = experiment.train
            needs.setdefault((train.device, train.devices, train.hosts, train.rank_table), run)
        wait = self.plan.nightly.device_wait
        looked = [environment.fit(run.config, run.overrides(self.set), self.root, wait) for run in needs.values()]
        return [report for report, _ in looked if report], "; ".join(ill for _, ill in looked if ill)

    def _run(self, run: Run, seed: int, occasion: str) -> night.Played:
        nightly = self.plan.nightly.name  # in the occasion too: two nightlies of a workspace train each for itself
        more = (
            f"train.seed={seed},train.repetition='{nightly} {occasion}',experiment.name='nightly-{nightly}-{run.name}'"
        )
        name = "{}-{}{}".format(run.name, seed, "-repeat" if occasion.endswith("repeat") else "")
        log = self.root / "logs" / f"nightly-{nightly}-{self.date}-{name}.log"
        folder = self.folder / str(self.date) / name
        overrides = run.overrides(",".join(filter(None, (self.set.strip(", "), more))))
        print(f"{occasion}: {run.name}, seed {seed} (log: {log})", file=sys.stderr, flush=True)
        try:
            played = runner.run(run, overrides, self.root, self.plan.nightly.device_wait, log, folder)
        except OSError as error:
            words = f"{error.filename or folder}: cannot be written: {error.strerror}"
            played = night.Played(night.INFRASTRUCTURE, words)
        if played.outcome != "ok":  # perhaps for want of room
            give_back(self._reserve)
        return played


@NightlyRegression.event_handler(luigi.Event.DEPENDENCY_PRESENT)
def _show(task: NightlyRegression) -> None:
    """A night that is over: its verdict again, with its exit code."""
    record = task.verdict()
    print(summary(record, task.folder), flush=True)
    fail_with(CODES[record["verdict"]])


class _Command(_Nightly, Command):
    """A command of the nightly."""

    def complete(self) -> bool:
        """Whether it has been run."""
        return Command.complete(self)


class AcceptBaseline(_Command):
    """Declares the figures of a night to be the normal state, in the text file beside the nightly's."""

    reason = luigi.Parameter(default="", description="why; it is kept in the file")

    def act(self) -> None:
        """Adds the night to the file.

        Raises:
          DataError: there is no such night, it has no figures, or no reason is given.
        """
        record = self.history().record(str(self.date))
        if record is None:
            raise DataError(f"--date {self.date}: {self.folder} has no such night")
        about = environment.in_words(record["environment"])
        accepted = baseline.accept(self.plan.baselines, record, about, self.reason)
        print(f"{self.plan.baselines}: {accepted.date} accepted: {accepted.why}")
        print("commit that file: later nights are compared with it")


class Bisect(_Command):
    """Finds the commit that changed a metric, on the workspace as it is: each commit runs only what it changes."""

    date = luigi.DateParameter(default=datetime.date.min, significant=False, visibility=_HIDDEN)
    metric = luigi.Parameter(description="as on the nightly's page, as in accuracy.nme; nme, if one run has it")
    good = luigi.Parameter(description="a commit where it was good")
    bad = luigi.Parameter(description="a later one where it is not")

    def act(self) -> None:
        """Prints what was measured, and the commit.

        Raises:
          ConfigError: the nightly has no such metric.
          DataError: the commits cannot be compared.
          StageError: one of the two cannot be run, or git fails.
        """
        run_name, name = self.plan.metric(self.metric).split(".")
        (run,) = [run for run in self.plan.runs if run.name == run_name]
        log = self.root / "logs" / "bisect.log"

        def measure(code: Path) -> float:
            commit = environment.commit(code)[0]
            value = statistics.mean(
                runner.at_commit(run, self._overrides(run, seed), self.root, code, log, name) for seed in run.seeds
            )
            print(f"{commit[:12]}  {self.metric} = {value:.6g}", flush=True)
            return value

        print(f"log: {log}", flush=True)
        found = bisect.find(CODE, self.good, self.bad, measure, run.gates[name].noise)
        print("the first bad commit{}:".format(", one of" if len(found.commits) > 1 else ""))
        for commit in found.commits:
            print(environment.git(CODE, "log", "-1", "--format=%H %an %ad%n    %s", commit))

    def _overrides(self, run: Run, seed: int) -> str:
        more = f"train.seed={seed},experiment.name='bisect-{run.name}'"
        return run.overrides(",".join(filter(None, (self.set.strip(", "), more))))


class ExportHistory(_Command):
    """Writes the history as CSV, a line for every measured value, or as JSON lines, one for every night."""

    date = luigi.DateParameter(default=datetime.date.min, significant=False, visibility=_HIDDEN)
    output_file = luigi.Parameter(description="file to write, *.csv or *.jsonl")

    def act(self) -> None:
        """Writes it.

        Raises:
          DataError: the file is neither.
          StageError: it cannot be written.
        """
        path = Path(self.output_file)
        writers = {".csv": History.write_csv, ".jsonl": History.write_lines}
        if path.suffix not in writers:
            raise DataError(f"--output-file {path}: wanted *.csv or *.jsonl")
        history = self.history()
        new = path.with_name(path.name + ".new")
        try:
            with open(str(new), "w", newline="", encoding="utf-8") as stream:
                writers[path.suffix](history, stream)
            os.replace(str(new), str(path))
        except OSError as error:
            raise StageError(f"{path}: cannot be written: {error.strerror}") from error
        print(f"{path}: {len(history.records())} nights")


def reserve(path: Path) -> None:
    """Takes `_RESERVE_BYTES` of the disk, if they are there."""
    try:
        with open(str(path), "wb") as stream:
            stream.write(os.urandom(_RESERVE_BYTES))  # no file system makes that smaller
            stream.flush()
            os.fsync(stream.fileno())
    except OSError:
        give_back(path)


def give_back(path: Path) -> None:
    """Gives the disk back what `reserve` took."""
    with contextlib.suppress(FileNotFoundError):
        path.unlink()


def summary(record: Dict[str, Any], folder: Path) -> str:
    """The verdict in a few lines, and where the rest is."""
    lines = ["", alarms.text(record)]
    lines += [
        "verdict: {}".format(folder / record["date"] / "verdict.json"),
        "page:    {}".format(folder / "index.html"),
    ]
    return "\n".join(lines)


def forget_old(folder: Path, keep: int, accepted: "set[str]") -> None:
    """Removes the links by which nights keep their outputs, and their logs, but of the newest and of accepted ones.

    Args:
      folder: of the nightly.
      keep: how many of the newest; a night without outputs does not count.
      accepted: dates.
    """
    links: Dict[str, List[Path]] = {}
    for verdict in folder.glob("*/verdict.json"):
        links[verdict.parent.name] = [path for path in verdict.parent.iterdir() if path.is_dir()]
    logs = folder.parents[1] / "logs"
    for date in sorted(date for date, runs in links.items() if runs)[:-keep]:
        if date not in accepted:
            for path in links[date]:
                shutil.rmtree(str(path))
            for log in logs.glob(f"nightly-{folder.name}-{date}-*.log*"):
                with contextlib.suppress(FileNotFoundError):  # logrotate has renamed it
                    log.unlink()
