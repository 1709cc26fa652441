"""The Report stage: one self-contained HTML page about an experiment.

`inputs` reads the outputs of the other stages. `results` puts the metrics into words, `dataset_overview` summarizes the
data, `gallery` and `drawing` draw the images, `figures` the curves, and `report.html.j2` lays out the page. The page is
a deterministic function of its inputs.
"""

import dataclasses
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional

import markupsafe
import numpy as np

import fse
from fse.config import SECTIONS, Config, for_evaluation, redact_config
from fse.report import dataset_overview, figures, formatting, results, templates
from fse.report.gallery import data_uri, draw_galleries
from fse.report.inputs import DATA_ROLES, DatasetFiles, ReportInputs, read_inputs

# Role -> name of the stage on the page, in the order of the pipeline.
STAGE_NAMES = {
    "download": "Download",
    "align-crop": "AlignCrop",
    "convert": "ConvertTFRecord",
    "train": "Train",
    "export": "Export",
    "evaluate": "Evaluate",
    "download-evaluate": "Download-evaluate",
    "align-crop-evaluate": "AlignCrop-evaluate",
    "convert-evaluate": "ConvertTFRecord-evaluate",
}

_SKIPPED_LISTED = 20  # skipped images listed by name


def report(config: Config, folders: Mapping[str, Path], output: Path) -> None:
    """Write `report.html`.

    Args:
      config: the experiment.
      folders: role -> output folder of that stage; the keys of `STAGE_NAMES`. The last three roles are present only if
        the evaluation uses other data than the training.
      output: an existing folder.

    Raises:
      DataError: a stage's JSON file is missing, or a file cannot be read.
    """
    inputs = read_inputs(folders)
    page: Dict[str, Any] = {
        "version": fse.__version__,
        "name": config.experiment.name,
        "eyes": config.evaluate.eyes,
        "init_from": config.train.init_from,
        "inputs": inputs,
        "headline": results.headline(inputs.metrics),
        "no_better_than_constant": results.no_better_than_constant(inputs.metrics),
        "highlights": results.highlights(inputs.metrics),
        "results": results.metric_rows(config, inputs.metrics),
        "per_point": results.point_errors(inputs.metrics),
        "shots": results.n_shot_rows(inputs.metrics),
        "curves": _draw_curves(inputs),
        "datasets": _describe_datasets(config, folders, inputs),
        "settings": _list_settings(config),
        "times": _summarize_times(inputs.manifests),
        "stages": {role: name for role, name in STAGE_NAMES.items() if role in folders},
        "skipped_listed": _SKIPPED_LISTED,
    }
    page.update(draw_galleries(inputs, config.report.examples))
    template = templates.load_template(
        Path(__file__).with_name("report.html.j2"),
        count=formatting.format_count,
        number=formatting.format_number,
        duration=formatting.format_duration,
    )
    (output / "report.html").write_text(template.render(page), encoding="utf-8")


def _draw_curves(inputs: ReportInputs) -> Dict[str, Optional[markupsafe.Markup]]:
    """Draw the curves as SVG; None where there is nothing to draw.

    The SVG is marked as safe for the template, because its text comes from this program alone.
    """
    curves: Dict[str, Optional[markupsafe.Markup]] = {"errors": None, "shots": None, "losses": None}
    errors = inputs.errors
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


def _describe_datasets(config: Config, folders: Mapping[str, Path], inputs: ReportInputs) -> List[Dict[str, Any]]:
    """Describe the training data, and the evaluation data if it differs."""
    configs = (config, for_evaluation(config))
    return [
        _describe_dataset(data_config, folders[download], folders[align_crop], files)
        for data_config, (download, align_crop), files in zip(configs, DATA_ROLES, inputs.datasets)
    ]


def _describe_dataset(config: Config, download: Path, crops: Path, files: DatasetFiles) -> Dict[str, Any]:
    """Return what the page shows of a data set.

    Args:
      config: the experiment; its `[dataset]` and `[crop]` are those of this data set.
      download: output folder of Download.
      crops: output folder of AlignCrop.
      files: the contents of the small files in these folders.
    """
    overview = dataset_overview.summarize_crops(config, crops)
    return {
        "dataset": files.dataset,
        "crop": files.crop,
        "skipped": files.skipped,
        "reasons": dataset_overview.count_reasons([reason for _, reason in files.skipped]),
        "sizes": dataset_overview.describe_sizes_below(download / "images"),
        "sheets": [(sheet.split, sheet.count, data_uri(sheet.image)) for sheet in overview.sheets],
        "mean_image": data_uri(overview.mean_image),
        "averaged": overview.averaged,
        "spread_image": data_uri(overview.spread_image) if overview.spread_image else None,
        "points": overview.points,
    }


def _list_settings(config: Config) -> List[Dict[str, Any]]:
    """Return the sections of the configuration: each setting with its value, its default and its help text."""
    sections = []
    values_by_section = redact_config(config)
    for section, values in values_by_section.items():
        # The crops of the evaluation data default to the settings of [crop].
        inherited = values_by_section["crop"] if section == "evaluate.crop" else {}
        rows = []
        for field in dataclasses.fields(SECTIONS[section]):
            value, default = values[field.name], inherited.get(field.name, field.default)
            default = list(default) if isinstance(default, tuple) else default
            rows.append(
                {
                    "key": field.name,
                    "value": _format_setting(value),
                    "default": _format_setting(default),
                    "changed": value != default,
                    "help": field.metadata.get("help", ""),
                }
            )
        sections.append({"name": section, "rows": rows})
    return sections


def _format_setting(value: Any) -> str:
    """Return a value as in the configuration file, but strings without quotes."""
    if isinstance(value, list):
        return ", ".join(str(entry) for entry in value)
    if isinstance(value, bool):
        return str(value).lower()
    return str(value)


def _summarize_times(manifests: Dict[str, Dict[str, Any]]) -> Dict[str, Any]:
    """Return the seconds of each stage, the total, and each stage's share of the total in percent."""
    seconds = {role: manifest.get("seconds") for role, manifest in manifests.items()}
    recorded = {role: float(value) for role, value in seconds.items() if value is not None}
    total = sum(recorded.values())
    shares = {role: 100.0 * value / total for role, value in recorded.items() if total}
    return {"seconds": seconds, "shares": shares, "total": total if recorded else None}
