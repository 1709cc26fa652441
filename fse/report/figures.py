"""The report's curves, as SVG that takes its colors and its font from the page around it.

No pyplot: a figure here is an object of its own, so nothing is left behind in the process.
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

# Colors that stand for the page's own, so that light and dark mode and paper each show theirs.
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
_WIDTH = 10.4  # inches; at 72 points an inch shown on some 1000 pixels, so that a point is about a pixel and a third
_ROWS = 600  # a longer course is thinned to so many points


def error_curves(panels: Dict[str, Dict[str, np.ndarray]]) -> str:
    """Cumulative error curves, one panel beside the other.

    Args:
      panels: title -> {"model": errors, "mean shape": errors}, each [images] in per cent, NaN where there is none.

    Returns:
      an SVG element.
    """
    with matplotlib.rc_context(_STYLE):
        figure = _figure(3.5)
        for place, (title, curves) in enumerate(panels.items(), 1):
            axes = figure.add_subplot(1, len(panels), place)
            _cumulative(axes, curves)
            axes.set_title(title)
            axes.legend(loc="lower right", bbox_to_anchor=(1.0, 1.0), ncol=2, borderaxespad=0.3)  # beside the title
        return _svg(figure, "error-curves")


def n_shot_curves(rows: List[Dict[str, Any]]) -> str:
    """Errors over the number of annotations, upright beside warped; a shade reaches one standard deviation either way.

    Args:
      rows: of `n_shot` in `metrics.json`; at least one whose errors are numbers.

    Returns:
      an SVG element.
    """
    with matplotlib.rc_context(_STYLE):
        figure = _figure(3.7)
        for place, (title, suffix) in enumerate((("Upright", ""), ("Warped", "_warped")), 1):
            axes = figure.add_subplot(1, 2, place)
            _shots(axes, rows, suffix)
            axes.set_title(title)
            axes.legend(loc="lower right", bbox_to_anchor=(1.0, 1.0), ncol=3, borderaxespad=0.3)
        return _svg(figure, "n-shot-curves")


def loss_curves(losses: Dict[str, np.ndarray]) -> str:
    """The two losses, and small below them the learning rate and the speed, over the steps of training.

    Args:
      losses: columns of `losses.csv`, each [rows], with NaN for what is missing; at least one row.

    Returns:
      an SVG element.
    """
    panels = (
        ("loss_align", "Alignment loss", "cells²"),
        ("loss_diversity", "Diversity loss", "landmarks"),
        ("learning_rate", "Learning rate", ""),
        ("pairs_per_second", "Speed", "pairs/s"),
    )
    every = -(-len(losses["step"]) // _ROWS)
    with matplotlib.rc_context(_STYLE):
        figure = _figure(5.2)
        layout = figure.add_gridspec(2, 2, height_ratios=[2.0, 1.0], wspace=0.06, hspace=0.08)
        for place, (column, title, unit) in enumerate(panels):
            axes = figure.add_subplot(layout[place // 2, place % 2])
            _course(axes, losses["step"][::every], losses[column][::every])
            if column == "pairs_per_second":
                axes.set_ylim(bottom=0.0)
            axes.set_title(title)
            axes.set_ylabel(unit)
            if place >= 2:
                axes.set_xlabel("step")
        figure.align_ylabels()
        return _svg(figure, "loss-curves")


def _cumulative(axes: Axes, curves: Dict[str, np.ndarray]) -> None:
    """Share of images with an error of at most x, for x from 0 to 25 %."""
    ticks = np.linspace(0.0, 25.0, 251)
    for name, color, dashes in (("model", MODEL, "-"), ("mean shape", BASELINE, "--")):
        errors = np.sort(curves[name][np.isfinite(curves[name])])
        share = 100.0 * np.searchsorted(errors, ticks, side="right") / max(len(errors), 1)
        axes.plot(ticks, share, dashes, color=color, label=name)
    axes.set(xlim=(0.0, 25.0), ylim=(0.0, 101.0), xlabel="error (% of the inter-ocular distance)")
    axes.set_ylabel("test images (%)")


def _shots(axes: Axes, rows: List[Dict[str, Any]], suffix: str) -> None:
    """Mean errors over the logarithm of the number of annotations, with their spread over the draws."""
    counts = [row["annotations"] for row in rows]
    shown = (
        ("nme", "model", MODEL, "-"),
        ("nme_with_bias", "with bias", MODEL, ":"),
        ("mean_shape_nme", "mean shape", BASELINE, "--"),
    )
    lines = []
    for key, label, color, dashes in shown:
        means, deviations = (np.array([row.get(key + suffix + end) for row in rows], np.float64) for end in ("", "_sd"))
        axes.plot(counts, means, dashes, color=color, marker="o", markersize=3.5, label=label)
        if key != "nme_with_bias":  # its shade would lie on the other
            low, high = means - np.nan_to_num(deviations), means + np.nan_to_num(deviations)
            axes.fill_between(counts, low, high, color=color, alpha=0.15, linewidth=0.0)
        lines.append(means)
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(FixedLocator(counts))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    _errors_from(axes, np.concatenate(lines))
    axes.set(xlabel="annotated training images", ylabel="error (% of the inter-ocular distance)")


def _errors_from(axes: Axes, errors: np.ndarray) -> None:
    """Limits for mean errors: from zero, or logarithmic where they span more than a factor of five."""
    errors = errors[np.isfinite(errors)]
    if errors.min() > 0.0 and errors.max() > 5.0 * errors.min():
        _logarithmic(axes, errors)
        axes.set_ylim(0.8 * errors.min(), 1.4 * errors.max())
    else:
        axes.set_ylim(0.0, 1.25 * errors.max())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def _logarithmic(axes: Axes, values: np.ndarray) -> None:
    """Ticks at 1, 2 and 5 times the powers of ten, or where there are more than three of them at the powers alone."""
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if values.max() < 1e3 * values.min() else (1.0,)))
    axes.yaxis.set_minor_locator(NullLocator())


def _course(axes: Axes, steps: np.ndarray, values: np.ndarray) -> None:
    """A curve over the steps, logarithmic where it spans more than a factor of five."""
    finite = values[np.isfinite(values)]
    if not len(finite):
        axes.text(0.5, 0.5, "not recorded", ha="center", va="center", color=MUTED, transform=axes.transAxes)
        axes.set(xticks=[], yticks=[])
        return
    axes.plot(steps, values, color=MODEL, marker="o" if len(finite) < 3 else "")
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    if finite.min() > 0.0 and finite.max() > 5.0 * finite.min():
        _logarithmic(axes, finite)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))


def _figure(height: float) -> Figure:
    figure = Figure(figsize=(_WIDTH, height), constrained_layout=True)
    FigureCanvasAgg(figure)
    figure.patch.set_alpha(0.0)
    return figure


def _svg(figure: Figure, name: str) -> str:
    """The figure as an SVG element whose ids begin with `name` and whose colors are the page's."""
    stream = io.StringIO()
    figure.savefig(stream, format="svg", metadata={"Date": None})
    text = stream.getvalue()
    # Neither needed nor fit for use inside a page, where a style sheet acts on everything.
    text = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>", "", text[text.index("<svg") :], flags=re.DOTALL)
    text = re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{name}-", text)
    for color, variable in _VARIABLES.items():
        text = text.replace(color, f"var({variable})")
    return text
