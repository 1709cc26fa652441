"""Overview of a data set: contact sheets, image sizes, mean image, spread of the annotated points, skipped images."""

import dataclasses
import re
from collections import Counter
from pathlib import Path
from typing import List, Optional, Sequence, Tuple

import numpy as np
from PIL import Image

from fse.config import Config
from fse.datasets import annotations, images
from fse.errors import DataError, ImageError
from fse.report import drawing

_COLUMNS, _ROWS = 12, 2  # of the contact sheet of a split
_TILE = 108  # width and height of an image on the contact sheet, in pixels
_AVERAGED = 200  # training images in the mean image and in the drawing of the spread
_MEASURED = 1000  # images whose size is read
_REASONS = 10  # reasons listed by name


@dataclasses.dataclass(frozen=True)
class PointSpread:
    """The position of an annotated point in the training crops, in percent of the crop's width from its top left corner."""

    name: str
    x: Tuple[float, float]  # mean and standard deviation
    y: Tuple[float, float]  # mean and standard deviation
    outside: float  # percent of the images in which the point lies outside the view, so that the network cannot see it


@dataclasses.dataclass(frozen=True)
class SplitSheet:
    """A contact sheet of one split."""

    split: str
    count: int  # images on the sheet
    image: Image.Image


@dataclasses.dataclass(frozen=True)
class DatasetOverview:
    """Images and numbers that describe the crops of a data set."""

    sheets: List[SplitSheet]  # one for each split that has images
    mean_image: Image.Image  # mean of `averaged` training crops
    averaged: int
    spread_image: Optional[Image.Image]  # points of the same crops as dots on the mean image; None without annotations
    points: List[PointSpread]  # one for each annotated point


def summarize_crops(config: Config, crops: Path) -> DatasetOverview:
    """Summarize the output of AlignCrop. The choice of images is deterministic.

    Args:
      config: the experiment.
      crops: output folder of AlignCrop with at least one training image.

    Raises:
      DataError: the annotations or a crop cannot be read.
    """
    table = annotations.read(crops / "landmarks.csv")
    rows = {split: np.flatnonzero(np.array(table.splits) == split) for split in annotations.SPLITS}
    sheets = []
    for split in annotations.SPLITS:
        sampled = rows[split][evenly_spaced(len(rows[split]), _COLUMNS * _ROWS)]
        if len(sampled):
            shown = [_read_crop(config, crops, table.files[row]) for row in sampled]
            sheet = annotated_contact_sheet(shown, table.points[sampled], _TILE, _COLUMNS)
            sheets.append(SplitSheet(split, len(sampled), sheet))
    train = rows["train"]
    sampled = train[evenly_spaced(len(train), _AVERAGED)]
    total = sum(_read_crop(config, crops, table.files[row]).astype(np.float64) for row in sampled)
    mean = np.rint(total / len(sampled)).astype(np.uint8)
    return DatasetOverview(
        sheets=sheets,
        mean_image=drawing.enlarge(mean),
        averaged=len(sampled),
        spread_image=drawing.draw_spread(mean, table.points[sampled]) if table.landmarks else None,
        points=_spread_of_points(table.landmarks, table.points[train], config.network.view / config.crop.size),
    )


def annotated_contact_sheet(
    crops: Sequence[np.ndarray], points: Sequence[np.ndarray], tile: int, columns: int
) -> Image.Image:
    """Draw a contact sheet of images with their annotated points.

    Args:
      crops: n images, uint8 [height, width, 3] each; an image that is not square gets a white border.
      points: n arrays [L, 2] in [-1, 1].
      tile: width and height of an image on the sheet, in pixels.
      columns: images in a row.
    """
    tiles = []
    for image, image_points in zip(crops, points):
        drawn = drawing.draw_annotated(image, image_points, scale=tile / max(image.shape[:2]))
        canvas = Image.new("RGB", (tile, tile), "white")
        canvas.paste(drawn, ((tile - drawn.width) // 2, (tile - drawn.height) // 2))
        tiles.append(canvas)
    return drawing.contact_sheet(tiles, columns)


def evenly_spaced(count: int, limit: int) -> np.ndarray:
    """Return at most `limit` indices below `count`, evenly spaced and including the first and the last."""
    return np.unique(np.linspace(0, count - 1, min(count, limit)).round().astype(int))


def describe_sizes_below(folder: Path) -> str:
    """Describe the sizes of the images below a folder. Of a large folder, 1,000 images are read."""
    names = images.list_images(folder)
    sampled = [names[index] for index in evenly_spaced(len(names), _MEASURED)]
    sizes = []
    for name in sampled:
        try:
            sizes.append(images.upright_size(folder / name))
        except ImageError:  # AlignCrop has reported it already
            continue
    note = f" ({len(sampled):,} images sampled)" if len(sampled) < len(names) else ""
    return describe_sizes(sizes) + note


def describe_sizes(sizes: Sequence[Tuple[int, int]]) -> str:
    """Describe (width, height) pairs: `178 × 218 pixels`, or the smallest, the largest and the median by area."""
    if not sizes:
        return "unknown"
    ordered = sorted(sizes, key=lambda size: (size[0] * size[1], size))
    smallest, median, largest = (
        "{}\N{NO-BREAK SPACE}\N{MULTIPLICATION SIGN}\N{NO-BREAK SPACE}{}".format(*ordered[index])
        for index in (0, len(ordered) // 2, -1)
    )
    if len(set(ordered)) == 1:
        return f"{smallest} pixels"
    return f"{smallest} to {largest} pixels, median {median}"


def count_reasons(reasons: Sequence[str]) -> List[Tuple[str, int]]:
    """Return the most frequent reasons with their counts.

    Reasons that differ only in numbers are counted together, with `…` in place of the numbers.
    """
    counts = Counter(re.sub(r"-?\d[\d.,e+-]*", "\N{HORIZONTAL ELLIPSIS}", reason) for reason in reasons)
    ordered = sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))
    others = sum(count for _, count in ordered[_REASONS:])
    return ordered[:_REASONS] + ([("other reasons", others)] if others else [])


def _read_crop(config: Config, crops: Path, name: str) -> np.ndarray:
    path = crops / "images" / name
    try:
        return images.decode(path, config.crop.size**2)
    except ImageError as error:
        raise DataError(f"{path}: {error}; run AlignCrop again") from None


def _spread_of_points(names: Sequence[str], points: np.ndarray, view: float) -> List[PointSpread]:
    """Return the spread of each point.

    Args:
      names: L names.
      points: [n, L, 2] in [-1, 1] over the crop.
      view: width of the view that the network sees, as a share of the crop's width.
    """
    # [-1, 1] is 100 percent of the crop's width, hence the factor of 50.
    mean, deviation = 50.0 * (points.mean(axis=0) + 1.0), 50.0 * points.std(axis=0)
    outside = 100.0 * (np.abs(points) > view).any(axis=2).mean(axis=0)
    return [
        PointSpread(
            name,
            x=(float(mean[index, 0]), float(deviation[index, 0])),
            y=(float(mean[index, 1]), float(deviation[index, 1])),
            outside=float(outside[index]),
        )
        for index, name in enumerate(names)
    ]
