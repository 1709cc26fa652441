"""Annotation files: one CSV row per image.

    file,width,height,split,left_eye_x,left_eye_y,right_eye_x,right_eye_y
    a/0001.jpg,320,320,train,112.0,108.0,207.0,109.0

`file` is relative to the folder of the images. Everything else may be absent: `width,height` (of the image, EXIF
orientation applied), `split` (`train` or `test`; without it all are `train`), `box_x,box_y,box_width,box_height`, and a
pair `NAME_x,NAME_y` per landmark. Other columns are ignored. Units are pixels, (0, 0) is the outer corner of the
top-left pixel. What align-crop writes has the same form, with landmarks in [-1, 1] over the crop.
"""

import array
import csv
from pathlib import Path
from typing import Dict, Iterable, Iterator, List, NamedTuple, Optional, Sequence

import numpy as np

from fse.errors import DataError

SPLITS = ("train", "test")
_BOX = ("box_x", "box_y", "box_width", "box_height")
_SIZE = ("width", "height")
_MISSING = ("", "nan", "na")


class Annotations(NamedTuple):
    """An annotation file of n images with L landmarks.

    files: n names. splits: n times `train` or `test`. landmarks: L names. points: float64 [n, L, 2], (x, y), NaN where a
    cell is empty. sizes: float64 [n, 2], width and height, or None. boxes: float64 [n, 4], x, y, width, height, or None.
    """

    files: List[str]
    splits: List[str]
    landmarks: List[str]
    points: np.ndarray
    sizes: Optional[np.ndarray]
    boxes: Optional[np.ndarray]


class Row(NamedTuple):
    """An image that was made from another one, `source`, and where its landmarks are in it, [L, 2]."""

    file: str
    source: str
    split: str
    points: np.ndarray


def read(path: Path) -> Annotations:
    """Reads an annotation file, row by row. Whether its images exist and its points make sense is not looked at.

    Raises:
      DataError: the file cannot be read, a column is missing or doubled, there is no row, or a cell is not what its
        column wants; names the line.
    """
    rows = _rows(path)
    columns = _columns(next(rows, []), path)
    landmarks = _landmarks(columns, path)
    sizes, boxes = _group(columns, _SIZE, path), _group(columns, _BOX, path)
    measured = [name + axis for name in landmarks for axis in ("_x", "_y")] + sizes + boxes
    places = [columns[name] for name in measured]
    # The numbers go into one array at once: as text, those of 200,000 images take a quarter of a gigabyte.
    files: Dict[str, str] = {}
    numbers = array.array("d")
    for line, row in enumerate(rows, 2):
        if not row:
            continue
        if len(row) != len(columns):
            raise DataError(f"{path}, row {line}: {len(row)} cells, but the header has {len(columns)}")
        name = row[columns["file"]].strip()
        file = _file(name, path)
        if file in files:
            raise DataError(f"{path}: file {name!r} has more than one row")
        files[file] = _split(row[columns["split"]].strip(), name, path) if "split" in columns else SPLITS[0]
        try:
            numbers.extend([float(row[place]) for place in places])
        except ValueError:
            numbers.extend([_number(row[columns[column]].strip(), column, name, path) for column in measured])
    if not files:
        raise DataError(f"{path}: no rows below the header")
    values = np.frombuffer(numbers).reshape(len(files), len(measured)) if measured else np.zeros((len(files), 0))
    end = 2 * len(landmarks)
    return Annotations(
        files=list(files),
        splits=list(files.values()),
        landmarks=landmarks,
        points=values[:, :end].reshape(len(files), len(landmarks), 2),
        sizes=values[:, end : end + 2] if sizes else None,
        boxes=values[:, -4:] if boxes else None,
    )


def write(path: Path, landmarks: Sequence[str], rows: Iterable[Row]) -> None:
    """Writes an annotation file with a column `source`, row by row, as they come.

    Args:
      path: of the file to write.
      landmarks: L names.
      rows: what is to be in it; points are written with 6 decimals.
    """
    with open(str(path), "w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(["file", "source", "split"] + [name + axis for name in landmarks for axis in ("_x", "_y")])
        for row in rows:
            writer.writerow([row.file, row.source, row.split, *map("{:.6f}".format, np.ravel(row.points).tolist())])


def write_table(path: Path, table: Annotations) -> None:
    """Writes annotations as `read` reads them; values with 3 decimals. Sizes are left out."""
    boxes = [] if table.boxes is None else list(_BOX)
    with open(str(path), "w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        columns = [name + axis for name in table.landmarks for axis in ("_x", "_y")]
        writer.writerow(["file", "split", *boxes, *columns])
        for row, (file, split) in enumerate(zip(table.files, table.splits)):
            values = list(table.points[row].ravel())
            if table.boxes is not None:
                values = list(table.boxes[row]) + values
            writer.writerow([file, split] + [f"{value:.3f}" for value in values])


def _rows(path: Path) -> Iterator[List[str]]:
    """The table's rows. The csv module, not pandas: it tells lines apart and lets no row be too long."""
    try:
        with open(str(path), newline="", encoding="utf-8-sig") as stream:
            yield from csv.reader(stream)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: not a CSV file in UTF-8 ({error})") from None


def _columns(header: List[str], path: Path) -> Dict[str, int]:
    """The places of the columns by name."""
    names = [name.strip() for name in header]
    if len(set(names)) < len(names):
        doubled = sorted({name for name in names if names.count(name) > 1})
        raise DataError(f"{path}: column {doubled[0]!r} is there more than once")
    if "file" not in names:
        raise DataError("{}: no column `file`; there are: {}".format(path, ", ".join(names) or "none"))
    return {name: place for place, name in enumerate(names)}


def _file(name: str, path: Path) -> str:
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if not parts or name.startswith("/") or ".." in parts:
        raise DataError(f"{path}: file {name!r} does not name an image below the images' folder")
    return "/".join(parts)


def _split(split: str, file: str, path: Path) -> str:
    for known in SPLITS:
        if split == known:
            return known  # one string for all rows
    raise DataError(f"{path}: file {file!r} has split {split!r}; wanted `train` or `test`")


def _landmarks(columns: Dict[str, int], path: Path) -> List[str]:
    """Names of the landmarks, in the order of their first columns."""
    names: List[str] = []
    for column in columns:
        name, axis = column[:-2], column[-2:]
        if column in _BOX or axis not in ("_x", "_y") or not name:
            continue
        other = name + ("_y" if axis == "_x" else "_x")
        if other not in columns:
            raise DataError(f"{path}: column {column!r} wants a column {other!r} beside it")
        if name not in names:
            names.append(name)
    return names


def _group(columns: Dict[str, int], names: Sequence[str], path: Path) -> List[str]:
    """Columns that make sense only together; none if none of them is there."""
    present = [name for name in names if name in columns]
    if present and len(present) < len(names):
        raise DataError(
            "{}: columns {} go together; there is only {}".format(path, ", ".join(names), ", ".join(present))
        )
    return present


def _number(text: str, column: str, file: str, path: Path) -> float:
    try:
        return float("nan" if text.lower() in _MISSING else text)
    except ValueError:
        raise DataError(f"{path}: file {file!r} has {text!r} in column {column!r}; wanted a number") from None
