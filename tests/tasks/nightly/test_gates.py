"""The gates, on hand-made values and on a few simulated years; `benchmarks/nightly_statistics.py` simulates a thousand."""

import math
import random
import statistics
from typing import List, Sequence

import pytest

from benchmarks import nightly_statistics as simulation
from tasks.nightly.gates import Gate, judge, spread


def levels(
    gate: Gate, values: Sequence[float], baseline: Sequence[float], past_means: Sequence[float], repeat: bool = False
) -> List[str]:
    """Return gate and level of each finding that is not a note."""
    findings = judge(gate, values, baseline, past_means, repeat)
    return [f"{finding.gate}: {finding.level}" for finding in findings if finding.level != "note"]


def test_bounds_hold_on_both_sides() -> None:
    gate = Gate(minimum=2.0, maximum=8.0)
    assert levels(gate, [5.0], [], []) == []
    assert levels(gate, [8.5], [], []) == ["bounds: regression"]
    assert levels(gate, [1.5], [], []) == ["bounds: regression"]
    assert judge(gate, [8.5], [], [])[0].message == "8.5 is above its maximum 8"


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_value_that_is_not_finite_is_a_regression(value: float) -> None:
    assert levels(Gate(), [7.0, value], [7.0], [7.0] * 20) == ["number: regression"]


def test_the_tolerance_limits_the_difference_from_the_baseline() -> None:
    assert levels(Gate(tolerance=0.05), [10.4], [10.0], []) == []
    assert levels(Gate(tolerance=0.05), [10.6], [10.0], []) == ["baseline: regression"]
    assert levels(Gate(tolerance=0.05), [5.0], [10.0], []) == []
    assert levels(Gate("higher", tolerance=0.05), [9.4], [10.0], []) == ["baseline: regression"]
    assert levels(Gate("higher", tolerance=0.05), [11.0], [10.0], []) == []


def test_seeds_are_compared_as_samples() -> None:
    gate = Gate(tolerance=0.05)
    # The difference of the means is 10 % in both cases. The seeds agree in the first case and vary in the second.
    assert levels(gate, [11.0, 11.1, 10.9], [10.0, 10.1, 9.9], []) == ["baseline: regression"]
    uncertain = judge(gate, [9.0, 11.0, 13.0], [8.0, 10.0, 12.0], [])
    assert [(finding.gate, finding.level) for finding in uncertain][-1] == ("baseline", "note")
    # The order of the seeds does not matter: seeds are samples, not pairs.
    assert judge(gate, [13.0, 9.0, 11.0], [8.0, 10.0, 12.0], []) == uncertain


def test_the_step_gate_needs_eight_nights_and_is_stricter_in_a_repeat() -> None:
    past = [10.0, 10.1, 9.9, 10.0, 10.1, 9.9, 10.0, 10.1]
    assert levels(Gate(), [11.0], [], past[:7]) == []
    assert judge(Gate(), [11.0], [], past[:7])[0].message == "no trend yet: 7 of 8 nights"
    assert levels(Gate(), [10.5], [], past) == ["step: regression"]
    assert levels(Gate(), [10.3], [], past) == []
    assert levels(Gate(), [10.3], [], past, repeat=True) == ["step: regression"]
    assert levels(Gate("higher"), [10.5], [], past) == ["step: warn"]
    assert levels(Gate(), [9.5], [], past) == ["step: warn"]


def test_nights_without_any_spread() -> None:
    assert levels(Gate(noise=0.0), [3.0], [], [3.0] * 20) == []
    assert levels(Gate(noise=0.0), [3.001], [], [3.0] * 20) == ["step: regression", "drift: regression"]
    assert levels(Gate(), [0.0], [], [0.0] * 20) == []


def test_the_drift_gate_finds_a_change_too_slow_for_the_step_gate() -> None:
    past = [10.0] * 14 + [10.15] * 8
    assert levels(Gate(noise=0.01), [10.2], [], past) == []
    drifted = [10.0] * 14 + [10.0 + 0.02 * night for night in range(1, 14)]
    assert levels(Gate(noise=0.01), [10.28], [], drifted) == ["drift: regression"]


def test_the_spread_estimates_the_standard_deviation_despite_a_step() -> None:
    random_ = random.Random(0)
    nights = [100.0 + random_.gauss(0.0, 5.0) for _ in range(2000)]
    assert spread(Gate(noise=0.0), nights) == pytest.approx(5.0, rel=0.1)
    stepped = nights[:1000] + [night + 50.0 for night in nights[1000:]]
    assert spread(Gate(noise=0.0), stepped) == pytest.approx(5.0, rel=0.1)
    assert statistics.stdev(stepped) > 20.0
    assert spread(Gate(noise=0.1), nights) == pytest.approx(10.0, rel=0.01)


def test_simulated_histories() -> None:
    """Twenty years are quick to simulate and enough to notice a useless gate."""
    random_ = random.Random(3)
    years = [simulation.simulate(random_, Gate(), 0.01, 365, lambda night: 1.0) for _ in range(20)]
    assert statistics.mean(len(year.red) for year in years) <= 1.0
    steps = [simulation.delay(random_, 0.01, 30, lambda night: 0.05) for _ in range(20)]
    assert sum(nights is not None and nights <= 2 for nights in steps) >= 18
    drifts = [simulation.delay(random_, 0.01, 30, lambda night: 0.01 * (night + 1) / 7) for _ in range(20)]
    assert all(nights is not None and nights <= 28 for nights in drifts)
