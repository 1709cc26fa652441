"""One night: every run with every seed, what the gates say of it, one repeat of what looks like a regression, the verdict.

Verdicts, from good to bad:

    pass            all gates hold
    warn            a repeat was good where the first run was not; better than before; a baseline of another environment
    no-data         there is nothing to measure: the archive is not there, or no metric has a value
    infrastructure  the machine is to blame: unhealthy, busy, out of disk or memory, a download failed, it was killed
    regression      the figures, or the code, are; a repeat said so too

Whatever has been played is in the history before anything else is played, so a night that was stopped goes on. A night
that ended as `no-data` or `infrastructure` may be played again; what was played of it counts.
"""

import datetime
import math
import time
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Tuple

from tasks.nightly import baseline, gates
from tasks.nightly.history import GOOD, History, finite
from tasks.nightly.settings import Run, Settings

PASS, WARN, NO_DATA, INFRASTRUCTURE, REGRESSION = "pass", "warn", "no-data", "infrastructure", "regression"
# Verdicts after which a night is over.
FINAL = (*GOOD, REGRESSION)

SCHEMA = 1

# Missing nights that are named, at most.
_GAP = 14

Record = Dict[str, Any]


class Played(NamedTuple):
    """What came of one training and all that follows from it.

    outcome: "ok"; "failed", by the code; "infrastructure" or "no-data", as the verdicts. words: why. stages: name -> key,
    seconds, and whether it was reused or resumed. metrics: name -> value; None where there is none. report: its page,
    relative to the night's folder.
    """

    outcome: str
    words: str = ""
    stages: Dict[str, Dict[str, Any]] = {}  # noqa: RUF012 (nobody changes it)
    metrics: Dict[str, Optional[float]] = {}  # noqa: RUF012
    report: str = ""


class Circumstances(NamedTuple):
    """What is known before anything is played.

    environment: versions and device, by name; fingerprint: of these. config: hash of what is run and how it is judged.
    commit: of the code; clean: whether nothing in it was changed. commits: those after the last good night, up to the first
    that was a regression since then, or to this one; newest first.
    doctor: what `fse doctor` found, as its JSON has it, for each kind of training; empty if it was not asked. ill: why the
    machine cannot be used, '' if it can.
    """

    environment: Dict[str, str]
    fingerprint: str
    config: str
    commit: str
    clean: bool
    commits: List[str]
    doctor: List[Dict[str, Any]]
    ill: str


# (run, seed, occasion) -> what came of it.
Player = Callable[[Run, int, str], Played]


def play(
    settings: Settings,
    date: str,
    history: History,
    accepted: List[baseline.Baseline],
    now: Circumstances,
    player: Player,
) -> Record:
    """Plays what is left of a night, and returns its record with the verdict; both are in the history by then.

    Args:
      settings: the nightly's.
      date: of the night, 2026-11-23.
      history: of the nightly.
      accepted: the baselines.
      now: commit, environment and health.
      player: runs one training and what follows from it.
    """
    clock = time.monotonic()
    record = begin(settings, date, history, now)
    if now.ill:
        return _end(record, history, clock, INFRASTRUCTURE, [_reason("", "machine", "", now.ill)])
    for repeat in (False, True):
        wanted = settings.runs
        if repeat:
            red = {finding["metric"].split(".")[0] for finding in _regressions(record["findings"])}
            wanted = tuple(run for run in wanted if run.name in red)
        for run in wanted:
            for seed in run.seeds:
                ended = _play(record, history, run, seed, repeat, player)
                if ended is not None:
                    return _end(record, history, clock, ended.outcome, [_reason(run.name, "machine", "", ended.words)])
        if not any(value is not None for played in record["plays"] for value in played["metrics"].values()) and not any(
            played["outcome"] == "failed" for played in record["plays"]
        ):
            return _end(record, history, clock, NO_DATA, [_reason("", "number", "", "no metric has a value")])
        record["findings" if not repeat else "repeated"] = _judge(settings, record, history, accepted, repeat)
        if not _regressions(record["findings"]):
            break
    return _end(record, history, clock, *_conclude(record, accepted))


def begin(settings: Settings, date: str, history: History, now: Circumstances) -> Record:
    """The night's record, new or that of an attempt which did not end; it is in the history when this returns."""
    old = history.record(date)
    attempts = old["attempts"] if old else []
    if old:
        left = {"began": old["began"], "verdict": old["verdict"] or "killed", "reasons": old["reasons"]}
        attempts = [*attempts, left]
    record: Record = {
        "schema": SCHEMA,
        "nightly": settings.nightly.name,
        "date": date,
        "verdict": "",
        "reasons": [],
        "began": _now(),
        "ended": "",
        "attempts": attempts,
        "missing": _missing(history, date),
        "last_good": last_good(history, date),
        "first_bad": first_bad(history, date),
        **now._asdict(),
        "plays": [played for played in (old or {}).get("plays", []) if played["outcome"] == "ok"],
        "findings": [],
        "repeated": [],
        "metrics": {},
    }
    history.save(record)
    return record


def close_unfinished(history: History, date: str) -> List[str]:
    """Has earlier nights that were killed end as `infrastructure`; returns their dates. Nobody may be playing one."""
    closed = []
    for record in history.records():
        if record["verdict"] == "" and record["date"] < date:
            words = "killed: it began at {} and did not end".format(record["began"])
            history.save(dict(record, verdict=INFRASTRUCTURE, reasons=[_reason("", "machine", "", words)]))
            closed.append(record["date"])
    return closed


def _play(record: Record, history: History, run: Run, seed: int, repeat: bool, player: Player) -> Optional[Played]:
    """Plays a run with a seed unless it has been played; returns what came of it if the night cannot go on."""
    which = {"run": run.name, "kind": run.kind, "seed": seed, "repeat": repeat}
    if any(all(played[name] == value for name, value in which.items()) for played in record["plays"]):
        return None
    clock = time.monotonic()
    came = player(run, seed, "{}{}".format(record["date"], " repeat" if repeat else ""))
    if came.outcome in (INFRASTRUCTURE, NO_DATA):
        return came
    # The history has no such numbers, and a night that goes on must know of them.
    no_numbers = [name for name, value in came.metrics.items() if value is not None and not math.isfinite(value)]
    seconds = round(time.monotonic() - clock, 1)
    record["plays"].append(dict(which, seconds=seconds, no_numbers=no_numbers, **came._asdict()))
    history.save(record)
    return None


def _judge(
    settings: Settings, record: Record, history: History, accepted: List[baseline.Baseline], repeat: bool
) -> List[Record]:
    """What the gates say of the first runs, or of their repeats: a finding for each gate that has something to say."""
    findings: List[Record] = []
    force = baseline.in_force(accepted, record["fingerprint"])
    for run in settings.runs:
        played = [one for one in record["plays"] if one["run"] == run.name and one["repeat"] == repeat]
        for one in played:
            if one["outcome"] == "failed":
                words = "seed {}: {}".format(one["seed"], one["words"])
                findings.append(_reason(run.name, "run", gates.REGRESSION, words))
        for name, gate in run.gates.items():
            metric = f"{run.name}.{name}"
            values = [
                math.nan if name in one.get("no_numbers", ()) else one["metrics"][name]
                for one in played
                if one["outcome"] == "ok" and name in one["metrics"]
            ]
            there = [float(value) for value in values if value is not None]
            if values and not there:
                went_on = any(stage["resumed"] for one in played for stage in one["stages"].values())
                words = "has no value" + ("; training was interrupted, and went on" if went_on else "")
                findings.append(_reason(metric, "number", gates.WARN, words))
            if not there:
                continue
            usual = force.values.get(metric, []) if force else []
            past = history.past(record["fingerprint"], run.name, name, force.date if force else "", record["date"])
            said = gates.judge(gate, there, usual, past, repeat)
            findings += [_reason(metric, finding.gate, finding.level, finding.words) for finding in said]
            mean = sum(there) / len(there)
            entry = record["metrics"].setdefault(metric, {"gate": finite(gate._asdict()), "baseline": usual})
            entry.update({"repeat" if repeat else "mean": mean})
    return findings


def _conclude(record: Record, accepted: List[baseline.Baseline]) -> Tuple[str, List[Record]]:
    """The verdict of what was judged, and its reasons: worst first, notes last."""
    red = {finding["metric"] for finding in _regressions(record["findings"])}
    again = {finding["metric"] for finding in _regressions(record["repeated"])}
    reasons: List[Record] = []
    for finding in record["findings"]:
        if finding["level"] == gates.REGRESSION and finding["metric"] not in again:
            words = finding["words"] + "; a repeat was good"
            reasons.append(dict(finding, level=gates.WARN, words=words))
        else:
            reasons.append(finding)
    repeated = {
        finding["metric"]: finding for finding in reversed(_regressions(record["repeated"]))
    }  # one of each metric
    reasons += [dict(finding, words="repeat: " + finding["words"]) for finding in repeated.values()]
    if accepted and not baseline.in_force(accepted, record["fingerprint"]):
        words = "the baseline is of another environment ({}): nothing is compared with it; accept a night of this one"
        reasons.append(_reason("", "baseline", gates.WARN, words.format(accepted[-1].about)))
    elif not accepted:
        reasons.append(_reason("", "baseline", gates.NOTE, "no baseline is accepted yet"))
    order = [gates.REGRESSION, gates.WARN]
    notes = [finding for finding in reasons if finding["level"] not in order]
    reasons = [finding for finding in reasons if finding["level"] in order]
    reasons = sorted(reasons, key=lambda finding: order.index(finding["level"])) + _together(notes)
    if red & again:
        return REGRESSION, reasons
    return (WARN if reasons and reasons[0]["level"] == gates.WARN else PASS), reasons


def _together(notes: List[Record]) -> List[Record]:
    """Notes that say the same of several metrics as one."""
    metrics: Dict[Tuple[str, str], List[str]] = {}
    for note in notes:
        metrics.setdefault((note["gate"], note["words"]), []).append(note["metric"])
    return [
        _reason(", ".join(filter(None, names)), gate, gates.NOTE, words) for (gate, words), names in metrics.items()
    ]


def _end(record: Record, history: History, clock: float, verdict: str, reasons: List[Record]) -> Record:
    record.update(verdict=verdict, reasons=reasons, ended=_now(), seconds=round(time.monotonic() - clock, 1))
    history.save(record)
    kept = history.record(record["date"])
    assert kept is not None
    return kept


def _regressions(findings: List[Record]) -> List[Record]:
    return [finding for finding in findings if finding["level"] == gates.REGRESSION]


def _reason(metric: str, gate: str, level: str, words: str) -> Record:
    return {"metric": metric, "gate": gate, "level": level or gates.REGRESSION, "words": words}


def _missing(history: History, date: str) -> List[str]:
    """Dates since the night before that have no night; none if there is no night before."""
    before = [record["date"] for record in history.records() if record["date"] < date]
    if not before:
        return []
    last, day = datetime.date.fromisoformat(before[-1]), datetime.date.fromisoformat(date)
    return [str(last + datetime.timedelta(days=gap)) for gap in range(1, min((day - last).days, _GAP + 1))]


def last_good(history: History, date: str) -> Dict[str, str]:
    """Date and commit of the last good night before a date; empty if there is none."""
    return _date_and_commit(history.before(date)[-1:])


def first_bad(history: History, date: str) -> Dict[str, str]:
    """Date and commit of the first regression between the last good night before a date and it; empty if there is none."""
    since = last_good(history, date).get("date", "")
    return _date_and_commit([bad for bad in history.before(date, (REGRESSION,)) if bad["date"] > since][:1])


def _date_and_commit(nights: List[Record]) -> Dict[str, str]:
    return {name: night[name] for night in nights for name in ("date", "commit")}


def _now() -> str:
    return datetime.datetime.now(datetime.timezone.utc).replace(microsecond=0).isoformat()
