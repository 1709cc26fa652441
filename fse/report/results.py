"""The results of an experiment in numbers and words, for the report. Numbers that are not there become dashes."""

import math
from typing import Any, Dict, Iterable, List, NamedTuple, Optional, Tuple

from fse.config import Config

_DASH = "\N{EN DASH}"


class Metric(NamedTuple):
    """A row of the table of results: the model's value, a constant prediction's, and how far they are apart.

    interval: the value's 95 % interval; empty without one. better: whether the model is; None without a baseline. bars:
    lengths in per cent of the longest, for the model and the baseline; None where there is nothing to show.
    """

    name: str
    definition: str
    value: str
    interval: str = ""
    baseline: str = ""
    difference: str = ""
    better: Optional[bool] = None
    bars: Tuple[Optional[float], Optional[float]] = (None, None)


class Point(NamedTuple):
    """An annotated point's errors: name, and for upright and warped images (model, mean shape, lengths of their bars)."""

    name: str
    upright: Tuple[Any, Any, Tuple[float, float]]
    warped: Tuple[Any, Any, Tuple[float, float]]


# Rows of the table: name, key in metrics.json, key of the mean shape's error, definition.
_ERRORS = (
    (
        "Error (NME)",
        "nme",
        "mean_shape_nme",
        "Mean distance of predicted from annotated points, in per cent of the distance between {eyes}. A linear map "
        "without constant term, fitted on training images, predicts them from the discovered landmarks.",
    ),
    ("Error with bias", "nme_with_bias", "mean_shape_nme", "The same with a constant term in the linear map."),
    (
        "Error, warped",
        "nme_warped",
        "mean_shape_nme_warped",
        "The error on test images seen through random warps as strong as those of training. A prediction that does not "
        "look at the image fails here.",
    ),
    (
        "Backward error",
        "backward_nme",
        "mean_shape_backward_nme",
        "The other way round: discovered landmarks predicted from annotated points. Landmarks that are unstable or sit on "
        "the background make it large.",
    ),
)
_PREDICTED = (("", "{}"), ("_warped", "{}, warped"))


def headline(metrics: Dict[str, Any]) -> str:
    """The result in one sentence."""
    learned = "{}, learned from {} without labels in {}, ".format(
        count(metrics.get("landmarks"), "landmark"),
        count(metrics.get("train_images"), "image"),
        count(metrics.get("steps"), "step"),
    )
    if missing(metrics.get("nme")):
        moved = number(metrics.get("equivariance_error"), 1, "%")
        found = f"are found again on warped images to within {moved} of the view's width on average; "
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
            interval = _interval(metrics, key, 1, "%")
            constant = "mean shape {}".format(number(metrics.get("mean_shape_" + key), 1, "%"))
            beside = f"95\N{NO-BREAK SPACE}%: {interval}; {constant}" if interval else constant
            rows.append((label, number(metrics[key], 1, "%"), beside))
    moved = number(metrics.get("equivariance_error"), 1, "%")
    rows.append(("Equivariance error", moved, "of the view's width"))
    speed = "{} on {}".format(number(metrics.get("train_pairs_per_second"), 0, "pairs/s"), metrics.get("device", _DASH))
    rows.append(("Training", duration(metrics.get("train_seconds")), speed))
    return rows


def table(config: Config, metrics: Dict[str, Any]) -> List[Metric]:
    """The table of results; errors against annotations only where there are annotations.

    Args:
      config: the experiment.
      metrics: contents of `metrics.json`.
    """
    rows: List[Metric] = []
    if not missing(metrics.get("nme")):
        longest = _longest(metrics.get(key) for _, *keys, _ in _ERRORS for key in keys)
        eyes = " and ".join(config.evaluate.eyes)
        for name, key, baseline, definition in _ERRORS:
            rows.append(_error(metrics, name, definition.format(eyes=eyes), (key, baseline), longest))
        rows += [_failures(metrics, suffix, name.format("Failures")) for suffix, name in _PREDICTED]
        rows += [_area(metrics, suffix, name.format("Area under the curve")) for suffix, name in _PREDICTED]
    return rows + _without_annotations(config, metrics)


def points(metrics: Dict[str, Any]) -> List[Point]:
    """The errors of each annotated point, with bars in per cent of the largest error."""
    kinds = [
        (metrics.get("per_landmark" + end) or {}, metrics.get("mean_shape_per_landmark" + end) or {})
        for end in ("", "_warped")
    ]
    longest = _longest(value for pair in kinds for errors in pair for value in errors.values())

    def errors_of(name: str, kind: Tuple[Dict[str, Any], Dict[str, Any]]) -> Tuple[Any, Any, Tuple[float, float]]:
        model, constant = (errors.get(name) for errors in kind)
        return model, constant, (_length(model, longest) or 0.0, _length(constant, longest) or 0.0)

    return [Point(name, errors_of(name, kinds[0]), errors_of(name, kinds[1])) for name in kinds[0][0]]


def shots(metrics: Dict[str, Any]) -> List[List[str]]:
    """The n-shot curve as the cells of a table: annotations, draws, then mean ± standard deviation of each error.

    The errors are the model's without and with bias and the mean shape's upright, then the model's and the mean shape's
    on warped images.
    """
    keys = ("nme", "nme_with_bias", "mean_shape_nme", "nme_warped", "mean_shape_nme_warped")
    return [
        [number(row["annotations"], 0), number(row["draws"], 0)]
        + [_with_deviation(row.get(key), row.get(key + "_sd")) for key in keys]
        for row in metrics.get("n_shot") or ()
    ]


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


def _error(
    metrics: Dict[str, Any], name: str, definition: str, keys: Tuple[str, str], longest: Optional[float] = None
) -> Metric:
    """A row of an error, in per cent; with bars if `longest` is given."""
    value, constant = metrics.get(keys[0]), metrics.get(keys[1])
    difference, better = "", None
    if value is not None and constant is not None:
        better = value < constant
        difference = _signed(100.0 * (value / constant - 1.0), 0, "%") if constant else ""
    return Metric(
        name,
        definition,
        number(value, 2, "%"),
        _interval(metrics, keys[0], 2),
        "" if missing(constant) else number(constant, 2, "%"),
        difference,
        better,
        (_length(value, longest), _length(constant, longest)),
    )


def _failures(metrics: Dict[str, Any], suffix: str, name: str) -> Metric:
    definition = "Share of test images whose error exceeds 10\N{NO-BREAK SPACE}%."
    value, constant = metrics.get("failure_rate_10" + suffix), metrics.get("mean_shape_failure_rate_10" + suffix)
    interval = _interval(metrics, "failure_rate_10" + suffix, 1, factor=100.0)
    if value is None or constant is None:
        return Metric(name, definition, _DASH if value is None else number(100.0 * value, 1, "%"), interval)
    shown = number(100.0 * value, 1, "%"), interval, number(100.0 * constant, 1, "%")
    return Metric(name, definition, *shown, _signed(100.0 * (value - constant), 0, "points"), value < constant)


def _area(metrics: Dict[str, Any], suffix: str, name: str) -> Metric:
    definition = "Area under the cumulative error curve from 0 to 10\N{NO-BREAK SPACE}%: 1 is perfect, 0 useless."
    value, constant = metrics.get("auc_10" + suffix), metrics.get("mean_shape_auc_10" + suffix)
    interval = _interval(metrics, "auc_10" + suffix, 3)
    if value is None or constant is None:
        return Metric(name, definition, number(value, 3), interval)
    shown = number(value, 3), interval, number(constant, 3)
    return Metric(name, definition, *shown, _signed(value - constant, 3), value > constant)


def _interval(metrics: Dict[str, Any], key: str, digits: int, unit: str = "", factor: float = 1.0) -> str:
    """`9.45–10.17`, empty if there is no interval."""
    ends = metrics.get(key + "_interval")
    if not ends or any(missing(end) for end in ends):
        return ""
    return f"{number(factor * ends[0], digits)}\N{EN DASH}{number(factor * ends[1], digits, unit)}"


def _with_deviation(value: Any, deviation: Any) -> str:
    return number(value, 2) + ("" if missing(deviation) else " \N{PLUS-MINUS SIGN} " + number(deviation, 2))


def _longest(values: Iterable[Any]) -> float:
    """The largest of the values that are there; 1 if there is none or it is zero."""
    return max([float(value) for value in values if not missing(value)], default=0.0) or 1.0


def _length(value: Any, longest: Optional[float]) -> Optional[float]:
    """Length of a bar in per cent of the longest."""
    return None if missing(value) or longest is None else 100.0 * value / longest


def _without_annotations(config: Config, metrics: Dict[str, Any]) -> List[Metric]:
    """The rows that every experiment has."""
    window = f"{config.loss.diversity_window}\N{MULTIPLICATION SIGN}{config.loss.diversity_window}"
    return [
        _error(
            metrics,
            "Equivariance error",
            "Mean distance between a landmark found on a warped image and the same landmark found on the upright one, "
            "both on the upright image, in per cent of the view's width. The constant here is landmarks that never move.",
            ("equivariance_error", "mean_shape_equivariance_error"),
        ),
        Metric(
            "Alignment loss",
            "At the end of training: mean squared distance between a landmark's heatmaps on two views of an image, in "
            "squared cells of 1/64 of the view's width.",
            number(metrics.get("loss_align"), 2, "cells²"),
        ),
        Metric(
            "Diversity loss",
            f"At the end of training: how many landmarks are lost to stronger ones in the same window of {window} map cells, "
            "summed over both views; 0 if each has its own place.",
            number(metrics.get("loss_diversity"), 3),
        ),
    ]


def _signed(value: float, digits: int, unit: str = "") -> str:
    return ("\N{MINUS SIGN}" if value < 0.0 else "+") + number(abs(value), digits, unit)
