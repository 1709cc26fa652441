"""The comparison of a sweep: the same experiment with other settings, each with several seeds, in one table and image.

Figures are means over the seeds with their standard deviation beside them (n - 1 in the denominator; None for a single
seed), each beside that of a constant prediction.
"""

import base64
import csv
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Tuple

import jinja2
import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from fse.report import results


class Point(NamedTuple):
    """A combination of settings. values: setting (section.key) -> value. runs: `metrics.json` of each seed."""

    values: Dict[str, Any]
    runs: List[Dict[str, Any]]


# What is compared: key in metrics.json, title, what it is in per cent of.
FIGURES = (
    ("nme", "Error", "inter-ocular distance"),
    ("nme_warped", "Error, warped", "inter-ocular distance"),
    ("equivariance_error", "Equivariance error", "view's width"),
)

_LONGEST = 24  # letters of a value beside the image

# As on the page.
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


def sweep(name: str, points: Sequence[Point], output: Path) -> None:
    """Writes `sweep.csv`, `sweep.png` and `sweep.html`, which holds both.

    Args:
      name: of the experiment.
      points: at least one, all with the same settings and number of seeds.
      output: an existing folder.
    """
    rows = table(points)
    with open(str(output / "sweep.csv"), "w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(rows[0])
        writer.writerows([_cell(key, value) for key, value in row.items()] for row in rows)
    draw(name, points, output / "sweep.png")
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(str(Path(__file__).parent)),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
    )
    environment.filters.update(count=results.count, number=results.number)
    page = environment.get_template("sweep.html.j2").render(
        name=name,
        settings=list(points[0].values),
        figures=_shown(points),
        rows=rows,
        best={key: min((row[key] for row in rows if row[key] is not None), default=None) for key, _, _ in FIGURES},
        image=base64.b64encode((output / "sweep.png").read_bytes()).decode("ascii"),
    )
    (output / "sweep.html").write_text(page, encoding="utf-8")


def table(points: Sequence[Point]) -> List[Dict[str, Any]]:
    """One row per point: its settings, the number of seeds, the mean and deviation (`_sd`) of each figure, and the same
    figure of a constant prediction (`mean_shape_`). None for what is not there.
    """
    rows = []
    for point in points:
        row: Dict[str, Any] = dict(point.values, seeds=len(point.runs))
        for key, _, _ in FIGURES:
            found = _values(point, key)
            row[key] = _mean(found)
            row[key + "_sd"] = float(found.std(ddof=1)) if len(found) > 1 and np.isfinite(found).all() else None
            row["mean_shape_" + key] = _mean(_values(point, "mean_shape_" + key))
        rows.append(row)
    return rows


def draw(name: str, points: Sequence[Point], path: Path) -> None:
    """Draws the figures of all points, one below the other, as a PNG."""
    shown = _shown(points)
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(10.4, 1.4 + 0.3 * len(points)), dpi=150, constrained_layout=True)
        FigureCanvasAgg(figure)
        figure.suptitle(name, x=0.01, ha="left")
        panels = figure.subplots(1, len(shown), sharey=True, squeeze=False)[0]
        for axes, (key, title, unit) in zip(panels, shown):
            _panel(axes, points, key)
            axes.set(title=title, xlabel=f"% of the {unit}")
        panels[0].set_yticks(range(len(points)))
        panels[0].set_yticklabels([label(point).replace("$", r"\$") for point in points])
        panels[0].set_ylim(len(points) - 0.5, -0.5)
        figure.legend(*panels[0].get_legend_handles_labels(), loc="upper right", ncol=3)
        figure.savefig(str(path), metadata={"Software": None})


def label(point: Point) -> str:
    """`diversity_weight 20, landmarks 10`; a key that stands in two sections keeps its section, a long value its end."""
    keys = [name.split(".")[-1] for name in point.values]
    named = [name if keys.count(key) > 1 else key for name, key in zip(point.values, keys)]
    texts = [str(value) for value in point.values.values()]
    shortened = [text if len(text) <= _LONGEST else "…" + text[-_LONGEST:] for text in texts]
    return ", ".join(f"{name} {text}" for name, text in zip(named, shortened))


def _panel(axes: Axes, points: Sequence[Point], key: str) -> None:
    """A figure of all points: mean and deviation, below them single seeds, the constant prediction's as a line."""
    for row, point in enumerate(points):
        found, constant = _values(point, key), _mean(_values(point, "mean_shape_" + key))
        names = ("mean ± standard deviation", "one seed", "mean shape") if row == 0 else (None, None, None)
        deviation = found.std(ddof=1) if len(found) > 1 else 0.0
        axes.errorbar(
            [found.mean()], [row], xerr=[deviation], fmt="o", color=_MODEL, markersize=5.0, capsize=3.0, label=names[0]
        )
        axes.plot(found, [row + 0.25] * len(found), ".", color=_MODEL, alpha=0.6, markersize=4.0, label=names[1])
        if constant is not None:
            axes.plot([constant, constant], [row - 0.5, row + 0.5], "--", color=_BASELINE, label=names[2])


def _shown(points: Sequence[Point]) -> List[Tuple[str, str, str]]:
    """The figures that some point has: without annotations there is only one."""
    return [figure for figure in FIGURES if any(np.isfinite(_values(point, figure[0])).any() for point in points)]


def _values(point: Point, key: str) -> np.ndarray:
    """A figure of all seeds, float64 [seeds], NaN where there is none."""
    return np.array([run.get(key) for run in point.runs], np.float64)


def _mean(values: np.ndarray) -> Optional[float]:
    return float(values.mean()) if np.isfinite(values).all() else None


def _cell(key: str, value: Any) -> str:
    """A value in a CSV file: settings as they are, what was measured with six decimals, nothing for None."""
    if value is None:
        return ""
    return str(value) if "." in key or key == "seeds" else f"{value:.6f}"
