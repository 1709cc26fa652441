"""The gates of the nightly, by hand and on a few simulated years; `benchmarks/nightly_statistics.py` does a thousand."""

import math
import random
import statistics
from typing import List

import pytest

from benchmarks import nightly_statistics as simulation
from tasks.nightly.gates import Gate, judge, spread


def levels(*arguments: object, **more: object) -> List[str]:
    return [
        f"{found.gate}: {found.level}"
        for found in judge(*arguments, **more)
        if found.level != "note"  # type: ignore[arg-type]
    ]


def test_bounds_hold_on_both_sides() -> None:
    gate = Gate(minimum=2.0, maximum=8.0)
    assert levels(gate, [5.0], [], []) == []
    assert levels(gate, [8.5], [], []) == ["bounds: regression"]
    assert levels(gate, [1.5], [], []) == ["bounds: regression"]
    assert judge(gate, [8.5], [], [])[0].words == "8.5 is above its maximum 8"


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_not_a_number_is_a_regression(value: float) -> None:
    assert levels(Gate(), [7.0, value], [7.0], [7.0] * 20) == ["number: regression"]


def test_a_single_run_is_compared_with_the_baseline_by_tolerance() -> None:
    assert levels(Gate(tolerance=0.05), [10.4], [10.0], []) == []
    assert levels(Gate(tolerance=0.05), [10.6], [10.0], []) == ["baseline: regression"]
    assert levels(Gate(tolerance=0.05), [5.0], [10.0], []) == []
    assert levels(Gate("higher", tolerance=0.05), [9.4], [10.0], []) == ["baseline: regression"]
    assert levels(Gate("higher", tolerance=0.05), [11.0], [10.0], []) == []


def test_seeds_are_compared_as_samples() -> None:
    gate = Gate(tolerance=0.05)
    # The same difference of the means, 10 %: seeds that agree, and seeds that do not.
    assert levels(gate, [11.0, 11.1, 10.9], [10.0, 10.1, 9.9], []) == ["baseline: regression"]
    unsure = judge(gate, [9.0, 11.0, 13.0], [8.0, 10.0, 12.0], [])
    assert [(found.gate, found.level) for found in unsure][-1] == ("baseline", "note")
    # Seed by seed all are worse, in another order none is: only the samples count.
    assert judge(gate, [13.0, 9.0, 11.0], [8.0, 10.0, 12.0], []) == unsure


def test_a_step_needs_some_nights_and_a_repeat_less_certainty() -> None:
    past = [10.0, 10.1, 9.9, 10.0, 10.1, 9.9, 10.0, 10.1]
    assert levels(Gate(), [11.0], [], past[:7]) == []
    assert judge(Gate(), [11.0], [], past[:7])[0].words == "no trend yet: 7 of 8 nights"
    assert levels(Gate(), [10.5], [], past) == ["step: regression"]
    assert levels(Gate(), [10.3], [], past) == []
    assert levels(Gate(), [10.3], [], past, repeat=True) == ["step: regression"]
    assert levels(Gate("higher"), [10.5], [], past) == ["step: warn"]
    assert levels(Gate(), [9.5], [], past) == ["step: warn"]


def test_nights_that_never_differ() -> None:
    assert levels(Gate(noise=0.0), [3.0], [], [3.0] * 20) == []
    assert levels(Gate(noise=0.0), [3.001], [], [3.0] * 20) == ["step: regression", "drift: regression"]
    assert levels(Gate(), [0.0], [], [0.0] * 20) == []


def test_a_slow_drift_is_found_though_no_night_stands_out() -> None:
    past = [10.0] * 14 + [10.15] * 8
    assert levels(Gate(noise=0.01), [10.2], [], past) == []
    crept = [10.0] * 14 + [10.0 + 0.02 * night for night in range(1, 14)]
    assert levels(Gate(noise=0.01), [10.28], [], crept) == ["drift: regression"]


def test_the_spread_of_normal_nights_is_their_standard_deviation_and_a_step_hardly_changes_it() -> None:
    random_ = random.Random(0)
    nights = [100.0 + random_.gauss(0.0, 5.0) for _ in range(2000)]
    assert spread(Gate(noise=0.0), nights) == pytest.approx(5.0, rel=0.1)
    stepped = nights[:1000] + [night + 50.0 for night in nights[1000:]]
    assert spread(Gate(noise=0.0), stepped) == pytest.approx(5.0, rel=0.1)
    assert statistics.stdev(stepped) > 20.0
    assert spread(Gate(noise=0.1), nights) == pytest.approx(10.0, rel=0.01)


def test_simulated_histories() -> None:
    """Twenty years; few enough to be quick, many enough to notice a gate that has become useless."""
    random_ = random.Random(3)
    years = [simulation.play(random_, Gate(), 0.01, 365, lambda night: 1.0) for _ in range(20)]
    assert statistics.mean(len(year.red) for year in years) <= 1.0
    steps = [simulation.delay(random_, 0.01, 30, lambda night: 0.05) for _ in range(20)]
    assert sum(nights is not None and nights <= 2 for nights in steps) >= 18
    drifts = [simulation.delay(random_, 0.01, 30, lambda night: 0.01 * (night + 1) / 7) for _ in range(20)]
    assert all(nights is not None and nights <= 28 for nights in drifts)
