"""Any images: a folder or an archive of them, in whatever folders inside, with an annotation file if there is one.

Source and terms: whoever gives them. `dataset.archive` says where they are.
Images: all files below it whose names end as those of images do; what cannot be read is left out later and listed.
Landmarks: the columns of `dataset.annotations`, a CSV file on top (of a single folder in an archive as well), see
`fse.datasets.annotations`; `file` is relative to where it lies. Without it there are none, and the report is qualitative.
Splits: its column `split`; without one `dataset.test_share` of the images are for testing, drawn by name.
"""

import csv
import hashlib
from pathlib import Path
from typing import List

from fse.config import Dataset
from fse.datasets import annotations
from fse.errors import DataError

NAME = "folder"


def root(folder: Path, table: str) -> Path:
    """Where the images' names begin: the given folder, or the only thing in it if that has the annotation file."""
    inside = list(folder.iterdir())
    return inside[0] if len(inside) == 1 and (inside[0] / table).is_file() else folder


def split(dataset: Dataset, names: List[str], table: Path) -> None:
    """Completes the annotation file, or writes one that has splits alone.

    Args:
      dataset: `test_share` and `seed` are read.
      names: of the images, relative to their folder.
      table: the annotation file; a column `split` is added if it has none.

    Raises:
      DataError: it is not what `fse.datasets.annotations` wants, or the draw leaves a split empty.
    """
    header, rows = ["file"], [[name] for name in names]
    files = names
    if table.is_file():
        files = annotations.read(table).files
        with open(str(table), newline="", encoding="utf-8-sig") as stream:
            header, *rows = (row for row in csv.reader(stream) if row)
    if "split" in [column.strip() for column in header]:
        return
    splits = [drawn(file, dataset.test_share, dataset.seed) for file in files]
    if dataset.test_share and len(set(splits)) < 2:
        raise DataError(
            "dataset.test_share = {:g} of {} images leaves none to {}; change it or dataset.seed, or give the annotation "
            "file a column `split`".format(dataset.test_share, len(files), "train on" if "test" in splits else "test")
        )
    with open(str(table), "w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow([*header, "split"])
        writer.writerows([*row, chosen] for row, chosen in zip(rows, splits))


def drawn(name: str, share: float, seed: int) -> str:
    """`train` or `test`, by the name and the seed alone: other images that come or go change nothing."""
    digest = hashlib.sha256(f"{seed}/{name}".encode()).digest()
    return "test" if int.from_bytes(digest[:8], "big") < share * 2.0**64 else "train"
