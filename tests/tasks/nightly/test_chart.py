"""The charts of the nightly's page."""

from tasks.nightly.baseline import Baseline
from tasks.nightly.chart import HEIGHT, WIDTH, Axes, make_chart
from tasks.nightly.gates import Gate
from tasks.nightly.history import Record


def record(date: str, mean: float) -> Record:
    return {
        "date": date,
        "verdict": "pass",
        "fingerprint": "here",
        "metrics": {"accuracy.nme": {"mean": mean}},
        "reasons": [{"metric": "accuracy", "gate": "run", "level": "warn", "words": "seed 1: slow"}],
    }


def test_axes_map_the_first_day_to_the_left_and_the_largest_value_to_the_top() -> None:
    axes = Axes(first_day=10, last_day=20, low=0.0, high=1.0)
    assert 0.0 < axes.x(10) < axes.x(15) < axes.x(20) < WIDTH
    assert 0.0 < axes.y(1.0) < axes.y(0.5) < axes.y(0.0) < HEIGHT
    assert Axes(10, 10, 0.0, 1.0).x(10) == axes.x(15)  # a single day is in the middle


def test_a_chart_shows_values_near_bounds_baseline_and_differences() -> None:
    baseline = Baseline("n", "2026-01-02", "here", "", "c", "me", "now", "faster", "", {"accuracy.nme": [4.0, 6.0]})
    records = [record("2026-01-01", 10.0), record("2026-01-02", 5.0), record("2026-01-03", 6.0)]
    chart = make_chart("accuracy.nme", Gate(minimum=4.0, maximum=100.0), records, [baseline])
    assert (chart.value, chart.level) == ("6", "warn")
    assert chart.comparison == "+20.0 % against the baseline, +20.0 % against the previous night"
    assert [line.label for line in chart.horizontal_lines] == ["minimum", "baseline"]  # the maximum is too far away
    assert [line.title for line in chart.vertical_lines] == ["2026-01-02 accepted: faster"]
    assert [label for _, label in chart.ticks] == ["4", "10"]
    assert [date.text for date in chart.dates] == ["2026-01-01", "2026-01-03"]
    assert [dot.title for dot in chart.dots] == ["2026-01-01: 10", "2026-01-02: 5", "2026-01-03: 6"]
