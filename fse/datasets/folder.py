"""Images of your own: a folder or archive of images in any folder structure, with or without an annotation file.

Source and terms: yours. `dataset.archive` names the folder or archive.
Images: all files below it that have the extension of an image. Unreadable images are left out later and listed.
Landmarks: the columns of `dataset.annotations`, a CSV file (see `fse.datasets.annotations`) in the top folder, or in the
only folder of an archive. Paths in its column `file` are relative to the CSV file. Without the file there are no
landmarks, and the report is qualitative.
Splits: the column `split` of that file; without it a share `dataset.test_share` of the images is for testing, selected
by a hash of the file name.
"""

import csv
import hashlib
from pathlib import Path
from typing import List

from fse.config import Dataset
from fse.datasets import annotations
from fse.errors import DataError

NAME = "folder"


def image_root(folder: Path, annotation_file: str) -> Path:
    """Return the folder that image names are relative to: the only folder inside if it has the annotation file."""
    inside = list(folder.iterdir())
    return inside[0] if len(inside) == 1 and (inside[0] / annotation_file).is_file() else folder


def add_splits(dataset: Dataset, images: List[str], table: Path) -> None:
    """Add the column `split` to the annotation file if it has none; create the file if there is none.

    Args:
      dataset: `test_share` and `seed` are read.
      images: names of the images, relative to their folder.
      table: the annotation file.

    Raises:
      DataError: the file is not a valid annotation file, or a split would be empty.
    """
    header, rows = ["file"], [[name] for name in images]
    files = images
    if table.is_file():
        files = annotations.read(table).files
        with open(table, newline="", encoding="utf-8-sig") as stream:
            header, *rows = (row for row in csv.reader(stream) if row)
    if "split" in [column.strip() for column in header]:
        return
    splits = [split_of(file, dataset.test_share, dataset.seed) for file in files]
    if dataset.test_share and len(set(splits)) < 2:
        raise DataError(
            f"dataset.test_share = {dataset.test_share:g} of {len(files)} images leaves none to "
            f"{'train on' if 'test' in splits else 'test'}; change it or dataset.seed, or add a column `split` to the "
            "annotation file"
        )
    with open(table, "w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow([*header, "split"])
        writer.writerows([*row, split] for row, split in zip(rows, splits))


def split_of(name: str, test_share: float, seed: int) -> str:
    """Return `train` or `test`. Only name and seed decide, so that added or removed images do not change the others."""
    digest = hashlib.sha256(f"{seed}/{name}".encode()).digest()
    return "test" if int.from_bytes(digest[:8], "big") < test_share * 2.0**64 else "train"
