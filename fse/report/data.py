"""What the report shows of the data: contact sheets, sizes, the mean shape and how far points spread, reasons to skip."""

import re
from collections import Counter
from pathlib import Path
from typing import List, NamedTuple, Optional, Sequence, Tuple

import numpy as np
from PIL import Image

from fse.config import Config
from fse.datasets import annotations, images
from fse.errors import DataError, ImageError
from fse.report import drawing

_COLUMNS, _ROWS = 12, 2  # of a split's contact sheet
_TILE = 108  # pixels
_AVERAGED = 200  # training images whose mean is shown, and whose points are dots
_MEASURED = 1000  # images whose size is looked at
_REASONS = 10


class Point(NamedTuple):
    """Where an annotated point lies in the training crops.

    across, down: mean and standard deviation in per cent of the crop's width, from its top left corner. outside: per cent
    of the images in which the network does not see it.
    """

    name: str
    across: Tuple[float, float]
    down: Tuple[float, float]
    outside: float


class Look(NamedTuple):
    """A look at the crops.

    sheets: per split that has images its name, how many are shown, and the contact sheet. mean: the mean of `averaged`
    training crops. spread: their points over it, None if nothing is annotated. points: one per landmark.
    """

    sheets: List[Tuple[str, int, Image.Image]]
    mean: Image.Image
    averaged: int
    spread: Optional[Image.Image]
    points: List[Point]


def look(config: Config, crops: Path) -> Look:
    """Looks at what align-crop wrote, the same images each time.

    Args:
      config: the experiment.
      crops: what `fse.preprocessing.align_crop.align_crop` wrote; it holds a training image.

    Raises:
      DataError: its annotations or a crop cannot be read.
    """
    table = annotations.read(crops / "landmarks.csv")
    rows = {split: np.flatnonzero(np.array(table.splits) == split) for split in annotations.SPLITS}
    sheets = []
    for split in annotations.SPLITS:
        chosen = rows[split][evenly(len(rows[split]), _COLUMNS * _ROWS)]
        if len(chosen):
            shown = [_crop(config, crops, table.files[row]) for row in chosen]
            sheets.append((split, len(chosen), sheet(shown, table.points[chosen], _TILE, _COLUMNS)))
    train = rows["train"]
    chosen = train[evenly(len(train), _AVERAGED)]
    total = sum(_crop(config, crops, table.files[row]).astype(np.float64) for row in chosen)
    mean = np.rint(total / len(chosen)).astype(np.uint8)
    spread = drawing.draw_spread(mean, table.points[chosen]) if table.landmarks else None
    points = _points(table.landmarks, table.points[train], config.network.view / config.crop.size)
    return Look(sheets, drawing.enlarge(mean), len(chosen), spread, points)


def sheet(crops: Sequence[np.ndarray], points: Sequence[np.ndarray], tile: int, columns: int) -> Image.Image:
    """A contact sheet of images with their annotated points.

    Args:
      crops: n images, uint8 [height, width, 3] each; what is not square is padded.
      points: n times [L, 2] in [-1, 1].
      tile: width and height of each on the sheet in pixels.
      columns: how many beside each other.
    """
    tiles = []
    for image, places in zip(crops, points):
        drawn = drawing.draw_annotated(image, places, scale=tile / max(image.shape[:2]))
        whole = Image.new("RGB", (tile, tile), "white")
        whole.paste(drawn, ((tile - drawn.width) // 2, (tile - drawn.height) // 2))
        tiles.append(whole)
    return drawing.contact_sheet(tiles, columns)


def evenly(count: int, most: int) -> np.ndarray:
    """Places of at most `most` among `count`, evenly spaced from the first to the last."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(int))


def sizes(folder: Path) -> str:
    """The widths and heights of the images below a folder in words; of many, 1,000 are looked at."""
    names = images.find(folder)
    chosen = [names[place] for place in evenly(len(names), _MEASURED)]
    found = []
    for name in chosen:
        try:
            found.append(images.size(folder / name))
        except ImageError:  # align-crop has said so
            continue
    some = f" ({len(chosen):,} images looked at)" if len(chosen) < len(names) else ""
    return sizes_in_words(found) + some


def sizes_in_words(found: List[Tuple[int, int]]) -> str:
    """`178 × 218 pixels`, or the smallest, the median and the largest by area."""
    if not found:
        return "unknown"
    ordered = sorted(found, key=lambda size: (size[0] * size[1], size))
    smallest, median, largest = (
        "{}\N{NO-BREAK SPACE}\N{MULTIPLICATION SIGN}\N{NO-BREAK SPACE}{}".format(*ordered[place])
        for place in (0, len(ordered) // 2, -1)
    )
    if len(set(ordered)) == 1:
        return f"{smallest} pixels"
    return f"{smallest} to {largest} pixels, median {median}"


def reasons(texts: List[str]) -> List[Tuple[str, int]]:
    """The most frequent reasons with their counts; those that differ in numbers alone are one, with `…` for them."""
    alike = Counter(re.sub(r"-?\d[\d.,e+-]*", "\N{HORIZONTAL ELLIPSIS}", text) for text in texts)
    ordered = sorted(alike.items(), key=lambda pair: (-pair[1], pair[0]))
    rest = sum(count for _, count in ordered[_REASONS:])
    return ordered[:_REASONS] + ([("other reasons", rest)] if rest else [])


def _crop(config: Config, crops: Path, name: str) -> np.ndarray:
    path = crops / "images" / name
    try:
        return images.decode(path, config.crop.size**2)
    except ImageError as error:
        raise DataError(f"{path}: {error}; run AlignCrop again") from None


def _points(names: List[str], points: np.ndarray, view: float) -> List[Point]:
    """A row per landmark; points [n, L, 2] in [-1, 1] over the crop, of which the network sees the share `view`."""
    mean, deviation = 50.0 * (points.mean(axis=0) + 1.0), 50.0 * points.std(axis=0)
    outside = 100.0 * (np.abs(points) > view).any(axis=2).mean(axis=0)
    across, down = (list(zip(mean[:, axis].tolist(), deviation[:, axis].tolist())) for axis in (0, 1))
    return [Point(*row) for row in zip(names, across, down, outside.tolist())]
