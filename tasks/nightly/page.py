"""The nightly's page: tonight's verdict in words, each metric's trend, the nights, the machine; one file, no scripts."""

import datetime
import os
import statistics
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Tuple

import jinja2

from tasks.nightly import alarms, gates
from tasks.nightly.baseline import Baseline, in_force
from tasks.nightly.history import History
from tasks.nightly.settings import METRICS, Settings

# Of a chart, in its own units: width, height, and what is left free on each side.
WIDTH, HEIGHT = 360.0, 150.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 44.0, 10.0, 10.0, 22.0

# Nights that are shown.
SHOWN = 90


class Dot(NamedTuple):
    """A night's value in a chart."""

    x: float
    y: float
    verdict: str
    title: str


class Chart(NamedTuple):
    """A metric's trend, ready to be drawn.

    metric, title, unit: what it is. value: tonight's. beside: how it lies to baseline and last nights, in words. level: of
    tonight's worst finding. dots, line: the nights. rules: (y, kind, label) of bounds and baseline. marks: (x, title) of
    accepted changes. ticks: (y, label), dates: (x, anchor, label).
    """

    metric: str
    title: str
    unit: str
    value: str
    beside: str
    level: str
    dots: List[Dot]
    line: str
    rules: List[Tuple[float, str, str]]
    marks: List[Tuple[float, str]]
    ticks: List[Tuple[float, str]]
    dates: List[Tuple[float, str, str]]


def write(folder: Path, settings: Settings, history: History, accepted: Sequence[Baseline]) -> None:
    """Writes `index.html` in the nightly's folder, whole or not at all."""
    records = history.records()[-SHOWN:]
    tonight = records[-1]
    loader = jinja2.FileSystemLoader(str(Path(__file__).parent))
    environment = jinja2.Environment(
        loader=loader, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    text = environment.get_template("page.html.j2").render(
        name=settings.nightly.name,
        tonight=tonight,
        state=alarms.state(tonight["verdict"]),
        since=_since(records),
        charts=[chart(metric, gate, records, accepted) for metric, gate in settings.gates().items()],
        nights=[_night(folder, record) for record in reversed(records)],
        told=history.told()[-10:],
        accepted=list(reversed(accepted))[:10],
    )
    new = folder / "index.html.new"
    new.write_text(text, encoding="utf-8")
    os.replace(str(new), str(folder / "index.html"))


def chart(metric: str, gate: gates.Gate, records: Sequence[Dict[str, Any]], accepted: Sequence[Baseline]) -> Chart:
    """A metric's trend over the nights of `records`, of which the last is tonight."""
    tonight = records[-1]
    days = [_day(record["date"]) for record in records]
    values = [_mean(record, metric) for record in records]
    force = in_force(list(accepted), tonight["fingerprint"])
    usual = statistics.mean(force.values[metric]) if force and force.values.get(metric) else None
    there = [value for value in values if value is not None] + ([usual] if usual is not None else [])
    low, high = (min(there), max(there)) if there else (0.0, 1.0)
    # Bounds are drawn where they are near what was measured.
    reach = max(high - low, 0.05 * abs(high), 1e-9)
    bounds = [(gate.minimum, "minimum"), (gate.maximum, "maximum")]
    near = [(bound, name) for bound, name in bounds if low - 2.0 * reach <= bound <= high + 2.0 * reach]
    low, high = min([low, *(bound for bound, _ in near)]), max([high, *(bound for bound, _ in near)])
    margin = 0.08 * max(high - low, 0.05 * abs(high), 1e-9)
    low, high = low - margin, high + margin

    def across(day: int) -> float:
        return round(
            _LEFT + (WIDTH - _LEFT - _RIGHT) * (0.5 if days[-1] == days[0] else (day - days[0]) / (days[-1] - days[0])),
            1,
        )

    def down(value: float) -> float:
        return round(_TOP + (HEIGHT - _TOP - _BOTTOM) * (high - value) / (high - low), 1)

    rules = [(down(bound), "bound", name) for bound, name in near]
    if usual is not None:
        rules.append((down(usual), "baseline", "baseline"))
    dots = [
        Dot(across(day), down(value), record["verdict"], "{}: {}".format(record["date"], gates.figure(value)))
        for day, value, record in zip(days, values, records)
        if value is not None
    ]
    marks = [
        (across(_day(entry.date)), f"{entry.date} accepted: {entry.why}")
        for entry in accepted
        if days[0] <= _day(entry.date) <= days[-1] and metric in entry.values
    ]
    levels = [finding["level"] for finding in tonight["reasons"] if finding["metric"] in (metric, metric.split(".")[0])]
    described = METRICS[metric.split(".")[1]]
    value = values[-1]
    return Chart(
        metric,
        described.title,
        described.unit,
        "none" if value is None else gates.figure(value),
        _beside(value, usual, values[:-1]),
        next((level for level in (gates.REGRESSION, gates.WARN) if level in levels), ""),
        dots,
        " ".join(f"{dot.x},{dot.y}" for dot in dots),
        rules,
        marks,
        [(down(tick), gates.figure(tick)) for tick in ((low + margin, high - margin) if there else ())],
        [(across(days[0]), "start", records[0]["date"])] * (len(records) > 1)
        + [(across(days[-1]), "end", tonight["date"])],
    )


def _beside(value: Optional[float], usual: Optional[float], before: Sequence[Optional[float]]) -> str:
    words = []
    for name, other in (
        ("baseline", usual),
        ("the night before", next((v for v in reversed(before) if v is not None), None)),
    ):
        if value is not None and other:
            words.append(f"{100.0 * (value - other) / abs(other):+.1f} % against {name}")
    return ", ".join(words)


def _mean(record: Dict[str, Any], metric: str) -> Optional[float]:
    """A night's value; of a repeated one the repeat's."""
    entry = record["metrics"].get(metric, {})
    found = entry.get("repeat", entry.get("mean"))
    return None if found is None else float(found)


def _night(folder: Path, record: Dict[str, Any]) -> Dict[str, Any]:
    """A line of the table of nights."""
    plays = record["plays"]
    links = [
        (
            "{} {}{}".format(play["run"], play["seed"], " repeat" if play["repeat"] else ""),
            "{}/{}".format(record["date"], play["report"]),
        )
        for play in plays
        if play["report"] and (folder / record["date"] / play["report"]).exists()
    ]
    reused = sorted({name for play in plays for name, stage in play["stages"].items() if stage["reused"]})
    first = record["reasons"][0] if record["reasons"] else None
    words = " ".join(filter(None, (first["metric"], first["words"]))) if first and first["level"] != gates.NOTE else ""
    return dict(record, links=links, reused=reused, words=words)


def _since(records: Sequence[Dict[str, Any]]) -> str:
    """The first night of the state that tonight is in."""
    state, since = alarms.state(records[-1]["verdict"]), records[-1]["date"]
    for record in reversed(records):
        if alarms.state(record["verdict"]) != state:
            break
        since = record["date"]
    return str(since)


def _day(date: str) -> int:
    return datetime.date.fromisoformat(date).toordinal()
