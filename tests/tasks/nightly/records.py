"""Records of nights for tests of the history and of baselines."""

from typing import Any, Dict, Optional


def make_record(
    date: str, verdict: str = "pass", nme: Optional[float] = 7.5, environment: str = "here", **more: Any
) -> Dict[str, Any]:
    """Return the record of a night with two seeds, whose values are `nme` + 1 and `nme` + 2."""
    plays = [
        {"run": "a", "seed": seed, "repeat": False, "metrics": {"nme": nme and nme + seed}, "outcome": "ok"}
        for seed in (1, 2)
    ]
    record = {"nightly": "n", "date": date, "verdict": verdict, "fingerprint": environment, "commit": "c0ffee"}
    return dict(record, plays=plays, **more)
