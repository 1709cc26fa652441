"""The metrics of an experiment in words and as rows of tables. A missing number becomes a dash.

Everything here reads the contents of `metrics.json`. The baseline of an error is a constant prediction: the mean shape
of the annotated training images.
"""

import dataclasses
from typing import Any, Dict, Iterable, List, Optional, Tuple

from fse.config import Config
from fse.report.formatting import (
    DASH,
    format_count,
    format_duration,
    format_number,
    format_signed,
    is_missing,
)


@dataclasses.dataclass(frozen=True)
class MetricRow:
    """A row of the table of results."""

    name: str
    definition: str
    value: str  # of the model
    interval: str = ""  # 95 % interval of the value; "" without one
    baseline: str = ""  # the value of a constant prediction
    difference: str = ""  # from the baseline to the model
    better: Optional[bool] = None  # whether the model beats the baseline; None without a baseline
    # Lengths of the model's and the baseline's bar in percent of the longest; None draws no bar.
    bars: Tuple[Optional[float], Optional[float]] = (None, None)


@dataclasses.dataclass(frozen=True)
class ErrorPair:
    """An error of the model beside that of the mean shape."""

    model: Optional[float]  # percent of the inter-ocular distance; None if unknown
    mean_shape: Optional[float]
    bars: Tuple[float, float]  # lengths of the model's and the mean shape's bar in percent of the longest


@dataclasses.dataclass(frozen=True)
class PointErrors:
    """The errors of one annotated point."""

    name: str
    upright: ErrorPair  # on the test images as they are
    warped: ErrorPair  # on the same images under random warps


# Rows of the table of results: name, key in metrics.json, key of the baseline's error, definition.
_ERROR_ROWS = (
    (
        "Error (NME)",
        "nme",
        "mean_shape_nme",
        "Mean distance between predicted and annotated points, in percent of the distance between {eyes}. A linear map "
        "without bias, fitted on training images, predicts the points from the discovered landmarks.",
    ),
    ("Error with bias", "nme_with_bias", "mean_shape_nme", "The same error if the linear map has a bias."),
    (
        "Error, warped",
        "nme_warped",
        "mean_shape_nme_warped",
        "The error on test images under random warps as strong as in training. A prediction that ignores the image "
        "fails here.",
    ),
    (
        "Backward error",
        "backward_nme",
        "mean_shape_backward_nme",
        "The reverse: a linear map predicts the discovered landmarks from the annotated points. Landmarks that are "
        "unstable or lie on the background make this error large.",
    ),
)
# Suffix of the key in metrics.json, and the name of the row, for metrics on upright and on warped images.
_UPRIGHT_AND_WARPED = (("", "{}"), ("_warped", "{}, warped"))


def headline(metrics: Dict[str, Any]) -> str:
    """Return the result in two sentences."""
    landmarks = format_count(metrics.get("landmarks"), "landmark")
    images = format_count(metrics.get("train_images"), "image")
    steps = format_count(metrics.get("steps"), "step")
    learned = f"{landmarks}, learned from {images} without labels in {steps}, "
    if is_missing(metrics.get("nme")):
        moved = format_number(metrics.get("equivariance_error"), 1, "%")
        return (
            f"{learned}move by {moved} of the view's width on average when the image is warped and the landmarks are "
            "mapped back. Without annotated points there is no other error to report."
        )
    points = format_count(len(metrics.get("per_landmark") or ()) or None, "annotated point")
    error = format_number(metrics["nme"], 1, "%")
    constant = format_number(metrics.get("mean_shape_nme"), 1, "%")
    return (
        f"{learned}predict {points} with an error of {error} of the inter-ocular distance. "
        f"Always predicting the mean shape gives an error of {constant}."
    )


def no_better_than_constant(metrics: Dict[str, Any]) -> bool:
    """Return whether the model's error is at least as large as that of the mean shape."""
    nme, constant = metrics.get("nme"), metrics.get("mean_shape_nme")
    return nme is not None and constant is not None and nme >= constant


def highlights(metrics: Dict[str, Any]) -> List[Tuple[str, str, str]]:
    """Return the main numbers at the top of the page: label, value, remark."""
    rows = []
    for label, key in (("Error, upright", "nme"), ("Error, warped", "nme_warped")):
        if not is_missing(metrics.get(key)):
            interval = _format_interval(metrics, key, 1, "%")
            constant = "mean shape " + format_number(metrics.get("mean_shape_" + key), 1, "%")
            remark = f"95\N{NO-BREAK SPACE}% CI {interval}; {constant}" if interval else constant
            rows.append((label, format_number(metrics[key], 1, "%"), remark))
    moved = format_number(metrics.get("equivariance_error"), 1, "%")
    rows.append(("Equivariance error", moved, "of the view's width"))
    rate = format_number(metrics.get("train_pairs_per_second"), 0, "pairs/s")
    speed = f"{rate} on {metrics.get('device', DASH)}"
    rows.append(("Training", format_duration(metrics.get("train_seconds")), speed))
    return rows


def metric_rows(config: Config, metrics: Dict[str, Any]) -> List[MetricRow]:
    """Return the table of results. Errors of annotated points are left out without annotations.

    Args:
      config: the experiment.
      metrics: the contents of `metrics.json`.
    """
    rows: List[MetricRow] = []
    if not is_missing(metrics.get("nme")):
        longest = _longest_bar(metrics.get(key) for _, *keys, _ in _ERROR_ROWS for key in keys)
        eyes = " and ".join(config.evaluate.eyes)
        for name, key, baseline, definition in _ERROR_ROWS:
            rows.append(_error_row(metrics, name, definition.format(eyes=eyes), (key, baseline), longest))
        rows += [_failure_row(metrics, suffix, name.format("Failures")) for suffix, name in _UPRIGHT_AND_WARPED]
        rows += [
            _area_row(metrics, suffix, name.format("Area under the curve")) for suffix, name in _UPRIGHT_AND_WARPED
        ]
    return rows + _rows_without_annotations(config, metrics)


def point_errors(metrics: Dict[str, Any]) -> List[PointErrors]:
    """Return the errors of each annotated point."""
    upright, warped = (
        (metrics.get("per_landmark" + suffix) or {}, metrics.get("mean_shape_per_landmark" + suffix) or {})
        for suffix in ("", "_warped")
    )
    longest = _longest_bar(value for errors in (*upright, *warped) for value in errors.values())

    def error_pair(name: str, errors: Tuple[Dict[str, Any], Dict[str, Any]]) -> ErrorPair:
        model, mean_shape = errors[0].get(name), errors[1].get(name)
        return ErrorPair(
            model, mean_shape, (_bar_length(model, longest) or 0.0, _bar_length(mean_shape, longest) or 0.0)
        )

    return [PointErrors(name, error_pair(name, upright), error_pair(name, warped)) for name in upright[0]]


def n_shot_rows(metrics: Dict[str, Any]) -> List[List[str]]:
    """Return the table of the n-shot curve: number of annotations, repetitions, then each error ± standard deviation.

    The errors are: on upright images those of the model without bias, of the model with bias, and of the mean shape; on
    warped images those of the model and of the mean shape.
    """
    keys = ("nme", "nme_with_bias", "mean_shape_nme", "nme_warped", "mean_shape_nme_warped")
    return [
        [format_number(row["annotations"], 0), format_number(row["draws"], 0)]
        + [_format_with_deviation(row.get(key), row.get(key + "_sd")) for key in keys]
        for row in metrics.get("n_shot") or ()
    ]


def _error_row(
    metrics: Dict[str, Any], name: str, definition: str, keys: Tuple[str, str], longest: Optional[float] = None
) -> MetricRow:
    """Return the row of an error in percent.

    Args:
      metrics: the contents of `metrics.json`.
      name: of the row.
      definition: of the error.
      keys: of the model's error and of the baseline's.
      longest: the error with the longest bar; None draws no bars.
    """
    value, baseline = metrics.get(keys[0]), metrics.get(keys[1])
    difference, better = "", None
    if value is not None and baseline is not None:
        better = value < baseline
        difference = format_signed(100.0 * (value / baseline - 1.0), 0, "%") if baseline else ""
    return MetricRow(
        name,
        definition,
        value=format_number(value, 2, "%"),
        interval=_format_interval(metrics, keys[0], 2),
        baseline="" if is_missing(baseline) else format_number(baseline, 2, "%"),
        difference=difference,
        better=better,
        bars=(_bar_length(value, longest), _bar_length(baseline, longest)),
    )


def _failure_row(metrics: Dict[str, Any], suffix: str, name: str) -> MetricRow:
    """Return the row of the failure rate, which `metrics.json` has as a fraction and the page shows in percent."""
    definition = "Share of test images with an error above 10\N{NO-BREAK SPACE}%."
    value, baseline = metrics.get("failure_rate_10" + suffix), metrics.get("mean_shape_failure_rate_10" + suffix)
    interval = _format_interval(metrics, "failure_rate_10" + suffix, 1, factor=100.0)
    if value is None or baseline is None:
        return MetricRow(name, definition, DASH if value is None else format_number(100.0 * value, 1, "%"), interval)
    return MetricRow(
        name,
        definition,
        value=format_number(100.0 * value, 1, "%"),
        interval=interval,
        baseline=format_number(100.0 * baseline, 1, "%"),
        difference=format_signed(100.0 * (value - baseline), 0, "points"),
        better=value < baseline,
    )


def _area_row(metrics: Dict[str, Any], suffix: str, name: str) -> MetricRow:
    definition = "Area under the cumulative error curve from 0 to 10\N{NO-BREAK SPACE}%; 1 is the best possible value."
    value, baseline = metrics.get("auc_10" + suffix), metrics.get("mean_shape_auc_10" + suffix)
    interval = _format_interval(metrics, "auc_10" + suffix, 3)
    if value is None or baseline is None:
        return MetricRow(name, definition, format_number(value, 3), interval)
    return MetricRow(
        name,
        definition,
        value=format_number(value, 3),
        interval=interval,
        baseline=format_number(baseline, 3),
        difference=format_signed(value - baseline, 3),
        better=value > baseline,
    )


def _rows_without_annotations(config: Config, metrics: Dict[str, Any]) -> List[MetricRow]:
    """Return the rows that every experiment has."""
    window = f"{config.loss.diversity_window}\N{MULTIPLICATION SIGN}{config.loss.diversity_window}"
    return [
        _error_row(
            metrics,
            "Equivariance error",
            "Mean distance between a landmark detected on a warped image, mapped back to the upright image, and the same "
            "landmark detected on the upright image, in percent of the view's width. The baseline here is landmarks "
            "that never move.",
            ("equivariance_error", "mean_shape_equivariance_error"),
        ),
        MetricRow(
            "Alignment loss",
            "At the end of training: mean squared distance between the heatmaps of a landmark on two views of an image, "
            "in squared cells of 1/64 of the view's width.",
            format_number(metrics.get("loss_align"), 2, "cells²"),
        ),
        MetricRow(
            "Diversity loss",
            f"At the end of training: the number of landmarks minus, for each window of {window} heatmap cells, the largest "
            "probability of any landmark there, summed over both views; 0 if no two landmarks share a window.",
            format_number(metrics.get("loss_diversity"), 3),
        ),
    ]


def _format_interval(metrics: Dict[str, Any], key: str, digits: int, unit: str = "", factor: float = 1.0) -> str:
    """Return the interval of a metric, such as `9.45–10.17`; "" if there is none."""
    bounds = metrics.get(key + "_interval")
    if not bounds or any(is_missing(bound) for bound in bounds):
        return ""
    return f"{format_number(factor * bounds[0], digits)}\N{EN DASH}{format_number(factor * bounds[1], digits, unit)}"


def _format_with_deviation(value: Any, deviation: Any) -> str:
    """Return a mean with its standard deviation, such as `9.81 ± 0.25`."""
    return format_number(value, 2) + ("" if is_missing(deviation) else f" \N{PLUS-MINUS SIGN} {deviation:,.2f}")


def _longest_bar(values: Iterable[Any]) -> float:
    """Return the largest known value, or 1 if no value is known or the largest is zero."""
    return max([float(value) for value in values if not is_missing(value)], default=0.0) or 1.0


def _bar_length(value: Any, longest: Optional[float]) -> Optional[float]:
    """Return the length of a bar in percent of the longest; None for no bar."""
    return None if is_missing(value) or longest is None else 100.0 * value / longest
