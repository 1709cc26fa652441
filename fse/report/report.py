"""The report of an experiment: one HTML page that needs nothing beside itself.

`report` reads what the other stages wrote and lays it out with `report.html.j2`; `results` says it in numbers and words,
`data` what was learned from, `drawing` makes the images, `figures` the curves. The same inputs give the same page.
"""

import base64
import csv
import dataclasses
import io
import json
import math
import zipfile
from pathlib import Path
from typing import Any, Callable, Dict, List, NamedTuple, Optional

import jinja2
import markupsafe
import numpy as np
from PIL import Image

import fse
from fse.config import SECTIONS, Config, for_evaluation, redact_config
from fse.errors import DataError
from fse.report import data, drawing, figures, results

STAGES = ("Download", "AlignCrop", "ConvertTFRecord", "Train", "Export", "Evaluate")
# Those of the data that are evaluated on, where they are not those that are trained on.
EVALUATED = ("Download-evaluate", "AlignCrop-evaluate", "ConvertTFRecord-evaluate")
# The stages that brought and cropped what was trained on, and what was evaluated on.
_BROUGHT = (STAGES[:2], EVALUATED[:2])

_COMPARED = 12  # examples shown with annotated points and with heatmaps
_MAPS = 50  # maps shown one by one
_SKIPPED = 20  # unusable images named
_IMAGES = 60  # at full size; if there are more, they are smaller, which keeps the page under 3 MB
_LOSSES = ("step", "loss_align", "loss_diversity", "learning_rate", "pairs_per_second")
_ERRORS = ("nme", "nme_warped", "mean_shape_nme", "mean_shape_nme_warped")


class Images(NamedTuple):
    """What was brought and cropped: the objects in the JSON files, and the rows of `skipped.csv`."""

    dataset: Dict[str, Any]
    crop: Dict[str, Any]
    skipped: List[Dict[str, str]]


class Inputs(NamedTuple):
    """What the stages wrote, by the name of the file.

    data: what was trained on, and after it what was evaluated on where that is something else. training, model, metrics:
    the objects in the JSON files. manifests: by stage, {} where there is none. losses, predictions: columns as float
    arrays, NaN for what is missing. files: the images of `predictions`. examples: arrays of `examples.npz`, {} if there
    is none.
    """

    data: List[Images]
    training: Dict[str, Any]
    model: Dict[str, Any]
    metrics: Dict[str, Any]
    manifests: Dict[str, Dict[str, Any]]
    losses: Dict[str, np.ndarray]
    predictions: Dict[str, np.ndarray]
    files: List[str]
    examples: Dict[str, np.ndarray]


def report(
    config: Config,
    dataset: Path,
    crops: Path,
    records: Path,
    trained: Path,
    model: Path,
    evaluation: Path,
    output: Path,
    *evaluated: Path,
) -> None:
    """Writes `report.html`: the Report stage.

    Args:
      config: the experiment.
      dataset, crops, records, trained, model, evaluation: what each stage wrote, in the order of `STAGES`.
      output: an existing folder.
      evaluated: data set, crops and records that are evaluated on; none if they are the ones that are trained on.

    Raises:
      DataError: a stage's folder lacks one of its JSON files, or a file in it cannot be read.
    """
    folders = dict(zip(STAGES, (dataset, crops, records, trained, model, evaluation)))
    folders.update(zip(EVALUATED, evaluated))
    inputs = read(folders)
    page: Dict[str, Any] = {
        "version": fse.__version__,
        "name": config.experiment.name,
        "eyes": config.evaluate.eyes,
        "init_from": config.train.init_from,
        "inputs": inputs,
        "headline": results.headline(inputs.metrics),
        "useless": results.useless(inputs.metrics),
        "highlights": results.highlights(inputs.metrics),
        "results": results.table(config, inputs.metrics),
        "per_point": results.points(inputs.metrics),
        "shots": results.shots(inputs.metrics),
        "curves": _curves(inputs),
        "data": [
            _data(settings, folders[download], folders[crop], found)
            for settings, (download, crop), found in zip((config, for_evaluation(config)), _BROUGHT, inputs.data)
        ],
        "settings": _settings(config),
        "times": _times(inputs.manifests),
        "stages": list(folders),
        "most_skipped": _SKIPPED,
    }
    page.update(_images(config, inputs))
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(str(Path(__file__).parent)),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(count=results.count, number=results.number, duration=results.duration)
    text = environment.get_template("report.html.j2").render(page)
    (output / "report.html").write_text(text, encoding="utf-8")


def read(folders: Dict[str, Path]) -> Inputs:
    """Reads what the stages wrote. Raises as `report` does."""
    losses = _table(folders["Train"] / "losses.csv")
    predictions = _table(folders["Evaluate"] / "predictions.csv")
    manifests = {}
    for stage, folder in folders.items():
        file = folder / "manifest.json"
        manifests[stage] = _json(file) if file.exists() else {}
    return Inputs(
        [
            Images(
                _json(folders[download] / "dataset.json"),
                _json(folders[crop] / "crop.json"),
                _table(folders[crop] / "skipped.csv"),
            )
            for download, crop in _BROUGHT
            if download in folders
        ],
        _json(folders["Train"] / "training.json"),
        _json(folders["Export"] / "model.json"),
        _json(folders["Evaluate"] / "metrics.json"),
        manifests,
        {name: _floats(losses, name) for name in _LOSSES},
        {name: _floats(predictions, name) for name in _ERRORS},
        [row.get("file") or "" for row in predictions],
        _examples(folders["Evaluate"] / "examples.npz"),
    )


def _json(file: Path) -> Dict[str, Any]:
    try:
        value = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{file}: cannot be read ({error}); run the stage that writes it again") from None
    if not isinstance(value, dict):
        raise DataError(f"{file}: wanted a JSON object, got {value}; run the stage that writes it again")
    return value


def _table(file: Path) -> List[Dict[str, str]]:
    """The rows of a CSV file; none if there is no such file."""
    if not file.exists():
        return []
    try:
        with open(str(file), newline="", encoding="utf-8") as stream:
            return list(csv.DictReader(stream))
    except (OSError, ValueError, csv.Error) as error:
        raise DataError(f"{file}: cannot be read ({error}); run the stage that writes it again") from None


def _floats(rows: List[Dict[str, str]], column: str) -> np.ndarray:
    """A column as float64 [rows], NaN where it is empty, absent or not a number."""
    return np.array([_float(row.get(column)) for row in rows], np.float64)


def _float(text: Optional[str]) -> float:
    try:
        return float(text or "nan")
    except ValueError:
        return math.nan


def _examples(file: Path) -> Dict[str, np.ndarray]:
    if not file.exists():
        return {}
    try:
        with np.load(str(file), allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise DataError(f"{file}: cannot be read ({error}); run Evaluate again") from None


def _curves(inputs: Inputs) -> Dict[str, Optional[markupsafe.Markup]]:
    """The curves as SVG; None where there is nothing to show. No text in them comes from outside, so they are safe."""
    curves: Dict[str, Optional[markupsafe.Markup]] = {"errors": None, "shots": None, "losses": None}
    errors = inputs.predictions
    if np.isfinite(errors["nme"]).any():
        panels = {
            "Upright": {"model": errors["nme"], "mean shape": errors["mean_shape_nme"]},
            "Warped": {"model": errors["nme_warped"], "mean shape": errors["mean_shape_nme_warped"]},
        }
        curves["errors"] = markupsafe.Markup(figures.error_curves(panels))
    rows = [row for row in inputs.metrics.get("n_shot") or () if row["nme"] is not None]
    if rows:
        curves["shots"] = markupsafe.Markup(figures.n_shot_curves(rows))
    if np.isfinite(inputs.losses["step"]).any():
        curves["losses"] = markupsafe.Markup(figures.loss_curves(inputs.losses))
    return curves


def _data(config: Config, dataset: Path, crops: Path, counted: Images) -> Dict[str, Any]:
    """What the page shows of the images that were trained on, or evaluated on, beside what the stages counted."""
    found = data.look(config, crops)
    return {
        "counted": counted,
        "sizes": data.sizes(dataset / "images"),
        "sheets": [(split, count, _uri(sheet)) for split, count, sheet in found.sheets],
        "mean": _uri(found.mean),
        "averaged": found.averaged,
        "spread": _uri(found.spread) if found.spread else None,
        "points": found.points,
        "reasons": data.reasons([row.get("reason") or "" for row in counted.skipped]),
    }


def _settings(config: Config) -> List[Dict[str, Any]]:
    """The configuration, section by section: each key with its value, its default and its meaning."""
    sections = []
    for section, values in redact_config(config).items():
        # What is said of evaluation's own crops is beside those that are trained on.
        defaults = redact_config(config)["crop"] if section == "evaluate.crop" else {}
        rows = []
        for item in dataclasses.fields(SECTIONS[section]):
            value, default = values[item.name], defaults.get(item.name, item.default)
            default = list(default) if isinstance(default, tuple) else default
            words = {"key": item.name, "value": _setting(value), "default": _setting(default)}
            rows.append(dict(words, changed=value != default, help=item.metadata.get("help", "")))
        sections.append({"name": section, "rows": rows})
    return sections


def _setting(value: Any) -> str:
    """A value as a person writes it in the configuration, strings without their quotes."""
    if isinstance(value, list):
        return ", ".join(str(entry) for entry in value)
    if isinstance(value, bool):
        return str(value).lower()
    return str(value)


def _times(manifests: Dict[str, Dict[str, Any]]) -> Dict[str, Any]:
    """Seconds of each stage and of all, and each stage's share of the total in per cent."""
    seconds = {stage: manifest.get("seconds") for stage, manifest in manifests.items()}
    known = {stage: float(value) for stage, value in seconds.items() if value is not None}
    total = sum(known.values())
    shares = {stage: 100.0 * value / total for stage, value in known.items() if total}
    return {"seconds": seconds, "shares": shares, "total": total if known else None}


def _images(config: Config, inputs: Inputs) -> Dict[str, Any]:
    """Everything drawn: examples with landmarks, annotated points and heatmaps, and their legends."""
    examples, points = inputs.examples, _annotated(inputs)
    names = [str(name) for name in examples.get("names", ())][: config.report.examples]
    if not names:
        return {"examples": [], "compared": [], "overlays": [], "maps": [], "legend": [], "points": []}
    compared = names[:_COMPARED]
    count = 2 * len(names) + (3 if points else 1) * len(compared)
    scale = 320.0 * min(1.0, (_IMAGES / count) ** 0.65) / examples["images"].shape[2]
    landmarks = examples["discovered"].shape[1]
    page: Dict[str, Any] = {
        "examples": _both(drawing.draw_landmarks, ["discovered"], examples, names, scale),
        "compared": _both(
            drawing.draw_comparison, ["annotated", "predicted"], examples, compared if points else [], scale
        ),
        "legend": [_uri(drawing.landmark_key(number, 52)) for number in range(landmarks)],
        "points": [(name, _uri(drawing.comparison_key(number, 40))) for number, name in enumerate(points)],
    }
    rows = {name: row for row, name in enumerate(inputs.files)}
    for example in page["compared"]:
        row = rows.get(example["name"])
        example["errors"] = [math.nan if row is None else inputs.predictions[key][row] for key in ("nme", "nme_warped")]
    page.update(_heatmaps(examples, compared, scale))
    return page


def _annotated(inputs: Inputs) -> List[str]:
    """Names of the annotated landmarks in the examples; none if nothing is annotated."""
    count = inputs.examples["annotated"].shape[1] if "annotated" in inputs.examples else 0
    names = [str(name) for name in inputs.metrics.get("per_landmark") or inputs.data[-1].dataset.get("landmarks") or ()]
    return names[:count] + [f"point {number}" for number in range(len(names), count)]


def _both(
    draw: Callable[..., Image.Image], points: List[str], examples: Dict[str, np.ndarray], names: List[str], scale: float
) -> List[Dict[str, Any]]:
    """Examples with `points` drawn on them, each upright and warped."""
    drawn = []
    for index, name in enumerate(names):
        images = []
        for kind in ("", "warped_"):
            placed = [examples[kind + key][index] for key in points]
            images.append(_uri(draw(examples[kind + "images"][index], *placed, scale=scale)))
        drawn.append({"name": name, "images": images})
    return drawn


def _heatmaps(examples: Dict[str, np.ndarray], names: List[str], scale: float) -> Dict[str, Any]:
    """Examples with all their heatmaps at once, and of the first two also each map by itself."""
    maps, images = examples["heatmaps"], examples["images"]
    palette, ticks = drawing.colors(maps.shape[3]), examples["cells"]
    page: Dict[str, Any] = {"overlays": [], "maps": []}
    for index, name in enumerate(names):
        overlay = _uri(drawing.overlay_heatmaps(images[index], maps[index], palette, ticks, scale))
        page["overlays"].append({"name": name, "image": overlay})
    for index, name in enumerate(names[:2]):
        tiles = []
        for k, color in enumerate(palette[:_MAPS]):
            alone = maps[index][:, :, k : k + 1]
            tiles.append(_uri(drawing.overlay_heatmaps(images[index], alone, [color], ticks, 0.5 * scale)))
        page["maps"].append({"name": name, "tiles": tiles, "left_out": len(palette) - len(tiles)})
    return page


def _uri(image: Image.Image) -> str:
    """The image as a data URI: JPEG, or PNG where it has transparent parts."""
    stream = io.BytesIO()
    kind = "png" if image.mode == "RGBA" else "jpeg"
    options = {} if kind == "png" else {"quality": 80, "subsampling": 0}
    image.save(stream, kind, optimize=True, **options)
    return "data:image/{};base64,{}".format(kind, base64.b64encode(stream.getvalue()).decode("ascii"))
