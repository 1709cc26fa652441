"""The page of a nightly: tonight's verdict, the trends of the metrics, the nights, and the machine. One file, no scripts."""

from pathlib import Path
from typing import Any, Dict, Sequence

from fse.report.templates import load_template
from fse.runtime.files import atomic_file
from tasks.nightly import gates
from tasks.nightly.baseline import Baseline
from tasks.nightly.chart import make_chart
from tasks.nightly.config import NightlyConfig
from tasks.nightly.history import History, Record
from tasks.nightly.verdicts import state_of

# How many of the newest nights, notifications and baselines the page shows.
_NIGHTS, _NOTIFICATIONS, _BASELINES = 90, 10, 10

_TEMPLATE = Path(__file__).with_name("page.html.j2")


def write(folder: Path, config: NightlyConfig, history: History, accepted: Sequence[Baseline]) -> None:
    """Write `index.html` in the nightly's folder. The newest night of the history is tonight."""
    records = history.records()[-_NIGHTS:]
    text = load_template(_TEMPLATE).render(
        name=config.nightly.name,
        tonight=records[-1],
        state_since=_state_since(records),
        charts=[make_chart(metric, gate, records, accepted) for metric, gate in config.gates().items()],
        nights=[_night_row(folder, record) for record in reversed(records)],
        notifications=history.notifications()[-_NOTIFICATIONS:],
        accepted=list(reversed(accepted))[:_BASELINES],
    )
    # The fixed suffix lets the next night overwrite the file of a night that was killed while writing.
    with atomic_file(folder / "index.html", ".new") as temporary:
        temporary.write_text(text, encoding="utf-8")


def _night_row(folder: Path, record: Record) -> Dict[str, Any]:
    """Return a row of the table of nights: the record with links to reports, reused stages, and the main reason."""
    plays, date = record["plays"], record["date"]
    links = [
        (f"{play['run']} {play['seed']}" + (" repeat" if play["repeat"] else ""), f"{date}/{play['report']}")
        for play in plays
        if play["report"] and (folder / date / play["report"]).exists()
    ]
    reused = sorted({name for play in plays for name, stage in play["stages"].items() if stage["reused"]})
    return dict(record, links=links, reused=reused, main_reason=_main_reason(record))


def _main_reason(record: Record) -> str:
    """Return the first reason of a verdict; '' if there are only notes."""
    if not record["reasons"] or record["reasons"][0]["level"] == gates.NOTE:
        return ""
    first = record["reasons"][0]
    return ": ".join(filter(None, (first["metric"], first["words"])))


def _state_since(records: Sequence[Record]) -> str:
    """Return the date of the first of the consecutive nights that have tonight's state."""
    since = records[-1]
    for record in reversed(records):
        if state_of(record["verdict"]) != state_of(records[-1]["verdict"]):
            break
        since = record
    return str(since["date"])
