"""The verdicts of a night, from good to bad.

pass            all gates hold
warn            a repeat was good after a bad first run; better than before; only a baseline of another environment
no-data         there is nothing to measure: the archive is missing, or no metric has a value
infrastructure  the machine failed: unhealthy, busy, out of disk space or memory, a failed download, a killed process
regression      the figures or the code got worse, and a repeat confirmed it
"""

PASS, WARN, NO_DATA, INFRASTRUCTURE, REGRESSION = "pass", "warn", "no-data", "infrastructure", "regression"

# Later nights are compared with nights that have these verdicts.
GOOD = (PASS, WARN)

# A night with one of these verdicts is finished. Other nights can be run again.
FINAL = (*GOOD, REGRESSION)

# Exit codes by verdict. Of several nights, the largest code is the worst verdict.
EXIT_CODES = {PASS: 0, WARN: 0, NO_DATA: 60, INFRASTRUCTURE: 61, REGRESSION: 62}


def state_of(verdict: str) -> str:
    """Return the state that a verdict stands for: good, regression or broken. Alarms report changes of the state."""
    if verdict in GOOD:
        return "good"
    return "regression" if verdict == REGRESSION else "broken"
