"""The four gates that decide whether a metric regressed. Each is small enough to be checked by hand.

A metric has one value per seed. The gates judge the mean over the seeds:

- *bounds*: the mean lies between a minimum and a maximum. A value that is too good also fails.
- *baseline*: the mean is not worse than the accepted baseline's by more than a tolerance. If both have several seeds, the
  difference must also exceed two standard errors, so that a few unlucky seeds are not reported as a regression.
- *step*: the mean is not worse than the median of the last nights by more than three times the spread of the nights.
  In a repeat of the night the limit is two spreads.
- *drift*: the cumulative sum of the deviations to the worse side since the last accepted change stays below a limit
  (CUSUM: E. S. Page, Continuous inspection schemes, Biometrika 41, 1954). It finds slow changes that no single night shows.

The spread is a robust estimate of the standard deviation of the nights: the median absolute difference between successive
nights, scaled to the standard deviation of a normal distribution. A drift or a step inside the window hardly changes it.
The spread is at least `noise` times the level, because a few nights often underestimate it. The gates compare a night with
earlier good nights of the same environment since the last accepted change. `benchmarks/nightly_statistics.py` measures how
often the gates are wrong; docs/nightly.md has the results.
"""

import math
import statistics
from dataclasses import dataclass
from typing import List, NamedTuple, Sequence

# The step gate takes the median of at most STEP_WINDOW nights and needs at least MIN_NIGHTS.
STEP_WINDOW, MIN_NIGHTS = 30, 8
# How many spreads a night, or its repeat, may deviate from the median.
STEP_LIMIT, REPEAT_STEP_LIMIT = 3.0, 2.0
# The drift gate takes the median of the first nights as the reference and sums the deviations of the later ones.
DRIFT_REFERENCE_NIGHTS = 14
# In spreads: what each night may deviate without being counted, and the sum at which the drift gate fails.
DRIFT_ALLOWANCE, DRIFT_LIMIT = 1.0, 6.0
# How many standard errors the means of two samples of seeds must differ by.
STANDARD_ERRORS = 2.0

# Standard deviation per median absolute deviation, for a normal distribution.
_SIGMA_PER_MAD = 1.4826
# The median of n normal values has pi/2 times the variance of their mean.
_MEDIAN_VARIANCE = math.pi / 2.0

REGRESSION, WARN, NOTE = "regression", "warn", "note"


@dataclass(frozen=True)
class Gate:
    """The limits of one metric."""

    better: str = "lower"  # "lower" or "higher"
    minimum: float = -math.inf  # of the mean, in the metric's unit
    maximum: float = math.inf
    tolerance: float = 0.05  # how much worse than the baseline the mean may be, as a fraction of the baseline
    noise: float = 0.01  # smallest relative standard deviation of a night that the gates assume


class Finding(NamedTuple):
    """The answer of one gate."""

    gate: str
    level: str  # REGRESSION, WARN or NOTE
    message: str  # one line


def judge(
    gate: Gate, values: Sequence[float], baseline: Sequence[float], past_means: Sequence[float], repeat: bool = False
) -> List[Finding]:
    """Return the findings of all gates for one metric.

    Args:
      gate: limits of the metric.
      values: tonight's values, one per seed; at least one.
      baseline: values of the accepted night in this environment; empty if no night is accepted.
      past_means: means of the earlier nights to compare with, oldest first.
      repeat: whether `values` come from the night's second run, which confirms or refutes a regression in the first.
    """
    if not all(map(math.isfinite, values)):
        return [Finding("number", REGRESSION, "the value is not a number")]
    mean = statistics.mean(values)
    step_limit = REPEAT_STEP_LIMIT if repeat else STEP_LIMIT
    findings = [*_bounds(gate, mean), *_step(gate, mean, past_means, step_limit), *_drift(gate, mean, past_means)]
    return findings + (_baseline(gate, values, baseline) if baseline else [])


def _bounds(gate: Gate, mean: float) -> List[Finding]:
    if mean > gate.maximum:
        message = f"{format_value(mean)} is above its maximum {format_value(gate.maximum)}"
        return [Finding("bounds", REGRESSION, message)]
    if mean < gate.minimum:
        message = f"{format_value(mean)} is below its minimum {format_value(gate.minimum)}"
        return [Finding("bounds", REGRESSION, message)]
    return []


def _baseline(gate: Gate, values: Sequence[float], baseline: Sequence[float]) -> List[Finding]:
    mean, accepted = statistics.mean(values), statistics.mean(baseline)
    worse_by = _sign(gate) * (mean - accepted)
    if worse_by <= gate.tolerance * abs(accepted):
        return []
    percent = _percent(worse_by, accepted)
    message = f"{format_value(mean)} is {percent} worse than the baseline's {format_value(accepted)}"
    both_have_seeds = len(values) > 1 and len(baseline) > 1
    if both_have_seeds:
        standard_error = math.sqrt(_squared_standard_error(values) + _squared_standard_error(baseline))
        if worse_by <= STANDARD_ERRORS * standard_error:
            return [Finding("baseline", NOTE, message + ", but the seeds vary too much to call it a regression")]
    return [Finding("baseline", REGRESSION, f"{message} (tolerance {100.0 * gate.tolerance:.3g} %)")]


def _step(gate: Gate, mean: float, past_means: Sequence[float], limit: float) -> List[Finding]:
    recent = past_means[-STEP_WINDOW:]
    if len(recent) < MIN_NIGHTS:
        return [Finding("step", NOTE, f"no trend yet: {len(recent)} of {MIN_NIGHTS} nights")]
    median = statistics.median(recent)
    worse_by = _sign(gate) * (mean - median)
    # The deviation of a night from the median of n nights includes the sampling error of that median.
    z = _divide(worse_by, spread(gate, past_means) * math.sqrt(1.0 + _MEDIAN_VARIANCE / len(recent)))
    if abs(z) <= limit:
        return []
    comparison = f"{_percent(abs(worse_by), median)} {'worse' if z > 0 else 'better'}"
    message = (
        f"{format_value(mean)} is {comparison} than the median of the last {len(recent)} nights, "
        f"{format_value(median)} ({abs(z):.1f} times their spread)"
    )
    if z > 0:
        return [Finding("step", REGRESSION, message)]
    return [Finding("step", WARN, message + "; if the improvement is intended, accept this night as the baseline")]


def _drift(gate: Gate, mean: float, past_means: Sequence[float]) -> List[Finding]:
    if len(past_means) < DRIFT_REFERENCE_NIGHTS:
        return []
    reference, unit = statistics.median(past_means[:DRIFT_REFERENCE_NIGHTS]), spread(gate, past_means)
    cumulative = 0.0
    for value in [*past_means[DRIFT_REFERENCE_NIGHTS:], mean]:
        cumulative = max(0.0, cumulative + _divide(_sign(gate) * (value - reference), unit) - DRIFT_ALLOWANCE)
    if cumulative <= DRIFT_LIMIT:
        return []
    message = (
        f"{format_value(mean)} has drifted from {format_value(reference)} since the last accepted change "
        f"(cumulative deviation {cumulative:.1f} spreads, limit {DRIFT_LIMIT:.0f})"
    )
    return [Finding("drift", REGRESSION, message)]


def spread(gate: Gate, past_means: Sequence[float]) -> float:
    """Return the standard deviation of the nights about their level, in the metric's unit.

    Args:
      gate: sets the smallest spread, as a fraction of the median.
      past_means: at least two nights, oldest first.
    """
    median_difference = statistics.median([abs(later - earlier) for earlier, later in zip(past_means, past_means[1:])])
    # The difference of two nights has twice the variance of one night.
    return max(_SIGMA_PER_MAD * median_difference / math.sqrt(2.0), gate.noise * abs(statistics.median(past_means)))


def format_value(value: float) -> str:
    """Return a metric's value with four significant digits."""
    return f"{value:.4g}"


def _sign(gate: Gate) -> float:
    """Return the factor that makes a difference positive if it is a change for the worse."""
    return 1.0 if gate.better == "lower" else -1.0


def _percent(difference: float, level: float) -> str:
    return f"{100.0 * difference / abs(level):.1f} %" if level else format_value(difference)


def _divide(value: float, unit: float) -> float:
    """Return a quotient, infinite for a zero divisor: if nights never differ, any difference exceeds every limit."""
    if unit > 0.0:
        return value / unit
    return math.copysign(math.inf, value) if value else 0.0


def _squared_standard_error(sample: Sequence[float]) -> float:
    """Return the squared standard error of a sample's mean."""
    return statistics.variance(sample) / len(sample)
