"""Annotation files: CSV files with one row per image.

    file,width,height,split,left_eye_x,left_eye_y,right_eye_x,right_eye_y
    a/0001.jpg,320,320,train,112.0,108.0,207.0,109.0

Only `file` is required; it is relative to the folder of the images. Optional columns are `width,height` (of the image
after its EXIF orientation was applied), `split` (`train` or `test`; without it all images are `train`),
`box_x,box_y,box_width,box_height`, and a pair `NAME_x,NAME_y` per landmark. Other columns are ignored. Units are pixels;
(0, 0) is the outer corner of the top-left pixel. The AlignCrop stage writes files of the same form, with landmarks in
[-1, 1] over the crop.
"""

import array
import csv
from dataclasses import dataclass
from pathlib import Path
from typing import Dict, Iterable, Iterator, List, Optional, Sequence

import numpy as np

from fse.errors import DataError

SPLITS = ("train", "test")

_BOX = ("box_x", "box_y", "box_width", "box_height")
_SIZE = ("width", "height")
_MISSING = ("", "nan", "na")  # cells that mean that a number is missing, in lower case


@dataclass(frozen=True)
class Annotations:
    """The annotations of n images with L landmarks."""

    files: List[str]  # n paths relative to the folder of the images
    splits: List[str]  # n times `train` or `test`
    landmarks: List[str]  # L names
    points: np.ndarray  # float64 [n, L, 2], (x, y) in pixels; NaN where a cell is empty
    sizes: Optional[np.ndarray] = None  # float64 [n, 2], width and height in pixels
    boxes: Optional[np.ndarray] = None  # float64 [n, 4], x, y, width and height in pixels


@dataclass(frozen=True)
class CropRow:
    """A row of the annotation file that the AlignCrop stage writes."""

    file: str  # path of the crop
    source: str  # path of the image that it was cut out of
    split: str  # `train` or `test`
    points: np.ndarray  # [L, 2], (x, y) in [-1, 1] over the crop


def read(path: Path) -> Annotations:
    """Read an annotation file. Whether the images exist and the points are inside them is not checked.

    Raises:
      DataError: the file cannot be read, a column is missing or repeated, there is no row, or a cell does not have the
        type of its column. The message names the row.
    """
    rows = _read_rows(path)
    columns = _column_indices(next(rows, []), path)
    landmarks = _landmark_names(columns, path)
    sizes, boxes = _column_group(columns, _SIZE, path), _column_group(columns, _BOX, path)
    number_columns = [name + axis for name in landmarks for axis in ("_x", "_y")] + sizes + boxes
    number_indices = [columns[name] for name in number_columns]
    # Numbers go into one array right away: as strings, those of 200,000 images take a quarter of a gigabyte.
    split_by_file: Dict[str, str] = {}
    numbers = array.array("d")
    for line, row in enumerate(rows, 2):
        if not row:
            continue
        if len(row) != len(columns):
            raise DataError(f"{path}, row {line}: {len(row)} cells, but the header has {len(columns)}; correct the row")
        name = row[columns["file"]].strip()
        file = _normalized_file(name, path)
        if file in split_by_file:
            raise DataError(f"{path}: file {name!r} has more than one row; remove one")
        split = _parse_split(row[columns["split"]].strip(), name, path) if "split" in columns else SPLITS[0]
        split_by_file[file] = split
        try:
            numbers.extend([float(row[index]) for index in number_indices])
        except ValueError:  # an empty cell or not a number; the slower function tells them apart
            numbers.extend(
                [_parse_number(row[columns[column]].strip(), column, name, path) for column in number_columns]
            )
    if not split_by_file:
        raise DataError(f"{path}: no rows below the header; add a row per image")
    count = len(split_by_file)
    values = np.frombuffer(numbers).reshape(count, -1) if number_columns else np.zeros((count, 0))
    end = 2 * len(landmarks)
    return Annotations(
        files=list(split_by_file),
        splits=list(split_by_file.values()),
        landmarks=landmarks,
        points=values[:, :end].reshape(count, len(landmarks), 2),
        sizes=values[:, end : end + 2] if sizes else None,
        boxes=values[:, -4:] if boxes else None,
    )


def write_crops(path: Path, landmarks: Sequence[str], rows: Iterable[CropRow]) -> None:
    """Write an annotation file with a column `source`, one row at a time.

    Args:
      path: the file to write.
      landmarks: L names.
      rows: the rows; points are written with 6 decimals.
    """
    with open(path, "w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(["file", "source", "split", *_point_columns(landmarks)])
        for row in rows:
            numbers = [f"{value:.6f}" for value in np.ravel(row.points).tolist()]
            writer.writerow([row.file, row.source, row.split, *numbers])


def write(path: Path, table: Annotations) -> None:
    """Write annotations in the form that `read` accepts, with 3 decimals and without sizes."""
    with open(path, "w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        box_columns = [] if table.boxes is None else list(_BOX)
        writer.writerow(["file", "split", *box_columns, *_point_columns(table.landmarks)])
        for index, (file, split) in enumerate(zip(table.files, table.splits)):
            values = list(table.points[index].ravel())
            if table.boxes is not None:
                values = list(table.boxes[index]) + values
            writer.writerow([file, split] + [f"{value:.3f}" for value in values])


def _point_columns(landmarks: Sequence[str]) -> List[str]:
    return [name + axis for name in landmarks for axis in ("_x", "_y")]


def _read_rows(path: Path) -> Iterator[List[str]]:
    """Yield the rows of a CSV file.

    The csv module serves better than pandas here: errors can name the row, rows with too many cells are noticed, and
    a table is never in memory as text.
    """
    try:
        with open(path, newline="", encoding="utf-8-sig") as stream:
            yield from csv.reader(stream)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); check the file and its permissions") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: not a CSV file in UTF-8 ({error}); save it as one") from None


def _column_indices(header: List[str], path: Path) -> Dict[str, int]:
    """Return the index of each column by its name."""
    names = [name.strip() for name in header]
    if len(set(names)) < len(names):
        repeated = sorted({name for name in names if names.count(name) > 1})
        raise DataError(f"{path}: column {repeated[0]!r} is there more than once; remove or rename one")
    if "file" not in names:
        raise DataError(f"{path}: no column `file`; there are: {', '.join(names) or 'none'}")
    return {name: index for index, name in enumerate(names)}


def _normalized_file(name: str, path: Path) -> str:
    """Return the path of an image without empty and `.` parts."""
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if not parts or name.startswith("/") or ".." in parts:
        raise DataError(
            f"{path}: file {name!r} does not name an image below the images' folder; use a path relative to that folder"
        )
    return "/".join(parts)


def _parse_split(split: str, file: str, path: Path) -> str:
    for known in SPLITS:
        if split == known:
            return known  # the same string object for all rows, to save memory
    raise DataError(f"{path}: file {file!r} has split {split!r}; write `train` or `test`")


def _landmark_names(columns: Dict[str, int], path: Path) -> List[str]:
    """Return the names of the landmarks, in the order in which they first occur in the header."""
    names: List[str] = []
    for column in columns:
        name, axis = column[:-2], column[-2:]
        if column in _BOX or axis not in ("_x", "_y") or not name:
            continue
        other = name + ("_y" if axis == "_x" else "_x")
        if other not in columns:
            raise DataError(f"{path}: column {column!r} has no column {other!r} beside it; add it")
        if name not in names:
            names.append(name)
    return names


def _column_group(columns: Dict[str, int], names: Sequence[str], path: Path) -> List[str]:
    """Return columns that are only useful together: all of them or none.

    Raises:
      DataError: some of the columns are missing.
    """
    present = [name for name in names if name in columns]
    if present and len(present) < len(names):
        raise DataError(
            f"{path}: columns {', '.join(names)} go together, but there is only {', '.join(present)}; add the others"
        )
    return present


def _parse_number(text: str, column: str, file: str, path: Path) -> float:
    try:
        return float("nan" if text.lower() in _MISSING else text)
    except ValueError:
        raise DataError(f"{path}: file {file!r} has {text!r} in column {column!r}; write a number") from None
