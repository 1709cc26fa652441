"""The outputs of the other stages that the report shows, read into memory."""

import dataclasses
import json
import zipfile
from pathlib import Path
from typing import Any, Dict, List, Mapping, Tuple

import numpy as np
import pandas as pd

from fse.errors import DataError
from fse.training import loss_table

# Roles of the stages that download and crop images: the training data, then separate evaluation data if there is any.
DATA_ROLES = (("download", "align-crop"), ("download-evaluate", "align-crop-evaluate"))

LOSS_COLUMNS = ("step", "loss_align", "loss_diversity", "learning_rate", "pairs_per_second")
ERROR_COLUMNS = ("nme", "nme_warped", "mean_shape_nme", "mean_shape_nme_warped")


@dataclasses.dataclass(frozen=True)
class DatasetFiles:
    """What Download and AlignCrop recorded about a data set."""

    dataset: Dict[str, Any]  # dataset.json
    crop: Dict[str, Any]  # crop.json
    skipped: List[Tuple[str, str]]  # rows of skipped.csv: image, reason


@dataclasses.dataclass(frozen=True)
class ReportInputs:
    """The contents of all files that the report reads."""

    datasets: List[DatasetFiles]  # the training data, then the evaluation data if it differs
    training: Dict[str, Any]  # training.json
    model: Dict[str, Any]  # model.json
    metrics: Dict[str, Any]  # metrics.json
    manifests: Dict[str, Dict[str, Any]]  # role -> manifest.json; {} without a manifest
    losses: Dict[str, np.ndarray]  # LOSS_COLUMNS of losses.csv: float64 [rows], NaN where a value is missing
    files: List[str]  # the images of predictions.csv
    errors: Dict[str, np.ndarray]  # ERROR_COLUMNS of predictions.csv: float64 [images], NaN where a value is missing
    examples: Dict[str, np.ndarray]  # arrays of examples.npz; {} without that file


def read_inputs(folders: Mapping[str, Path]) -> ReportInputs:
    """Read the outputs of the stages.

    Args:
      folders: role (see `fse.stages`) -> output folder.

    Raises:
      DataError: `losses.csv` or a JSON file is missing, or a file cannot be read.
    """
    losses = loss_table.read(folders["train"])
    predictions = _read_table(folders["evaluate"] / "predictions.csv")
    return ReportInputs(
        datasets=[_read_dataset(folders[roles[0]], folders[roles[1]]) for roles in DATA_ROLES if roles[0] in folders],
        training=_read_json(folders["train"] / "training.json"),
        model=_read_json(folders["export"] / "model.json"),
        metrics=_read_json(folders["evaluate"] / "metrics.json"),
        manifests={role: _read_manifest(folder) for role, folder in folders.items()},
        losses={name: np.array([row.get(name, np.nan) for row in losses], np.float64) for name in LOSS_COLUMNS},
        files=_texts(predictions, "file"),
        errors={name: _numbers(predictions, name) for name in ERROR_COLUMNS},
        examples=_read_arrays(folders["evaluate"] / "examples.npz"),
    )


def _read_dataset(download: Path, crops: Path) -> DatasetFiles:
    skipped = _read_table(crops / "skipped.csv")
    return DatasetFiles(
        dataset=_read_json(download / "dataset.json"),
        crop=_read_json(crops / "crop.json"),
        skipped=list(zip(_texts(skipped, "source"), _texts(skipped, "reason"))),
    )


def _read_manifest(folder: Path) -> Dict[str, Any]:
    path = folder / "manifest.json"
    return _read_json(path) if path.exists() else {}


def _read_json(path: Path) -> Dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read ({error}); run the stage that writes it again") from None
    if not isinstance(value, dict):
        raise DataError(f"{path}: expected a JSON object, got {value}; run the stage that writes it again")
    return value


def _read_table(path: Path) -> pd.DataFrame:
    """Return a CSV file with every cell as text; an empty table if the file does not exist."""
    table: pd.DataFrame = pd.DataFrame()
    try:
        if path.exists():
            table = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8")
    except (OSError, ValueError) as error:  # pandas' own errors are ValueErrors
        raise DataError(f"{path}: cannot be read ({error}); run the stage that writes it again") from None
    return table


def _texts(table: pd.DataFrame, column: str) -> List[str]:
    """Return a column as text, "" where the cell or the column is missing."""
    return list(table[column].fillna("")) if column in table else [""] * len(table)


def _numbers(table: pd.DataFrame, column: str) -> np.ndarray:
    """Return a column as float64 [rows], NaN where a cell is not a number or the column is missing."""
    if column not in table:
        return np.full(len(table), np.nan)
    return pd.to_numeric(table[column], errors="coerce").to_numpy(np.float64)


def _read_arrays(path: Path) -> Dict[str, np.ndarray]:
    if not path.exists():
        return {}
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise DataError(f"{path}: cannot be read ({error}); run Evaluate again") from None
