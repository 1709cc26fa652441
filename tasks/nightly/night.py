"""The runs of one night: every experiment with every seed, and one repeat of what looks like a regression.

Every run is stored in the history before the next one starts, so a night that was stopped resumes. A night that ended as
`no-data` or `infrastructure` can be run again; its finished runs are kept.
"""

import datetime
import math
import time
from dataclasses import dataclass, field
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple

from fse.runtime.clock import utc_timestamp
from tasks.nightly import judging
from tasks.nightly.baseline import Baseline
from tasks.nightly.config import NightlyConfig, RunConfig
from tasks.nightly.gates import REGRESSION
from tasks.nightly.history import History, Record
from tasks.nightly.judging import Reason, make_reason
from tasks.nightly.verdicts import INFRASTRUCTURE, NO_DATA

SCHEMA = 1

# How many missing nights are named.
_MAX_MISSING = 14


@dataclass(frozen=True)
class RunOutcome:
    """The outcome of one training and the stages that follow it."""

    outcome: str  # "ok"; "failed" (the code failed); or one of the verdicts INFRASTRUCTURE and NO_DATA
    message: str = ""  # why it failed
    # By stage: key, seconds, reused, resumed.
    stages: Dict[str, Dict[str, Any]] = field(default_factory=dict)
    metrics: Dict[str, Optional[float]] = field(default_factory=dict)  # None if there is no value
    report: str = ""  # the report's page, relative to the night's folder

    def as_record(self) -> Record:
        """Return the outcome's part of a night's record."""
        return {
            "outcome": self.outcome,
            "words": self.message,
            "stages": self.stages,
            "metrics": self.metrics,
            "report": self.report,
        }


@dataclass(frozen=True)
class NightContext:
    """What is known before a night's runs start."""

    environment: Dict[str, str]  # versions and device by name
    fingerprint: str  # of the environment
    config_hash: str  # of the runs and their gates
    commit: str
    clean: bool  # whether the checkout has no uncommitted changes
    commits: List[str]  # after the last good night up to the first regression since then, or to `commit`; newest first
    doctor_reports: List[Dict[str, Any]]  # JSON of `fse doctor` for each kind of training; empty if it did not run
    problem: str  # why the machine cannot be used; '' if it is healthy

    def as_record(self) -> Record:
        """Return the context's part of a night's record."""
        return {
            "environment": self.environment,
            "fingerprint": self.fingerprint,
            "config": self.config_hash,
            "commit": self.commit,
            "clean": self.clean,
            "commits": self.commits,
            "doctor": self.doctor_reports,
            "ill": self.problem,
        }


# Execute one training and the stages that follow it. The arguments are run, seed and repetition (`train.repetition`).
Execute = Callable[[RunConfig, int, str], RunOutcome]


def run_night(
    config: NightlyConfig,
    date: str,
    history: History,
    accepted: Sequence[Baseline],
    context: NightContext,
    execute: Execute,
) -> Record:
    """Execute the remaining runs of a night, and return its record with the verdict, which is stored in the history.

    Args:
      config: the nightly's configuration.
      date: of the night, as in 2026-11-23.
      history: of the nightly.
      accepted: the accepted baselines.
      context: commit, environment and health.
      execute: executes one run.
    """
    clock = time.monotonic()
    record = begin_night(config, date, history, context)
    if context.problem:
        return _end(record, history, clock, INFRASTRUCTURE, [_machine_reason("", context.problem)])
    for repeat in (False, True):
        runs = _regressed_runs(config, record) if repeat else config.runs
        for run in runs:
            for seed in run.seeds:
                stopped_by = _execute_once(record, history, run, seed, repeat, execute)
                if stopped_by is not None:
                    reasons = [_machine_reason(run.name, stopped_by.message)]
                    return _end(record, history, clock, stopped_by.outcome, reasons)
        if not _has_results(record):
            reasons = [make_reason("", "number", REGRESSION, "no metric has a value")]
            return _end(record, history, clock, NO_DATA, reasons)
        record["repeated" if repeat else "findings"] = judging.judge(config, record, history, accepted, repeat)
        if not judging.regressions(record["findings"]):
            break
    return _end(record, history, clock, *judging.conclude(record, accepted))


def begin_night(config: NightlyConfig, date: str, history: History, context: NightContext) -> Record:
    """Store a night's record in the history and return it. The runs of an earlier attempt that succeeded are kept."""
    earlier = history.record(date)
    attempts, plays = [], []
    if earlier:
        attempt = {
            "began": earlier["began"],
            "verdict": earlier["verdict"] or "killed",
            "reasons": earlier["reasons"],
        }
        attempts = [*earlier["attempts"], attempt]
        plays = [play for play in earlier["plays"] if play["outcome"] == "ok"]
    record: Record = {
        "schema": SCHEMA,
        "nightly": config.nightly.name,
        "date": date,
        "verdict": "",
        "reasons": [],
        "began": utc_timestamp(),
        "ended": "",
        "attempts": attempts,
        "missing": _missing_dates(history, date),
        "last_good": history.last_good(date),
        "first_bad": history.first_bad(date),
        **context.as_record(),
        "plays": plays,
        "findings": [],
        "repeated": [],
        "metrics": {},
    }
    history.save(record)
    return record


def close_unfinished(history: History, date: str) -> List[str]:
    """End the unfinished nights before a date as `infrastructure`; return their dates.

    The caller holds the nightly's lock, so their processes were killed.
    """
    closed = []
    for record in history.records():
        if record["verdict"] == "" and record["date"] < date:
            message = f"killed: the night began at {record['began']} and did not end"
            history.save(dict(record, verdict=INFRASTRUCTURE, reasons=[_machine_reason("", message)]))
            closed.append(record["date"])
    return closed


def _execute_once(
    record: Record, history: History, run: RunConfig, seed: int, repeat: bool, execute: Execute
) -> Optional[RunOutcome]:
    """Execute a run with a seed, unless an earlier attempt did; return the outcome if it stops the night."""
    identity = {"run": run.name, "kind": run.kind, "seed": seed, "repeat": repeat}
    if any(all(play[name] == value for name, value in identity.items()) for play in record["plays"]):
        return None
    clock = time.monotonic()
    result = execute(run, seed, record["date"] + (" repeat" if repeat else ""))
    if result.outcome in (INFRASTRUCTURE, NO_DATA):
        return result
    # The history stores NaN and infinity as NULL. This list tells them from missing values when the night is resumed.
    nonfinite = [name for name, value in result.metrics.items() if value is not None and not math.isfinite(value)]
    seconds = round(time.monotonic() - clock, 1)
    record["plays"].append(dict(identity, seconds=seconds, no_numbers=nonfinite, **result.as_record()))
    history.save(record)
    return None


def _regressed_runs(config: NightlyConfig, record: Record) -> Tuple[RunConfig, ...]:
    names = {finding["metric"].split(".")[0] for finding in judging.regressions(record["findings"])}
    return tuple(run for run in config.runs if run.name in names)


def _has_results(record: Record) -> bool:
    """Return whether a metric has a value or a run failed; both can be judged."""
    return any(
        play["outcome"] == "failed" or any(value is not None for value in play["metrics"].values())
        for play in record["plays"]
    )


def _end(record: Record, history: History, clock: float, verdict: str, reasons: List[Reason]) -> Record:
    """Store the verdict and return the record as the history has it, without NaN and infinity."""
    record.update(verdict=verdict, reasons=reasons, ended=utc_timestamp(), seconds=round(time.monotonic() - clock, 1))
    history.save(record)
    stored = history.record(record["date"])
    assert stored is not None
    return stored


def _machine_reason(run: str, message: str) -> Reason:
    return make_reason(run, "machine", REGRESSION, message)


def _missing_dates(history: History, date: str) -> List[str]:
    """Return the dates without a night since the previous night; empty if there is no previous night."""
    earlier = [record["date"] for record in history.records() if record["date"] < date]
    if not earlier:
        return []
    previous, day = datetime.date.fromisoformat(earlier[-1]), datetime.date.fromisoformat(date)
    gap = min((day - previous).days, _MAX_MISSING + 1)
    return [str(previous + datetime.timedelta(days=days)) for days in range(1, gap)]
