"""The charts of the nightly's page: coordinates and labels of a metric's trend, ready for the SVG in the template."""

import datetime
import statistics
from dataclasses import dataclass
from typing import List, NamedTuple, Optional, Sequence, Tuple

from tasks.nightly import gates
from tasks.nightly.baseline import Baseline, in_force
from tasks.nightly.config import METRICS
from tasks.nightly.history import Record

# Size of a chart and its margins, in SVG units.
WIDTH, HEIGHT = 360.0, 150.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 44.0, 10.0, 10.0, 22.0

# The vertical axis extends to a bound of the metric if the bound is closer than this many ranges of the values.
_NEAR_RANGES = 2.0
# Space above and below the values, as a fraction of their range.
_PADDING = 0.08
# The range of the values is taken to be at least this fraction of their largest.
_MIN_RELATIVE_RANGE = 0.05


class Dot(NamedTuple):
    """A night's value in a chart. Coordinates are SVG units, y down."""

    x: float
    y: float
    verdict: str
    title: str


class HorizontalLine(NamedTuple):
    """A bound of the metric, or its baseline."""

    y: float
    kind: str  # "bound" or "baseline", its CSS class
    label: str


class VerticalLine(NamedTuple):
    """A night that was accepted as the baseline."""

    x: float
    title: str


class DateLabel(NamedTuple):
    """A date below the horizontal axis."""

    x: float
    anchor: str  # SVG's text-anchor
    text: str


@dataclass(frozen=True)
class Chart:
    """A metric's trend."""

    metric: str  # `run.metric`
    title: str
    unit: str
    value: str  # tonight's
    comparison: str  # tonight's value against the baseline and the night before
    level: str  # of the worst finding about the metric; '' if there is none
    dots: List[Dot]
    points: str  # the dots as the points of a polyline
    horizontal_lines: List[HorizontalLine]
    vertical_lines: List[VerticalLine]
    ticks: List[Tuple[float, str]]  # y and label of the smallest and the largest value
    dates: List[DateLabel]


@dataclass(frozen=True)
class Axes:
    """The mapping from dates and values to SVG coordinates."""

    first_day: int  # ordinals of datetime
    last_day: int
    low: float  # value at the lower end of the vertical axis
    high: float

    def x(self, day: int) -> float:
        """Return the horizontal coordinate of a day; the middle of the chart if there is only one day."""
        days = self.last_day - self.first_day
        position = (day - self.first_day) / days if days else 0.5
        return round(_LEFT + (WIDTH - _LEFT - _RIGHT) * position, 1)

    def y(self, value: float) -> float:
        """Return the vertical coordinate of a value."""
        return round(_TOP + (HEIGHT - _TOP - _BOTTOM) * (self.high - value) / (self.high - self.low), 1)


def make_chart(metric: str, gate: gates.Gate, records: Sequence[Record], accepted: Sequence[Baseline]) -> Chart:
    """Return a metric's trend over nights.

    Args:
      metric: `run.metric`.
      gate: limits of the metric.
      records: the nights, oldest first; the last one is tonight.
      accepted: the accepted baselines.
    """
    tonight = records[-1]
    values = [night_value(record, metric) for record in records]
    baseline = _baseline_mean(metric, accepted, tonight["fingerprint"])
    known = [value for value in [*values, baseline] if value is not None]
    low, high = (min(known), max(known)) if known else (0.0, 1.0)
    bounds = _near_bounds(gate, low, high)
    low, high = min([low, *(bound for bound, _ in bounds)]), max([high, *(bound for bound, _ in bounds)])
    padding = _PADDING * _range(low, high)
    axes = Axes(_day(records[0]["date"]), _day(tonight["date"]), low - padding, high + padding)

    dots = [
        Dot(
            axes.x(_day(record["date"])),
            axes.y(value),
            record["verdict"],
            f"{record['date']}: {gates.format_value(value)}",
        )
        for value, record in zip(values, records)
        if value is not None
    ]
    lines = [HorizontalLine(axes.y(bound), "bound", name) for bound, name in bounds]
    if baseline is not None:
        lines.append(HorizontalLine(axes.y(baseline), "baseline", "baseline"))
    description = METRICS[metric.split(".")[1]]
    return Chart(
        metric=metric,
        title=description.title,
        unit=description.unit,
        value="none" if values[-1] is None else gates.format_value(values[-1]),
        comparison=_comparison(values[-1], baseline, values[:-1]),
        level=_worst_level(metric, tonight),
        dots=dots,
        points=" ".join(f"{dot.x},{dot.y}" for dot in dots),
        horizontal_lines=lines,
        vertical_lines=_accepted_lines(metric, accepted, axes),
        ticks=[(axes.y(value), gates.format_value(value)) for value in ((low, high) if known else ())],
        dates=_date_labels(axes, records),
    )


def night_value(record: Record, metric: str) -> Optional[float]:
    """Return the mean of a metric in a night, or in the night's repeat if there was one; None if it has no value."""
    entry = record["metrics"].get(metric, {})
    mean = entry.get("repeat", entry.get("mean"))
    return None if mean is None else float(mean)


def _baseline_mean(metric: str, accepted: Sequence[Baseline], environment: str) -> Optional[float]:
    baseline = in_force(accepted, environment)
    values = baseline.values.get(metric) if baseline else None
    return statistics.mean(values) if values else None


def _near_bounds(gate: gates.Gate, low: float, high: float) -> List[Tuple[float, str]]:
    """Return the bounds that are close to the values. A distant bound would compress the trend to a flat line."""
    reach = _NEAR_RANGES * _range(low, high)
    bounds = [(gate.minimum, "minimum"), (gate.maximum, "maximum")]
    return [(bound, name) for bound, name in bounds if low - reach <= bound <= high + reach]


def _range(low: float, high: float) -> float:
    """Return the range of the values, at least a small fraction of them, so that equal values have an axis too."""
    return max(high - low, _MIN_RELATIVE_RANGE * abs(high), 1e-9)


def _accepted_lines(metric: str, accepted: Sequence[Baseline], axes: Axes) -> List[VerticalLine]:
    return [
        VerticalLine(axes.x(_day(entry.date)), f"{entry.date} accepted: {entry.why}")
        for entry in accepted
        if axes.first_day <= _day(entry.date) <= axes.last_day and metric in entry.values
    ]


def _date_labels(axes: Axes, records: Sequence[Record]) -> List[DateLabel]:
    labels = [DateLabel(axes.x(axes.last_day), "end", records[-1]["date"])]
    if len(records) > 1:
        labels.insert(0, DateLabel(axes.x(axes.first_day), "start", records[0]["date"]))
    return labels


def _worst_level(metric: str, tonight: Record) -> str:
    """Return the worst level of tonight's reasons about the metric or about its run."""
    subjects = (metric, metric.split(".")[0])
    levels = {reason["level"] for reason in tonight["reasons"] if reason["metric"] in subjects}
    return next((level for level in (gates.REGRESSION, gates.WARN) if level in levels), "")


def _comparison(value: Optional[float], baseline: Optional[float], earlier: Sequence[Optional[float]]) -> str:
    """Return by how much tonight's value differs from the baseline and from the night before."""
    if value is None:
        return ""
    previous = next((other for other in reversed(earlier) if other is not None), None)
    references = [("the baseline", baseline), ("the previous night", previous)]
    return ", ".join(
        f"{100.0 * (value - reference) / abs(reference):+.1f} % against {name}"
        for name, reference in references
        if reference
    )


def _day(date: str) -> int:
    return datetime.date.fromisoformat(date).toordinal()
