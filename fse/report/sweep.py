"""The comparison of a sweep: one experiment with several combinations of settings and seeds, as a table and a chart.

Values are means over the seeds with the sample standard deviation (n - 1 in the denominator; None for a single seed).
Next to each value is that of a constant prediction.
"""

import base64
import csv
import dataclasses
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence, Tuple

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from fse.report import formatting, templates


@dataclasses.dataclass(frozen=True)
class CombinationResults:
    """The results of one combination of settings."""

    values: Dict[str, Any]  # setting (section.key) -> value
    runs: List[Dict[str, Any]]  # the contents of `metrics.json` for each seed


# The compared metrics: key in metrics.json, title, and the length that the value is a percentage of.
METRICS = (
    ("nme", "Error", "inter-ocular distance"),
    ("nme_warped", "Error, warped", "inter-ocular distance"),
    ("equivariance_error", "Equivariance error", "view's width"),
)

_MAX_VALUE_LENGTH = 24  # characters of a setting's value in a label of the chart

# The colors of the page.
_MODEL, _BASELINE, _INK, _RULE, _PAPER = "#1f5f99", "#b0661b", "#1a1f25", "#e0e1db", "#fbfbf9"
_STYLE = {
    "font.size": 9.0,
    "text.color": _INK,
    "figure.facecolor": _PAPER,
    "axes.facecolor": _PAPER,
    "axes.labelcolor": _INK,
    "axes.edgecolor": _RULE,
    "axes.titlesize": 10.0,
    "axes.titlelocation": "left",
    "axes.titleweight": "bold",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": _RULE,
    "grid.linewidth": 0.6,
    "xtick.color": _RULE,
    "xtick.labelcolor": _INK,
    "ytick.labelcolor": _INK,
    "ytick.left": False,
    "legend.frameon": False,
}


def write_comparison(name: str, combinations: Sequence[CombinationResults], output: Path) -> None:
    """Write `sweep.csv`, `sweep.png`, and `sweep.html` with the contents of both.

    Args:
      name: of the experiment.
      combinations: at least one, all with the same settings and the same number of seeds.
      output: an existing folder.
    """
    rows = comparison_rows(combinations)
    with open(output / "sweep.csv", "w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(rows[0])
        writer.writerows([_format_cell(key, value) for key, value in row.items()] for row in rows)
    draw_chart(name, combinations, output / "sweep.png")
    template = templates.load_template(
        Path(__file__).with_name("sweep.html.j2"), count=formatting.format_count, number=formatting.format_number
    )
    page = template.render(
        name=name,
        settings=list(combinations[0].values),
        metrics=_available_metrics(combinations),
        rows=rows,
        best={key: min((row[key] for row in rows if row[key] is not None), default=None) for key, _, _ in METRICS},
        image=base64.b64encode((output / "sweep.png").read_bytes()).decode("ascii"),
    )
    (output / "sweep.html").write_text(page, encoding="utf-8")


def comparison_rows(combinations: Sequence[CombinationResults]) -> List[Dict[str, Any]]:
    """Return the table of the comparison, one row per combination.

    A row has the settings, the number of seeds, and for each metric its mean, its standard deviation (suffix `_sd`) and
    the value of a constant prediction (prefix `mean_shape_`). Missing values are None.
    """
    rows = []
    for combination in combinations:
        row: Dict[str, Any] = dict(combination.values, seeds=len(combination.runs))
        for key, _, _ in METRICS:
            values = _values(combination, key)
            row[key] = _mean(values)
            row[key + "_sd"] = float(values.std(ddof=1)) if len(values) > 1 and np.isfinite(values).all() else None
            row["mean_shape_" + key] = _mean(_values(combination, "mean_shape_" + key))
        rows.append(row)
    return rows


def draw_chart(name: str, combinations: Sequence[CombinationResults], path: Path) -> None:
    """Draw the metrics of all combinations as a PNG: a panel per metric, a line per combination."""
    metrics = _available_metrics(combinations)
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(10.4, 1.4 + 0.3 * len(combinations)), dpi=150, constrained_layout=True)
        FigureCanvasAgg(figure)
        figure.suptitle(name, x=0.01, ha="left")
        panels = figure.subplots(1, len(metrics), sharey=True, squeeze=False)[0]
        for axes, (key, title, unit) in zip(panels, metrics):
            _plot_metric(axes, combinations, key)
            axes.set(title=title, xlabel=f"% of the {unit}")
        panels[0].set_yticks(range(len(combinations)))
        # Matplotlib reads text between dollar signs as a formula.
        panels[0].set_yticklabels([combination_label(values).replace("$", r"\$") for values in combinations])
        panels[0].set_ylim(len(combinations) - 0.5, -0.5)
        figure.legend(*panels[0].get_legend_handles_labels(), loc="upper right", ncol=3)
        figure.savefig(path, metadata={"Software": None})


def combination_label(combination: CombinationResults) -> str:
    """Return a short name of a combination, such as `diversity_weight 20, landmarks 10`.

    A key keeps its section only if another section has the same key. A long value is cut at its beginning.
    """
    keys = [setting.split(".")[-1] for setting in combination.values]
    names = [setting if keys.count(key) > 1 else key for setting, key in zip(combination.values, keys)]
    texts = [str(value) for value in combination.values.values()]
    shortened = [text if len(text) <= _MAX_VALUE_LENGTH else "…" + text[-_MAX_VALUE_LENGTH:] for text in texts]
    return ", ".join(f"{name} {text}" for name, text in zip(names, shortened))


def _plot_metric(axes: Axes, combinations: Sequence[CombinationResults], key: str) -> None:
    """Plot a metric of all combinations.

    Each combination has its mean with the standard deviation, the seeds as dots below, and a dashed line for the
    constant prediction.
    """
    for row, combination in enumerate(combinations):
        values, constant = _values(combination, key), _mean(_values(combination, "mean_shape_" + key))
        # Only the first row enters the legend.
        labels = ("mean ± standard deviation", "one seed", "mean shape") if row == 0 else (None, None, None)
        deviation = values.std(ddof=1) if len(values) > 1 else 0.0
        axes.errorbar(
            [values.mean()],
            [row],
            xerr=[deviation],
            fmt="o",
            color=_MODEL,
            markersize=5.0,
            capsize=3.0,
            label=labels[0],
        )
        axes.plot(values, [row + 0.25] * len(values), ".", color=_MODEL, alpha=0.6, markersize=4.0, label=labels[1])
        if constant is not None:
            axes.plot([constant, constant], [row - 0.5, row + 0.5], "--", color=_BASELINE, label=labels[2])


def _available_metrics(combinations: Sequence[CombinationResults]) -> List[Tuple[str, str, str]]:
    """Return the entries of `METRICS` with a value; without annotations only one has."""
    return [metric for metric in METRICS if any(np.isfinite(_values(runs, metric[0])).any() for runs in combinations)]


def _values(combination: CombinationResults, key: str) -> np.ndarray:
    """Return a metric of all seeds as float64 [seeds], NaN where it is missing."""
    return np.array([metrics.get(key) for metrics in combination.runs], np.float64)


def _mean(values: np.ndarray) -> Optional[float]:
    """Return the mean, or None if a value is missing."""
    return float(values.mean()) if np.isfinite(values).all() else None


def _format_cell(key: str, value: Any) -> str:
    """Return a cell of the CSV file: a setting as it is, a metric with six decimals, "" for None."""
    if value is None:
        return ""
    is_setting = "." in key or key == "seeds"
    return str(value) if is_setting else f"{value:.6f}"
