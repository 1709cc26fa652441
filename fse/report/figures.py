"""The curves of the report as SVG elements that take their colors and font from the page.

The module avoids pyplot, which keeps every figure alive in a global registry.
"""

import io
import re
from typing import Any, Dict, List

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, MaxNLocator, NullLocator

# Placeholders for the page's CSS variables, which have different values in light mode, in dark mode and in print.
INK, MUTED, RULE, MODEL, BASELINE = "#010101", "#010102", "#010103", "#010104", "#010105"
_VARIABLES = {INK: "--ink", MUTED: "--muted", RULE: "--rule", MODEL: "--model", BASELINE: "--baseline"}

_STYLE = {
    "svg.fonttype": "none",
    "svg.hashsalt": "fse",
    "font.size": 9.5,
    "text.color": INK,
    "axes.labelcolor": MUTED,
    "axes.edgecolor": RULE,
    "axes.titlesize": 10.5,
    "axes.titlelocation": "left",
    "axes.titleweight": "bold",
    "axes.titlepad": 9.0,
    "axes.facecolor": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.xmargin": 0.01,
    "axes.formatter.useoffset": False,
    "grid.color": RULE,
    "grid.linewidth": 0.6,
    "xtick.color": RULE,
    "ytick.color": RULE,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": MUTED,
    "legend.frameon": False,
    "lines.linewidth": 1.7,
}
# Inches. The page shows these 749 points on about 1000 pixels, so a font of 9.5 points is about 13 pixels high.
_WIDTH = 10.4
_MAX_ROWS = 600  # a longer loss table is subsampled


def error_curves(panels: Dict[str, Dict[str, np.ndarray]]) -> str:
    """Draw cumulative error curves, the panels side by side.

    Args:
      panels: title -> {"model": errors, "mean shape": errors}, each [images] in percent, NaN where an error is missing.

    Returns:
      an SVG element.
    """
    with matplotlib.rc_context(_STYLE):
        figure = _figure(3.5)
        for position, (title, curves) in enumerate(panels.items(), 1):
            axes = figure.add_subplot(1, len(panels), position)
            _plot_cumulative_errors(axes, curves)
            axes.set_title(title)
            axes.legend(
                loc="lower right", bbox_to_anchor=(1.0, 1.0), ncol=2, borderaxespad=0.3
            )  # in line with the title
        return _svg(figure, "error-curves")


def n_shot_curves(rows: List[Dict[str, Any]]) -> str:
    """Draw errors over the number of annotations, for upright and for warped images.

    A shaded band shows one standard deviation on each side.

    Args:
      rows: `n_shot` of `metrics.json`; at least one row has finite errors.

    Returns:
      an SVG element.
    """
    with matplotlib.rc_context(_STYLE):
        figure = _figure(3.7)
        for position, (title, suffix) in enumerate((("Upright", ""), ("Warped", "_warped")), 1):
            axes = figure.add_subplot(1, 2, position)
            _plot_n_shot(axes, rows, suffix)
            axes.set_title(title)
            axes.legend(loc="lower right", bbox_to_anchor=(1.0, 1.0), ncol=3, borderaxespad=0.3)
        return _svg(figure, "n-shot-curves")


def loss_curves(losses: Dict[str, np.ndarray]) -> str:
    """Draw the two losses, and in smaller panels below them the learning rate and the speed, over the training steps.

    Args:
      losses: columns of `losses.csv`, each [rows] with at least one row, NaN where a value is missing.

    Returns:
      an SVG element.
    """
    panels = (
        ("loss_align", "Alignment loss", "cells²"),
        ("loss_diversity", "Diversity loss", "landmarks"),
        ("learning_rate", "Learning rate", ""),
        ("pairs_per_second", "Speed", "pairs/s"),
    )
    stride = -(-len(losses["step"]) // _MAX_ROWS)
    with matplotlib.rc_context(_STYLE):
        figure = _figure(5.2)
        layout = figure.add_gridspec(2, 2, height_ratios=[2.0, 1.0], wspace=0.06, hspace=0.08)
        for index, (column, title, unit) in enumerate(panels):
            axes = figure.add_subplot(layout[index // 2, index % 2])
            _plot_over_steps(axes, losses["step"][::stride], losses[column][::stride])
            if column == "pairs_per_second":
                axes.set_ylim(bottom=0.0)
            axes.set_title(title)
            axes.set_ylabel(unit)
            if index >= 2:  # the bottom row
                axes.set_xlabel("step")
        figure.align_ylabels()
        return _svg(figure, "loss-curves")


def _plot_cumulative_errors(axes: Axes, curves: Dict[str, np.ndarray]) -> None:
    """Plot the share of images with an error of at most x, for x from 0 to 25 %."""
    ticks = np.linspace(0.0, 25.0, 251)
    for name, color, line_style in (("model", MODEL, "-"), ("mean shape", BASELINE, "--")):
        errors = np.sort(curves[name][np.isfinite(curves[name])])
        share = 100.0 * np.searchsorted(errors, ticks, side="right") / max(len(errors), 1)
        axes.plot(ticks, share, line_style, color=color, label=name)
    axes.set(xlim=(0.0, 25.0), ylim=(0.0, 101.0), xlabel="error (% of the inter-ocular distance)")
    axes.set_ylabel("test images (%)")


def _plot_n_shot(axes: Axes, rows: List[Dict[str, Any]], suffix: str) -> None:
    """Plot mean errors and their standard deviation over the number of annotations, on a logarithmic x axis."""
    counts = [row["annotations"] for row in rows]
    curves = (
        ("nme", "model", MODEL, "-"),
        ("nme_with_bias", "with bias", MODEL, ":"),
        ("mean_shape_nme", "mean shape", BASELINE, "--"),
    )
    lines = []
    for key, label, color, line_style in curves:
        means = np.array([row.get(key + suffix) for row in rows], np.float64)
        deviations = np.array([row.get(key + suffix + "_sd") for row in rows], np.float64)
        axes.plot(counts, means, line_style, color=color, marker="o", markersize=3.5, label=label)
        if key != "nme_with_bias":  # its band would cover the model's
            low, high = means - np.nan_to_num(deviations), means + np.nan_to_num(deviations)
            axes.fill_between(counts, low, high, color=color, alpha=0.15, linewidth=0.0)
        lines.append(means)
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(FixedLocator(counts))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    _set_error_limits(axes, np.concatenate(lines))
    axes.set(xlabel="annotated training images", ylabel="error (% of the inter-ocular distance)")


def _set_error_limits(axes: Axes, errors: np.ndarray) -> None:
    """Set the y axis of mean errors: from zero, or logarithmic if they span more than a factor of five."""
    errors = errors[np.isfinite(errors)]
    if errors.min() > 0.0 and errors.max() > 5.0 * errors.min():
        _use_log_scale(axes, errors)
        axes.set_ylim(0.8 * errors.min(), 1.4 * errors.max())
    else:
        axes.set_ylim(0.0, 1.25 * errors.max())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def _use_log_scale(axes: Axes, values: np.ndarray) -> None:
    """Make the y axis logarithmic.

    Ticks are at 1, 2 and 5 times the powers of ten, or only at the powers if the values span a factor of 1000.
    """
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if values.max() < 1e3 * values.min() else (1.0,)))
    axes.yaxis.set_minor_locator(NullLocator())


def _plot_over_steps(axes: Axes, steps: np.ndarray, values: np.ndarray) -> None:
    """Plot values over the training steps, on a logarithmic y axis if they span more than a factor of five."""
    finite = values[np.isfinite(values)]
    if not len(finite):
        axes.text(0.5, 0.5, "not recorded", ha="center", va="center", color=MUTED, transform=axes.transAxes)
        axes.set(xticks=[], yticks=[])
        return
    axes.plot(steps, values, color=MODEL, marker="o" if len(finite) < 3 else "")
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    if finite.min() > 0.0 and finite.max() > 5.0 * finite.min():
        _use_log_scale(axes, finite)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))


def _figure(height: float) -> Figure:
    """Return an empty transparent figure, `height` inches high."""
    figure = Figure(figsize=(_WIDTH, height), constrained_layout=True)
    FigureCanvasAgg(figure)
    figure.patch.set_alpha(0.0)
    return figure


def _svg(figure: Figure, name: str) -> str:
    """Return a figure as an SVG element. The prefix `name` makes its ids unique on the page."""
    stream = io.StringIO()
    figure.savefig(stream, format="svg", metadata={"Date": None})
    text = stream.getvalue()
    # Inside an HTML page, the SVG's own style sheet would apply to the whole page.
    text = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>", "", text[text.index("<svg") :], flags=re.DOTALL)
    text = re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{name}-", text)
    for color, variable in _VARIABLES.items():
        text = text.replace(color, f"var({variable})")
    return text
