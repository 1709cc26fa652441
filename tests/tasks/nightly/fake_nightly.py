"""A nightly with simulated runs, for tests of verdicts, alarms and the page."""

import datetime
from pathlib import Path
from typing import Any, Dict, List

from fse.ascend import npu_smi
from fse.doctor import machine
from fse.doctor.check import Check
from tasks.nightly import baseline, config, night
from tasks.nightly.config import RunConfig
from tasks.nightly.history import History
from tasks.nightly.night import NightContext, RunOutcome

CONFIG = """
[nightly]
name = "toy"
[[run]]
name = "accuracy"
seeds = [1, 2]
[run.metrics.nme]
minimum = 2.0
maximum = 12.0
[[run]]
name = "speed"
kind = "performance"
[run.metrics.pairs_per_second]
tolerance = 0.2
noise = 0.05
"""

ENVIRONMENT = {"python": "3.13", "host": "here"}

# The report of `fse doctor` on a machine with an NPU.
DOCTOR_REPORT = machine.as_dictionary(
    machine.Machine(
        "npu",
        [Check("cann", "ok", "8.0.0"), Check("disk", "warning", "5.0 GB free", "free some")],
        {"cann": "8.0.0"},
        [npu_smi.Card(0, 0, "910A", "OK", 66.5, 41.0, "0000:C1:00.0", 2000, 32768)],
    )
)


class FakeNightly:
    """A nightly whose runs return prepared outcomes.

    The runs take their outcomes from the lists `nme` and `speed`, one after another; the last one stays in the list. An
    outcome is the metric's value, a RunOutcome to return, or an exception to raise.
    """

    def __init__(self, folder: Path) -> None:
        (folder / "toy.toml").write_text(CONFIG)
        self.folder = folder
        self.config = config.load(str(folder / "toy.toml"))
        self.history = History(folder / "history.sqlite")
        self.accepted: List[baseline.Baseline] = []
        self.nme: List[Any] = [7.0]
        self.speed: List[Any] = [100.0]
        self.executed: List[str] = []
        self.problem = ""
        self.environment = "here"

    def run(self, day: int) -> Dict[str, Any]:
        """Run the night of a day, counted from 2026-01-01 as 1; return its record."""
        date = str(datetime.date(2026, 1, 1) + datetime.timedelta(days=day - 1))
        context = NightContext(
            environment=ENVIRONMENT,
            fingerprint=self.environment,
            config_hash="k",
            commit=f"c{day}",
            clean=True,
            commits=["abc someone: a change"],
            doctor_reports=[DOCTOR_REPORT],
            problem=self.problem,
        )
        night.close_unfinished(self.history, date)
        return night.run_night(self.config, date, self.history, self.accepted, context, self._execute)

    def verdict(self, day: int) -> str:
        """Run the night of a day; return its verdict."""
        return str(self.run(day)["verdict"])

    def accept(self, day: int) -> None:
        """Accept the night of a day of January as the baseline."""
        record = self.history.record(str(datetime.date(2026, 1, day)))
        assert record is not None
        self.accepted.append(baseline.accept(self.folder / "b.toml", record, "here", "intended"))

    def _execute(self, run: RunConfig, seed: int, repetition: str) -> RunOutcome:
        outcomes = self.nme if run.name == "accuracy" else self.speed
        outcome = outcomes.pop(0) if len(outcomes) > 1 else outcomes[0]
        self.executed.append(f"{repetition} {run.name} {seed}")
        if isinstance(outcome, BaseException):
            raise outcome
        if isinstance(outcome, RunOutcome):
            return outcome
        metric = "nme" if run.name == "accuracy" else "pairs_per_second"
        stages = {"Train": {"key": "0" * 16, "seconds": 1.0, "reused": False, "resumed": False}}
        stages["Download"] = dict(stages["Train"], reused=True)
        return RunOutcome("ok", "", stages, {metric: outcome}, f"{run.name}-{seed}/Report/report.html")


def reasons(record: Dict[str, Any], level: str = "regression") -> List[str]:
    """Return the reasons of a level as text."""
    return [f"{reason['metric']}: {reason['words']}" for reason in record["reasons"] if reason["level"] == level]
