"""Verdicts of nights with simulated runs."""

import pytest

from tasks.nightly.night import RunOutcome
from tests.tasks.nightly.fake_nightly import FakeNightly, reasons


def test_a_good_night_executes_every_run_once_per_seed(nightly: FakeNightly) -> None:
    record = nightly.run(1)
    assert record["verdict"] == "pass"
    assert nightly.executed == ["2026-01-01 accuracy 1", "2026-01-01 accuracy 2", "2026-01-01 speed 1"]
    assert record["metrics"]["accuracy.nme"]["mean"] == 7.0
    notes = ["accuracy.nme, speed.pairs_per_second: no trend yet: 0 of 8 nights", ": no baseline is accepted yet"]
    assert reasons(record, "note") == notes


def test_a_regression_needs_a_repeat_that_confirms_it_and_both_are_stored(nightly: FakeNightly) -> None:
    nightly.run(1)
    nightly.executed = []
    nightly.nme = [13.0]
    record = nightly.run(2)
    assert record["verdict"] == "regression"
    assert nightly.executed[3:] == ["2026-01-02 repeat accuracy 1", "2026-01-02 repeat accuracy 2"]  # not the other run
    assert [play["repeat"] for play in record["plays"]] == [False, False, False, True, True]
    assert reasons(record)[0] == "accuracy.nme: 13 is above its maximum 12"
    assert record["last_good"] == {"date": "2026-01-01", "commit": "c1"}
    assert nightly.verdict(3) == "regression"
    nightly.nme = [7.0]
    assert nightly.verdict(4) == "pass"


def test_a_good_repeat_lowers_a_regression_to_a_warning(nightly: FakeNightly) -> None:
    nightly.nme = [13.0, 13.0, 7.0]
    record = nightly.run(1)
    assert record["verdict"] == "warn"
    assert reasons(record, "warn") == ["accuracy.nme: 13 is above its maximum 12; a repeat was good"]
    assert nightly.history.past_means("here", "accuracy", "nme", "", "2026-02-01") == [10.0]


@pytest.mark.parametrize("value", [1.0, float("nan")])
def test_values_that_are_too_good_or_not_numbers_are_regressions(nightly: FakeNightly, value: float) -> None:
    nightly.nme = [value]
    assert nightly.verdict(1) == "regression"


def test_failing_code_is_a_regression_and_a_failing_machine_is_not(nightly: FakeNightly) -> None:
    nightly.speed = [RunOutcome("failed", "a bug")]
    record = nightly.run(1)
    assert record["verdict"] == "regression"
    assert reasons(record)[0] == "speed: seed 1: a bug"
    nightly.speed = [RunOutcome("infrastructure", "disk full"), 100.0]
    record = nightly.run(2)
    assert (record["verdict"], reasons(record)) == ("infrastructure", ["speed: disk full"])
    nightly.problem = "fse doctor ended with exit code 1: NPU 0: Alarm"
    nightly.executed = []
    record = nightly.run(3)
    assert (record["verdict"], nightly.executed) == ("infrastructure", [])
    nightly.problem = ""
    assert nightly.history.past_means("here", "accuracy", "nme", "", "2026-02-01") == []
    assert nightly.verdict(4) == "pass"


def test_a_night_that_the_machine_stopped_resumes(nightly: FakeNightly) -> None:
    nightly.speed = [RunOutcome("infrastructure", "busy"), 100.0]
    assert nightly.verdict(1) == "infrastructure"
    nightly.executed = []
    record = nightly.run(1)
    assert (record["verdict"], nightly.executed) == ("pass", ["2026-01-01 speed 1"])
    assert [attempt["verdict"] for attempt in record["attempts"]] == ["infrastructure"]


def test_a_killed_night_is_closed_by_the_next_night_and_can_resume(nightly: FakeNightly) -> None:
    nightly.nme = [7.0, KeyboardInterrupt()]
    with pytest.raises(KeyboardInterrupt):
        nightly.run(1)
    nightly.nme = [7.0]
    assert nightly.verdict(2) == "pass"
    closed = nightly.history.record("2026-01-01")
    assert closed is not None and closed["verdict"] == "infrastructure"
    assert "killed: the night began at" in reasons(closed)[0]
    nightly.executed = []
    assert nightly.verdict(1) == "pass"
    assert "2026-01-01 accuracy 1" not in nightly.executed


def test_a_resumed_night_remembers_a_value_that_is_not_a_number(nightly: FakeNightly) -> None:
    nightly.nme = [float("nan"), KeyboardInterrupt()]
    with pytest.raises(KeyboardInterrupt):
        nightly.run(1)
    nightly.nme = [7.0]
    record = nightly.run(1)
    assert record["verdict"] == "warn"
    assert reasons(record, "warn") == ["accuracy.nme: the value is not a number; a repeat was good"]


def test_a_night_without_data(nightly: FakeNightly) -> None:
    nightly.nme, nightly.speed = [None], [None]
    assert nightly.verdict(1) == "no-data"
    nightly.nme = [RunOutcome("no-data", "no such archive")]
    record = nightly.run(2)
    assert (record["verdict"], reasons(record)) == ("no-data", ["accuracy: no such archive"])
    nightly.nme, nightly.speed = [None], [100.0]
    record = nightly.run(3)
    assert (record["verdict"], reasons(record, "warn")) == ("warn", ["accuracy.nme: has no value"])


def test_nights_are_ordered_by_date_and_missing_nights_are_named(nightly: FakeNightly) -> None:
    nightly.run(1)
    record = nightly.run(4)
    assert record["missing"] == ["2026-01-02", "2026-01-03"]
    # A night that fills a gap, or that a wrong clock dated, belongs to its date.
    nightly.nme = [8.0]
    record = nightly.run(2)
    assert record["last_good"]["date"] == "2026-01-01"
    assert nightly.history.past_means("here", "accuracy", "nme", "", "2026-01-05") == [7.0, 8.0, 7.0]
    assert nightly.history.past_means("here", "accuracy", "nme", "", "2026-01-02") == [7.0]


def test_a_baseline_applies_only_to_its_environment(nightly: FakeNightly) -> None:
    nightly.run(1)
    nightly.accept(1)
    nightly.nme = [7.3]
    assert nightly.verdict(2) == "pass"
    nightly.nme = [7.5]
    record = nightly.run(3)
    assert record["verdict"] == "regression"
    assert reasons(record)[0] == "accuracy.nme: 7.5 is 7.1 % worse than the baseline's 7 (tolerance 5 %)"
    nightly.environment = "elsewhere"
    record = nightly.run(4)
    assert record["verdict"] == "warn"
    assert "the baseline is of another environment (here)" in reasons(record, "warn")[0]
    nightly.environment = "here"
    nightly.accept(3)
    assert nightly.verdict(5) == "pass"


def test_an_accepted_change_restarts_the_trend(nightly: FakeNightly) -> None:
    for day in range(1, 10):
        assert nightly.verdict(day) == "pass"
    nightly.nme = [7.3]
    record = nightly.run(10)
    assert record["verdict"] == "regression"
    assert "worse than the median of the last 9 nights, 7 " in reasons(record)[0]
    nightly.accept(10)
    assert nightly.verdict(11) == "pass"
