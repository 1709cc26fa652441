"""The results of an experiment in numbers and words, for the report. Numbers that are not there become dashes."""

import math
from typing import Any, Dict, List, NamedTuple, Optional, Tuple

import numpy as np

from fse.config import Config
from fse.metrics import area_under_curve, failure_rate

_DASH = "\N{EN DASH}"


class Metric(NamedTuple):
    """A row of the table of results: the model's value, a constant prediction's, and how far they are apart.

    better: whether the model is; None without a baseline. bars: lengths in per cent of the longest, for the model and
    the baseline; None where there is nothing to show.
    """

    name: str
    definition: str
    value: str
    baseline: str = ""
    difference: str = ""
    better: Optional[bool] = None
    bars: Tuple[Optional[float], Optional[float]] = (None, None)


# Rows of the table: name, key in metrics.json, key of the mean shape's error, definition.
_ERRORS = (
    (
        "Error (NME)",
        "nme",
        "mean_shape_nme",
        "Mean distance of predicted from annotated points, in per cent of the distance between {eyes}. A linear map "
        "without constant term, fitted on training pictures, predicts them from the discovered landmarks.",
    ),
    ("Error with bias", "nme_with_bias", "mean_shape_nme", "The same with a constant term in the linear map."),
    (
        "Error, warped",
        "nme_warped",
        "mean_shape_nme_warped",
        "The error on test pictures seen through random warps as strong as those of training. A prediction that does not "
        "look at the picture fails here.",
    ),
    (
        "Backward error",
        "backward_nme",
        "",
        "The other way round: discovered landmarks predicted from annotated points. Landmarks that are unstable or sit on "
        "the background make it large.",
    ),
)


def headline(metrics: Dict[str, Any]) -> str:
    """The result in one sentence."""
    learned = "{}, learned from {} without labels in {}, ".format(
        count(metrics.get("landmarks"), "landmark"),
        count(metrics.get("train_images"), "picture"),
        count(metrics.get("steps"), "step"),
    )
    if missing(metrics.get("nme")):
        moved = number(metrics.get("equivariance_error"), 1, "%")
        found = "are found again on warped pictures to within {} of the view's width on average; ".format(moved)
        return learned + found + "without annotated points there is no error to report."
    return learned + "predict {} with an error of {} of the inter-ocular distance; {}.".format(
        count(len(metrics.get("per_landmark") or ()) or None, "annotated point"),
        number(metrics["nme"], 1, "%"),
        "always predicting the mean shape gives {}".format(number(metrics.get("mean_shape_nme"), 1, "%")),
    )


def useless(metrics: Dict[str, Any]) -> bool:
    """Whether a constant prediction does as well as the model."""
    nme, constant = metrics.get("nme"), metrics.get("mean_shape_nme")
    return nme is not None and constant is not None and nme >= constant


def highlights(metrics: Dict[str, Any]) -> List[Tuple[str, str, str]]:
    """The few numbers on top of the page: what, how much, beside what."""
    rows = []
    for label, key in (("Error, upright", "nme"), ("Error, warped", "nme_warped")):
        if not missing(metrics.get(key)):
            constant = "mean shape {}".format(number(metrics.get("mean_shape_" + key), 1, "%"))
            rows.append((label, number(metrics[key], 1, "%"), constant))
    moved = number(metrics.get("equivariance_error"), 1, "%")
    rows.append(("Equivariance error", moved, "of the view's width"))
    speed = "{} on {}".format(number(metrics.get("train_pairs_per_second"), 0, "pairs/s"), metrics.get("device", _DASH))
    rows.append(("Training", duration(metrics.get("train_seconds")), speed))
    return rows


def table(config: Config, metrics: Dict[str, Any], constant_errors: np.ndarray) -> List[Metric]:
    """The table of results; errors against annotations only where there are annotations.

    Args:
      config: the experiment.
      metrics: contents of `metrics.json`.
      constant_errors: [pictures] errors of the mean shape on the test pictures, in per cent; may be empty.
    """
    rows: List[Metric] = []
    if not missing(metrics.get("nme")):
        longest = max(value for key, value in metrics.items() if "nme" in key and not missing(value)) or 1.0
        eyes = " and ".join(config.evaluate.eyes)
        for name, key, baseline, definition in _ERRORS:
            rows.append(_error(name, definition.format(eyes=eyes), metrics.get(key), metrics.get(baseline), longest))
        rows += [_failures(metrics, constant_errors), _area(metrics, constant_errors)]
    return rows + _without_annotations(config, metrics)


def shares(values: Dict[str, Any]) -> List[Tuple[str, Any, float]]:
    """Names, values, and values in per cent of the largest."""
    largest = max([value for value in values.values() if not missing(value)] or [0.0]) or 1.0
    return [(name, value, 0.0 if missing(value) else 100.0 * value / largest) for name, value in values.items()]


def missing(value: Any) -> bool:
    """Whether a number is absent: None, or not finite."""
    return value is None or (isinstance(value, float) and not math.isfinite(value))


def number(value: Any, digits: int = 1, unit: str = "") -> str:
    """A number with its unit, or a dash."""
    if missing(value):
        return _DASH
    return "{:,.{}f}".format(value, digits) + ("\N{NO-BREAK SPACE}" + unit if unit else "")


def count(value: Any, noun: str) -> str:
    """`1 step`, `2,400 steps`."""
    amount = "an unknown number of" if missing(value) else number(value, 0)
    return "{}\N{NO-BREAK SPACE}{}{}".format(amount, noun, "" if value == 1 else "s")


def duration(seconds: Any) -> str:
    """`4.2 s`, `3 min 20 s`, `5 h 12 min`."""
    if missing(seconds):
        return "not recorded"
    if seconds < 59.95:
        return number(seconds, 1, "s")
    minutes, rest = divmod(round(seconds), 60)
    hours, left = divmod(minutes, 60)
    pairs = ((hours, "h"), (left, "min")) if hours else ((minutes, "min"), (rest, "s"))
    return " ".join("{}\N{NO-BREAK SPACE}{}".format(*pair) for pair in pairs)


def _error(name: str, definition: str, value: Any, constant: Any, longest: float) -> Metric:
    bars = tuple(None if missing(length) else 100.0 * length / longest for length in (value, constant))
    difference, better = "", None
    if not missing(value) and not missing(constant):
        better = value < constant
        difference = _signed(100.0 * (value / constant - 1.0), 0, "%") if constant else ""
    baseline = "" if missing(constant) else number(constant, 2, "%")
    return Metric(name, definition, number(value, 2, "%"), baseline, difference, better, (bars[0], bars[1]))


def _failures(metrics: Dict[str, Any], constant_errors: np.ndarray) -> Metric:
    """The share of failures; a constant prediction's follows from its error on each picture."""
    definition = "Share of test pictures whose error exceeds 10\N{NO-BREAK SPACE}%."
    value, constant = metrics.get("failure_rate_10"), failure_rate(constant_errors, 10.0)
    if value is None or constant is None:
        return Metric("Failures", definition, _DASH if value is None else number(100.0 * value, 1, "%"))
    shown = number(100.0 * value, 1, "%"), number(100.0 * constant, 1, "%")
    return Metric("Failures", definition, *shown, _signed(100.0 * (value - constant), 0, "points"), value < constant)


def _area(metrics: Dict[str, Any], constant_errors: np.ndarray) -> Metric:
    """The area under the error curve; a constant prediction's follows from its error on each picture."""
    definition = "Area under the cumulative error curve from 0 to 10\N{NO-BREAK SPACE}%: 1 is perfect, 0 useless."
    value, constant = metrics.get("auc_10"), area_under_curve(constant_errors, 10.0)
    if value is None or constant is None:
        return Metric("Area under the curve", definition, number(value, 3))
    shown = number(value, 3), number(constant, 3)
    return Metric("Area under the curve", definition, *shown, _signed(value - constant, 3), value > constant)


def _without_annotations(config: Config, metrics: Dict[str, Any]) -> List[Metric]:
    """The rows that every experiment has."""
    window = "{0}\N{MULTIPLICATION SIGN}{0}".format(config.loss.diversity_window)
    return [
        Metric(
            "Equivariance error",
            "Mean distance between a landmark found on a warped picture and the same landmark found on the upright one, "
            "both on the upright picture, in per cent of the view's width.",
            number(metrics.get("equivariance_error"), 2, "%"),
        ),
        Metric(
            "Alignment loss",
            "At the end of training: mean squared distance between a landmark's heat maps on two views of a picture, in "
            "squared cells of 1/64 of the view's width.",
            number(metrics.get("loss_align"), 2, "cells²"),
        ),
        Metric(
            "Diversity loss",
            "At the end of training: how many landmarks are lost to stronger ones in the same window of {} map cells, "
            "summed over both views; 0 if each has its own place.".format(window),
            number(metrics.get("loss_diversity"), 3),
        ),
    ]


def _signed(value: float, digits: int, unit: str = "") -> str:
    return ("\N{MINUS SIGN}" if value < 0.0 else "+") + number(abs(value), digits, unit)
