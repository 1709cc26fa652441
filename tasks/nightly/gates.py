"""Whether tonight's figures are a regression: four gates for each metric, small enough to be checked by hand.

A metric's value of a night is a sample, one number a seed, and its mean is what is judged:

- *bounds*: the mean lies between a minimum and a maximum. Too good is a fault too.
- *baseline*: the mean is not worse than that of the accepted baseline by more than a tolerance. Where both are samples of
  several seeds, the difference must also be twice its standard error: a few seeds that fell badly are no regression.
- *step*: the mean is not worse than the median of the last nights by more than three times the nights' spread; in a repeat
  of the night, by more than twice.
- *drift*: a cumulative sum of how far the nights since the last accepted change lie on the bad side (CUSUM: E. S. Page,
  Continuous inspection schemes, Biometrika 41, 1954) stays below a limit. It finds what no single night shows.

The spread of nights is robust: the median absolute difference of one night from the next, scaled to the standard deviation
of a normal distribution; a drift or a step in the window hardly changes it. It is at least `noise` of the level, since of
a few nights the spread is often found too small. The past are nights that were good, in the same environment, since the
last accepted change. `benchmarks/nightly_statistics.py` measures how often the gates err, and docs/nightly.md has the
figures.
"""

import math
import statistics
from typing import List, NamedTuple, Sequence

# Nights that the step's level is the median of, at most and at least.
WINDOW, FEWEST = 30, 8
# Spreads by which a night must be worse (or, as a warning, better) than the level; and its repeat.
STEP, CONFIRMED = 3.0, 2.0
# Nights that the drift's reference is the median of; those after it are summed.
SETTLED = 14
# Spreads a night that the sum forgives, and where it alarms.
ALLOWANCE, LIMIT = 1.0, 6.0
# Standard errors by which samples of several seeds must differ.
CERTAIN = 2.0

# Of a normal distribution: standard deviation per median absolute deviation; a difference of two has the root of two.
_NORMAL = 1.4826
# The median of n values has pi/2 times the variance of their mean.
_MEDIAN = math.pi / 2.0

REGRESSION, WARN, NOTE = "regression", "warn", "note"


class Gate(NamedTuple):
    """How one metric is judged.

    better: "lower" or "higher". minimum, maximum: of the mean, in the metric's unit. tolerance: share of the baseline by
    which the mean may be worse. noise: relative standard deviation of a night that is to be expected at least.
    """

    better: str = "lower"
    minimum: float = -math.inf
    maximum: float = math.inf
    tolerance: float = 0.05
    noise: float = 0.01


class Finding(NamedTuple):
    """What a gate says. gate: its name. level: `REGRESSION`, `WARN` or `NOTE`. words: the reason, one line."""

    gate: str
    level: str
    words: str


def judge(
    gate: Gate, tonight: Sequence[float], baseline: Sequence[float], past: Sequence[float], repeat: bool = False
) -> List[Finding]:
    """What the gates say of one metric.

    Args:
      gate: how it is judged.
      tonight: its values, one a seed; at least one.
      baseline: those of the accepted night in this environment; empty if none is accepted.
      past: the means of earlier nights, oldest first (see above).
      repeat: tonight was run a second time since the first was a regression, and these are the second's values.
    """
    if not all(map(math.isfinite, tonight)):
        return [Finding("number", REGRESSION, "is not a number")]
    mean = statistics.mean(tonight)
    found = [*_bounds(gate, mean), *_step(gate, mean, past, CONFIRMED if repeat else STEP), *_drift(gate, mean, past)]
    return found + (_baseline(gate, tonight, baseline) if baseline else [])


def _bounds(gate: Gate, mean: float) -> List[Finding]:
    if mean > gate.maximum:
        return [Finding("bounds", REGRESSION, f"{figure(mean)} is above its maximum {figure(gate.maximum)}")]
    if mean < gate.minimum:
        return [Finding("bounds", REGRESSION, f"{figure(mean)} is below its minimum {figure(gate.minimum)}")]
    return []


def _baseline(gate: Gate, tonight: Sequence[float], baseline: Sequence[float]) -> List[Finding]:
    mean, accepted = statistics.mean(tonight), statistics.mean(baseline)
    worse = _sign(gate) * (mean - accepted)
    if worse <= gate.tolerance * abs(accepted):
        return []
    words = f"{figure(mean)} is {_share(worse, accepted)} worse than the baseline's {figure(accepted)}"
    several = len(tonight) > 1 and len(baseline) > 1
    if several and worse <= CERTAIN * math.sqrt(_squared_error(tonight) + _squared_error(baseline)):
        return [Finding("baseline", NOTE, words + ", but the seeds differ among themselves too much to tell")]
    return [Finding("baseline", REGRESSION, f"{words} (tolerance {100.0 * gate.tolerance:.3g} %)")]


def _step(gate: Gate, mean: float, past: Sequence[float], limit: float) -> List[Finding]:
    recent = past[-WINDOW:]
    if len(recent) < FEWEST:
        return [Finding("step", NOTE, f"no trend yet: {len(recent)} of {FEWEST} nights")]
    level = statistics.median(recent)
    worse = _sign(gate) * (mean - level)
    z = _over(worse, spread(gate, past) * math.sqrt(1.0 + _MEDIAN / len(recent)))
    if abs(z) <= limit:
        return []
    words = "{} is {} {} than the last {} nights' {}, {:.1f} times their spread".format(
        figure(mean), _share(abs(worse), level), "worse" if z > 0 else "better", len(recent), figure(level), abs(z)
    )
    if z > 0:
        return [Finding("step", REGRESSION, words)]
    return [Finding("step", WARN, words + ": if that was meant, accept it as the baseline")]


def _drift(gate: Gate, mean: float, past: Sequence[float]) -> List[Finding]:
    if len(past) < SETTLED:
        return []
    reference, unit = statistics.median(past[:SETTLED]), spread(gate, past)
    total = 0.0
    for value in [*past[SETTLED:], mean]:
        total = max(0.0, total + _over(_sign(gate) * (value - reference), unit) - ALLOWANCE)
    if total <= LIMIT:
        return []
    words = "{} has drifted from {} since the last accepted change: {:.1f} spreads in all, {:.0f} are allowed"
    return [Finding("drift", REGRESSION, words.format(figure(mean), figure(reference), total, LIMIT))]


def spread(gate: Gate, past: Sequence[float]) -> float:
    """The standard deviation of nights about their level, in the metric's unit; see the top of this file.

    Args:
      gate: says what it is at least, as a share of the median.
      past: at least two nights in their order.
    """
    steps = statistics.median([abs(later - earlier) for earlier, later in zip(past, past[1:])])
    return max(_NORMAL * steps / math.sqrt(2.0), gate.noise * abs(statistics.median(past)))


def figure(value: float) -> str:
    """A value as it is written in reasons: four digits."""
    return f"{value:.4g}"


def _sign(gate: Gate) -> float:
    """What turns a difference into how much worse."""
    return 1.0 if gate.better == "lower" else -1.0


def _share(difference: float, level: float) -> str:
    return f"{100.0 * difference / abs(level):.1f} %" if level else figure(difference)


def _over(value: float, unit: float) -> float:
    """A quotient; nights that never differ have no spread, and then any difference is beyond all bounds."""
    if unit > 0.0:
        return value / unit
    return math.copysign(math.inf, value) if value else 0.0


def _squared_error(sample: Sequence[float]) -> float:
    """The squared standard error of a sample's mean."""
    return statistics.variance(sample) / len(sample)
