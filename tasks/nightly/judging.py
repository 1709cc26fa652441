"""The judgment about a night: what the gates say about all its metrics, and the verdict that follows from it."""

import math
from dataclasses import asdict
from typing import Any, Dict, List, Optional, Sequence, Set, Tuple

from tasks.nightly import baseline, gates
from tasks.nightly.baseline import Baseline
from tasks.nightly.config import NightlyConfig, RunConfig
from tasks.nightly.gates import Gate
from tasks.nightly.history import History, Record, replace_nonfinite
from tasks.nightly.verdicts import PASS, REGRESSION, WARN

# A finding about a metric, or another reason for a verdict, as JSON: metric, gate, level, words.
Reason = Dict[str, Any]


def make_reason(metric: str, gate: str, level: str, message: str) -> Reason:
    """Return a reason as it is stored in the night's record."""
    return {"metric": metric, "gate": gate, "level": level, "words": message}


def regressions(findings: Sequence[Reason]) -> List[Reason]:
    """Return the findings that are regressions."""
    return [finding for finding in findings if finding["level"] == gates.REGRESSION]


def judge(
    config: NightlyConfig, record: Record, history: History, accepted: Sequence[Baseline], repeat: bool
) -> List[Reason]:
    """Return the findings about the first runs of a night or about their repeats; store the means in the record."""
    findings: List[Reason] = []
    in_force = baseline.in_force(accepted, record["fingerprint"])
    for run in config.runs:
        plays = [play for play in record["plays"] if play["run"] == run.name and play["repeat"] == repeat]
        for play in plays:
            if play["outcome"] == "failed":
                message = f"seed {play['seed']}: {play['words']}"
                findings.append(make_reason(run.name, "run", gates.REGRESSION, message))
        for name, gate in run.gates.items():
            findings += _judge_metric(run, name, gate, plays, record, history, in_force, repeat)
    return findings


def _judge_metric(
    run: RunConfig,
    name: str,
    gate: Gate,
    plays: List[Dict[str, Any]],
    record: Record,
    history: History,
    in_force: Optional[Baseline],
    repeat: bool,
) -> List[Reason]:
    """Return the findings about one metric of a run; store its mean in the record."""
    metric = f"{run.name}.{name}"
    measured = [
        math.nan if name in play.get("no_numbers", ()) else play["metrics"][name]
        for play in plays
        if play["outcome"] == "ok" and name in play["metrics"]
    ]
    values = [float(value) for value in measured if value is not None]
    if not values:
        return [_no_value(metric, plays)] if measured else []
    baseline_values = in_force.values.get(metric, []) if in_force else []
    since = in_force.date if in_force else ""
    past_means = history.past_means(record["fingerprint"], run.name, name, since, record["date"])
    entry = record["metrics"].setdefault(metric, {"gate": replace_nonfinite(asdict(gate)), "baseline": baseline_values})
    entry["repeat" if repeat else "mean"] = sum(values) / len(values)
    findings = gates.judge(gate, values, baseline_values, past_means, repeat)
    return [make_reason(metric, finding.gate, finding.level, finding.message) for finding in findings]


def _no_value(metric: str, plays: List[Dict[str, Any]]) -> Reason:
    # Some metrics, such as the time from start to end, have no value if training was interrupted.
    resumed = any(stage["resumed"] for play in plays for stage in play["stages"].values())
    message = "has no value" + ("; training was interrupted and resumed" if resumed else "")
    return make_reason(metric, "number", gates.WARN, message)


def conclude(record: Record, accepted: Sequence[Baseline]) -> Tuple[str, List[Reason]]:
    """Return the verdict of a judged night, and its reasons: regressions first, then warnings, then notes."""
    regressed = _metrics(regressions(record["findings"]))
    confirmed = _metrics(regressions(record["repeated"]))
    reasons = [_refuted(finding, confirmed) for finding in record["findings"]]
    reasons += _repeat_reasons(record["repeated"])
    reasons += _baseline_reasons(record, accepted)
    # `sorted` is stable, so within a level the reasons keep the order of the runs.
    levels = [gates.REGRESSION, gates.WARN]
    notes = [reason for reason in reasons if reason["level"] not in levels]
    serious = [reason for reason in reasons if reason["level"] in levels]
    serious.sort(key=lambda reason: levels.index(reason["level"]))
    reasons = serious + _merge_notes(notes)
    if regressed & confirmed:
        return REGRESSION, reasons
    return (WARN if serious and serious[0]["level"] == gates.WARN else PASS), reasons


def _metrics(findings: Sequence[Reason]) -> Set[str]:
    return {finding["metric"] for finding in findings}


def _refuted(finding: Reason, confirmed: Set[str]) -> Reason:
    """Return the finding, lowered to a warning if it is a regression that the repeat did not confirm."""
    if finding["level"] != gates.REGRESSION or finding["metric"] in confirmed:
        return finding
    return dict(finding, level=gates.WARN, words=finding["words"] + "; a repeat was good")


def _repeat_reasons(findings: Sequence[Reason]) -> List[Reason]:
    """Return the first regression of each metric in the repeat."""
    first_of_metric = {finding["metric"]: finding for finding in reversed(regressions(findings))}
    return [dict(finding, words="in the repeat, " + finding["words"]) for finding in first_of_metric.values()]


def _baseline_reasons(record: Record, accepted: Sequence[Baseline]) -> List[Reason]:
    if not accepted:
        return [make_reason("", "baseline", gates.NOTE, "no baseline is accepted yet")]
    if baseline.in_force(accepted, record["fingerprint"]):
        return []
    message = (
        f"the baseline is of another environment ({accepted[-1].about}), so tonight is not compared with it; "
        "accept a night of this environment"
    )
    return [make_reason("", "baseline", gates.WARN, message)]


def _merge_notes(notes: Sequence[Reason]) -> List[Reason]:
    """Merge notes with the same message about several metrics into one."""
    metrics: Dict[Tuple[str, str], List[str]] = {}
    for note in notes:
        metrics.setdefault((note["gate"], note["words"]), []).append(note["metric"])
    return [
        make_reason(", ".join(filter(None, names)), gate, gates.NOTE, message)
        for (gate, message), names in metrics.items()
    ]
