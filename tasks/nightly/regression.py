"""The Luigi task `NightlyRegression`, which executes and judges a night."""

import datetime
import multiprocessing
import os
import sys
from pathlib import Path
from typing import Any, Dict, Iterable, List

import luigi
from luigi.worker import TaskProcess

from fse.errors import ConfigError, FseError, StageError, is_machine_error
from fse.runtime import locks, processes
from fse.runtime.clock import utc_now
from fse.runtime.files import write_json
from tasks.exit_codes import BAD_CONFIGURATION, exit_or_raise, record_exit_code
from tasks.nightly import alarms, baseline, disk_reserve, night, retention, runner, verdict_file
from tasks.nightly.config import RunConfig
from tasks.nightly.context import gather_context
from tasks.nightly.history import History, Record
from tasks.nightly.night import RunOutcome
from tasks.nightly.nightly_task import NightlyTask
from tasks.nightly.verdicts import EXIT_CODES, FINAL, GOOD, INFRASTRUCTURE

# The exit code if another process executes a night of the same nightly.
ALREADY_RUNNING = 10


class BusyError(StageError):
    """Another process executes a night of this nightly."""


class VerdictError(StageError):
    """The verdict of a night is not good."""

    def __init__(self, verdict: str, message: str):
        super().__init__(message)
        self.verdict = verdict


class NightlyRegression(NightlyTask):
    """Run all experiments of a nightly, judge their metrics and write the verdict.

    A night that was interrupted resumes. A finished night shows its verdict again. Results are in
    `<workspace>/nightly/<name>/`: `index.html`, `history.sqlite` and `<date>/verdict.json`.

    Raises:
      ConfigError: the date is in the future, or the configuration is invalid. On Luigi's command line the program exits
        instead.
    """

    def __init__(self, *arguments: Any, **parameters: Any):
        super().__init__(*arguments, **parameters)
        today = datetime.date.today()
        if self.date > today + datetime.timedelta(days=1):  # it can already be tomorrow in another time zone
            error = ConfigError(f"--date {self.date}: the date is in the future; this machine's clock says {today}")
            exit_or_raise(error, BAD_CONFIGURATION)

    @property
    def priority(self) -> int:
        """The priority for Luigi's scheduler: older nights run first.

        It must be positive: Luigi raises a lower priority to that of the task that requires this one, 0.
        """
        night: datetime.date = self.date
        return datetime.date.max.toordinal() - night.toordinal()

    def complete(self) -> bool:
        """Return whether the night has a final verdict, and the verdict was announced."""
        record = self.verdict()
        return record.get("verdict") in FINAL and bool(record.get("announced", True))

    @classmethod
    def bulk_complete(cls, parameter_tuples: Iterable[Any]) -> List[Any]:
        """Return the dates whose nights are complete, for Luigi's range tasks."""
        return [date for date in parameter_tuples if cls(date).complete()]

    def verdict(self) -> Dict[str, Any]:
        """Return the content of the night's verdict file; empty if there is none."""
        return verdict_file.read(self.folder, str(self.date))

    def run(self) -> None:
        """Execute the remaining runs of the night, and announce the verdict.

        Raises:
          VerdictError: the verdict is not good.
          BusyError: another process executes a night of this nightly.
          StageError: the history or the verdict cannot be written.
        """
        if isinstance(multiprocessing.current_process(), TaskProcess):  # Luigi forked this process
            processes.die_with_parent(os.getppid())
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with locks.lock(self.folder / "lock", f"nightly {self.folder}", 0.0, error=BusyError):
                disk_reserve.allocate(self._reserve)
                try:
                    record = self._run_night()
                finally:
                    disk_reserve.release(self._reserve)
        except OSError as error:
            raise StageError(f"{error.filename}: cannot be written: {error.strerror}") from error
        print(summary(record, self.folder), flush=True)
        if record["verdict"] not in GOOD:
            raise VerdictError(record["verdict"], alarms.in_words(record))

    def on_failure(self, exception: BaseException) -> str:
        """Record the exit code, and return the text for the scheduler's page."""
        if isinstance(exception, VerdictError):
            record_exit_code(EXIT_CODES[exception.verdict])
        elif isinstance(exception, BusyError):
            record_exit_code(ALREADY_RUNNING)
        elif isinstance(exception, FseError) and is_machine_error(exception):
            record_exit_code(EXIT_CODES[INFRASTRUCTURE])
        return super().on_failure(exception)

    @property
    def _reserve(self) -> Path:
        return self.folder / "reserve"

    def _run_night(self) -> Record:
        """Execute the remaining runs of the night if it has no final verdict, and announce the verdict."""
        config, history, date = self.nightly_config, self.history(), str(self.date)
        accepted = baseline.read(config.baselines, config.nightly.name)
        for closed in night.close_unfinished(history, date):
            verdict_file.write(self.folder, history.record(closed) or {})
        record = history.record(date)
        if record is None or record["verdict"] not in FINAL:
            context = gather_context(config, self.set, date, history, self.root, runner.CODE)
            record = night.run_night(config, date, history, accepted, context, self._execute)
        verdict_file.write(self.folder, record)
        self._announce(record, history, accepted)
        verdict_file.write(self.folder, record, announced=True)
        return record

    def _announce(self, record: Record, history: History, accepted: List[baseline.Baseline]) -> None:
        """Write the page, notify the hooks, remove old links and write the heartbeat."""
        from tasks.nightly import page  # imports Jinja2, which scheduling does not need

        config = self.nightly_config
        page.write(self.folder, config, history, accepted)
        for sent in alarms.notify(record, history, config.hooks):
            failure = f"could NOT notify {sent.hook} of {sent.state}: {sent.outcome}"
            print(failure if sent.outcome else f"notified {sent.hook}: {sent.state}", file=sys.stderr, flush=True)
        retention.remove_old_links(self.folder, config.nightly.keep, {entry.date for entry in accepted})
        heartbeat = {"time": utc_now().isoformat(), "date": str(self.date), "verdict": record["verdict"]}
        write_json(Path(config.nightly.heartbeat or self.folder / "heartbeat"), heartbeat)

    def _execute(self, run: RunConfig, seed: int, repetition: str) -> RunOutcome:
        """Execute one run. `repetition` is the date, followed by ` repeat` in the night's repeat."""
        nightly = self.nightly_config.nightly.name
        overrides = run.overrides(
            self.set,
            f"train.seed={seed}",
            # The nightly's name is part of the training's key, so that two nightlies of a workspace do not share trainings.
            f"train.repetition='{nightly} {repetition}'",
            f"experiment.name='nightly-{nightly}-{run.name}'",
        )
        name = f"{run.name}-{seed}" + ("-repeat" if repetition.endswith("repeat") else "")
        log = self.root / "logs" / f"nightly-{nightly}-{self.date}-{name}.log"
        folder = self.folder / str(self.date) / name
        print(f"{repetition}: {run.name}, seed {seed} (log: {log})", file=sys.stderr, flush=True)
        try:
            result = runner.execute(run, overrides, self.root, self.nightly_config.nightly.device_wait, log, folder)
        except OSError as error:
            message = f"{error.filename or folder}: cannot be written: {error.strerror}"
            result = RunOutcome(INFRASTRUCTURE, message)
        if result.outcome != "ok":  # the disk may be full
            disk_reserve.release(self._reserve)
        return result


@NightlyRegression.event_handler(luigi.Event.DEPENDENCY_PRESENT)
def _show_finished_night(task: NightlyRegression) -> None:
    """Print the verdict of a complete night again, and record its exit code."""
    record = task.verdict()
    print(summary(record, task.folder), flush=True)
    record_exit_code(EXIT_CODES[record["verdict"]])


def summary(record: Record, folder: Path) -> str:
    """Return the verdict in a few lines, with the paths of the details."""
    verdict = verdict_file.verdict_path(folder, record["date"])
    return "\n".join(["", alarms.in_words(record), f"verdict: {verdict}", f"page:    {folder / 'index.html'}"])
