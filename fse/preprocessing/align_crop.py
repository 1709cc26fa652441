"""Align-crop: every image becomes a square of one size, and its landmarks go through the same geometry.

A square is a [2, 3] matrix from points of the crop (in [-1, 1] over its outer edges) to pixels of the image, where
(0, 0) is the outer corner of the top-left pixel. Where a square leaves its image, the image's outermost pixels are
repeated: a reflection would show a second eye.
"""

import csv
import functools
import hashlib
import itertools
import json
import logging
import os
import posixpath
import re
import shutil
from collections import Counter
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, NamedTuple, Optional, Set, Tuple

import numpy as np
from PIL import Image

from fse import geometry
from fse.config import Config
from fse.config import Crop as Settings
from fse.datasets import annotations, images
from fse.errors import DataError, ImageError, StageError
from fse.preprocessing import crop_frame
from fse.runtime import locks, processes
from fse.runtime.outputs import CLAIMS, write_json
from fse.runtime.progress import progress_bar

# Images a shard: what an interrupted run has to crop again at the most.
_SHARD = 500
# Where the results of finished shards are noted while the stage runs.
FINISHED = "finished"
# An image is decoded to no fewer pixels than this many per pixel of the crop along a side; then it is resampled.
_FINER = 2.0
# By which filter a crop is made smaller. Hamming's has half the taps of the bicubic one. On photographs of 178 pixels, made
# to 146, it is 47.5 dB from what comes of far larger ones, bicubic 52.3 dB; but JPEG of quality 95 alone is 44.4 dB off.
_SHRINKING = {"png": Image.Resampling.BICUBIC, "jpeg": Image.Resampling.HAMMING}


class _Job(NamedTuple):
    """One image to crop. `points` are its landmarks, [L, 2] pixels; `size` and `box` as in `Annotations`."""

    image: str
    crop: str
    points: np.ndarray
    size: Optional[np.ndarray]
    box: Optional[np.ndarray]


class _Crop(NamedTuple):
    """What came of a job: why there is no crop, or the landmarks [L, 2] in [-1, 1] over it."""

    reason: str
    points: Optional[np.ndarray]


class _Plan(NamedTuple):
    """What is to be done, the same in every process that has a share in it.

    unannotated: names of the images without a row of the table. table: the others' annotations. order: rows of it in the
    order of the sources' names. crops: the crops' names in that order. work: crops one image. job: the job at a place
    of `order`.
    """

    unannotated: Set[str]
    table: annotations.Annotations
    order: List[int]
    crops: List[str]
    work: Callable[[_Job], _Crop]
    job: Callable[[int], _Job]


class _Shard(NamedTuple):
    """A shard to crop: its images, where its results are noted, and the lock of the process that is at it."""

    jobs: List[_Job]
    note: Path
    claim: Path


def align_crop(config: Config, dataset: Path, output: Path) -> None:
    """Crops every image of a data set: the AlignCrop stage.

    Writes `images/*.png` or `.jpeg` (RGB, `crop.size` square), `landmarks.csv` (file, source, split and the landmarks in
    [-1, 1] over the crop, which may lie outside), `skipped.csv` (source, reason) and `crop.json`. The rows are in the
    order of the sources' names; nothing depends on the number of processes. What an interrupted attempt left in
    `output` is gone on from at the last finished shard of 500 images.

    An image is skipped if it is broken or too large, if the data set is annotated and it is not, if its annotated size
    is another, and if a landmark is missing or outside the image.

    Args:
      config: `crop` is read, and `evaluate.eyes` in mode `landmarks`.
      dataset: what `fse.datasets.download` wrote.
      output: an empty folder, one to be made, or one in which the same was begun.

    Raises:
      DataError: there is no image, more are skipped than `crop.max_skipped` permits, or the mode wants annotations
        that the data set does not have.
      StageError: the output cannot be written, or a process was killed.
    """
    try:
        (output / "images").mkdir(parents=True, exist_ok=True)
        _align_crop(config, dataset, output)
    except OSError as error:
        raise StageError(f"the crops cannot be written to {error.filename or output}: {error.strerror}") from None


def share(config: Config, dataset: Path, output: Path) -> None:
    """Crops the shards that no other process is at, one process a shard, where `align_crop` finds them afterwards.

    Any number of processes may do so at once, on any hosts that see `output`. A shard whose process died is made by one
    that comes to it later, or by `align_crop`.

    Args:
      config, dataset: as for `align_crop`.
      output: a folder with a folder `claims`.

    Raises:
      DataError, StageError: as `align_crop`.
    """
    (output / "images").mkdir(exist_ok=True)
    (output / FINISHED).mkdir(exist_ok=True)
    plan = _planned(config, dataset, output)
    notes = _notes(len(plan.order), output / FINISHED)
    shards = (
        _Shard([plan.job(place) for place in shard], note, output / CLAIMS / note.name) for note, shard in notes.items()
    )
    work = functools.partial(_crop_unclaimed, plan.work)
    made = processes.ordered_map(work, shards, config.crop.processes, "align-crop", chunk=1)
    count = sum(progress_bar(made, total=len(notes), unit="shards", desc="align-crop"))
    logging.info("align-crop: %d of %d shards were made here", count, len(notes))


def resample(
    image: Image.Image, square: np.ndarray, size: int, shrinking: Image.Resampling = Image.Resampling.BICUBIC
) -> Image.Image:
    """Resamples a square of an image, bicubic and antialiased.

    Args:
      image: RGB.
      square: [2, 3], from [-1, 1] over the crop to pixels of the image: without shear; turned ones are square.
      size: width and height of the crop in pixels.
      shrinking: another filter where an upright square inside the image has more pixels than the crop.

    Returns:
      RGB, `size` square.

    Raises:
      ImageError: the square lies outside the image.
    """
    bicubic = Image.Resampling.BICUBIC
    sides = crop_frame.sides(square) / size  # image pixels per crop pixel
    step = float(np.min(sides))
    upright = square[0, 1] == 0.0 == square[1, 0]
    if upright:
        left, top, right, bottom = _box(square)
        if left >= 0.0 and top >= 0.0 and right <= image.width and bottom <= image.height:
            # Far more pixels than are wanted are first reduced to at least twice as many, by means of blocks.
            by = shrinking if step > 1.0 else bicubic
            return image.resize((size, size), by, box=(left, top, right, bottom), reducing_gap=2.0)
    # Blocks stay small against the image: it is the outermost of them that are repeated beyond the border.
    whole = max(1, min(int(step / 2.0), max(image.size) // 64))
    region, origin = _cut(image, square, margin=4.0 * max(1.0, float(np.max(sides))), factor=whole)
    square = np.concatenate([square[:, :2], square[:, 2:] - origin[:, None]], axis=1) / whole
    if upright:
        return region.resize((size, size), bicubic, box=_box(square))
    if step > 1.25 * whole:
        # A little finer than the crop, so that the second resampling does not blur what the first has left.
        reduced = np.ceil(1.25 * np.array(region.size) * whole / step).astype(int)
        square = square * (reduced / np.array(region.size))[:, None]
        region = region.resize(tuple(reduced.tolist()), bicubic)
    # Three pixels for one, and straight lines between them: the kernel of Pillow's bicubic transform (a = -1, unlike that of
    # its resizing, Keys' -1/2) does not keep straight lines and moves what it shows by up to a tenth of a pixel.
    region = region.resize((3 * region.width, 3 * region.height), bicubic)
    square = 3.0 * square
    # Pillow's matrix goes from pixels of the output, in the same outer-edge convention.
    to_crop = np.array([[2.0 / size, 0.0, -1.0], [0.0, 2.0 / size, -1.0], [0.0, 0.0, 1.0]])
    coefficients = tuple((square @ to_crop).ravel().tolist())
    return region.transform((size, size), Image.Transform.AFFINE, coefficients, Image.Resampling.BILINEAR)


def _align_crop(config: Config, dataset: Path, output: Path) -> None:
    unannotated, table, order, crops, work, job = _planned(config, dataset, output)
    results = _shard_by_shard(work, job, len(order), config.crop.processes, output / FINISHED)
    skipped = dict.fromkeys(unannotated, "no annotation")
    splits: Dict[str, int] = dict.fromkeys(annotations.SPLITS, 0)

    def rows() -> Iterator[annotations.Row]:
        for place, result in enumerate(progress_bar(results, total=len(order), unit="images", desc="align-crop")):
            source, split = table.files[order[place]], table.splits[order[place]]
            if result.points is None:
                skipped[source] = result.reason
            else:
                splits[split] += 1
                yield annotations.Row(crops[place], source, split, result.points)

    annotations.write(output / "landmarks.csv", table.landmarks, rows())
    _check_skipped(config, skipped, sum(splits.values()) + len(skipped))
    _write_summary(config, output, table.landmarks, splits, skipped)
    shutil.rmtree(str(output / FINISHED))


def _planned(config: Config, dataset: Path, output: Path) -> _Plan:
    table, unannotated = _annotations(config, dataset)
    order = sorted(range(len(table.files)), key=table.files.__getitem__)
    crops = crop_names([table.files[row] for row in order], config.crop.format)
    work = functools.partial(_crop, config.crop, _mean_shape(config, table))

    originals, made = str(dataset / "images"), str(output / "images")

    def job(place: int) -> _Job:
        row = order[place]
        return _Job(
            image=os.path.join(originals, table.files[row]),
            crop=os.path.join(made, crops[place]),
            points=table.points[row],
            size=None if table.sizes is None else table.sizes[row],
            box=None if table.boxes is None else table.boxes[row],
        )

    return _Plan(unannotated, table, order, crops, work, job)


def _notes(count: int, finished: Path) -> Dict[Path, range]:
    """The shards of images 0 … count - 1, by the files that note what came of them."""
    firsts = range(0, count, _SHARD)
    return {
        finished / f"{number:05d}.json": range(first, min(first + _SHARD, count)) for number, first in enumerate(firsts)
    }


def _crop_unclaimed(work: Callable[[_Job], _Crop], shard: _Shard) -> bool:
    """Crops a shard, in whatever process, unless it is done or another process is at it; returns whether it did."""
    with locks.try_lock(shard.claim) as mine:
        if not mine or shard.note.exists():
            return False
        _write_results(shard.note, [work(job) for job in shard.jobs])
        return True


def _shard_by_shard(
    work: Callable[[_Job], _Crop], job: Callable[[int], _Job], count: int, workers: int, finished: Path
) -> Iterator[_Crop]:
    """The results of jobs 0 … count - 1; a shard's are noted in `finished` when all its crops are written.

    Where an earlier attempt noted them, they are read. Jobs and results are not all in memory at any time.
    """
    finished.mkdir(exist_ok=True)
    shards = _notes(count, finished)
    noted = {note for note in shards if note.exists()}
    open_jobs = (job(place) for note, shard in shards.items() if note not in noted for place in shard)
    fresh = processes.ordered_map(work, open_jobs, workers, "align-crop")
    for note, shard in shards.items():
        if note in noted:
            yield from _read_results(note)
            continue
        results = []
        for result in itertools.islice(fresh, len(shard)):
            results.append(result)
            yield result
        _write_results(note, results)


def _write_results(note: Path, results: List[_Crop]) -> None:
    write_json(note, [[one.reason, None if one.points is None else one.points.tolist()] for one in results])


def _read_results(note: Path) -> List[_Crop]:
    """What an earlier attempt noted of a shard that it finished."""
    rows: List[Any] = json.loads(note.read_text())
    return [_Crop(reason, None if points is None else np.reshape(points, (-1, 2))) for reason, points in rows]


def _annotations(config: Config, dataset: Path) -> Tuple[annotations.Annotations, Set[str]]:
    """The data set's annotations, and the names of images without any.

    Where there is no annotation file, every image is a training image without landmarks.
    """
    names = images.find(dataset / "images")
    path = dataset / "landmarks.csv"
    if path.is_file():
        table = annotations.read(path)
    else:
        table = annotations.Annotations(names, ["train"] * len(names), [], np.zeros((len(names), 0, 2)), None, None)
    if config.crop.mode == "box" and table.boxes is None:
        raise DataError(f"crop.mode box: {path} has no columns box_x, box_y, box_width, box_height")
    missing = [name for name in config.evaluate.eyes if name not in table.landmarks]
    if config.crop.mode == "landmarks" and missing:
        raise DataError(
            "crop.mode landmarks: evaluate.eyes names {}, but {} has {}".format(
                ", ".join(missing), path, ", ".join(table.landmarks) or "no landmarks"
            )
        )
    return table, set(names).difference(table.files)


def _mean_shape(config: Config, table: annotations.Annotations) -> Optional[np.ndarray]:
    """The mean shape of the training images; None where the mode does not want it."""
    if config.crop.mode != "landmarks":
        return None
    first, second = (table.landmarks.index(name) for name in config.evaluate.eyes)
    return crop_frame.mean_shape(
        table.points[np.array(table.splits) == "train"], (first, second), config.crop.eye_distance
    )


def crop_names(sources: List[str], format: str) -> List[str]:
    """File names for crops: safe, distinct also where case does not count, a function of the source's name.

    Args:
      sources: distinct relative paths.
      format: "png" or "jpeg", which becomes the extension.

    Returns:
      `a/b.jpg` becomes `a_b.png`. Where this is not distinct, or too long, a part of the path's SHA-1 is added.
    """
    stems = [re.sub(r"[^A-Za-z0-9.-]", "_", posixpath.splitext(source)[0])[-100:] for source in sources]
    count = Counter(stem.lower() for stem in stems)
    return [
        f"{stem}.{format}"
        if count[stem.lower()] == 1
        else f"{stem}-{hashlib.sha1(source.encode()).hexdigest()[:12]}.{format}"
        for stem, source in zip(stems, sources)
    ]


def _crop(settings: Settings, mean: Optional[np.ndarray], job: _Job) -> _Crop:
    """Crops one image, in whatever process."""
    try:
        if not np.isfinite(job.points).all():
            raise ImageError("a landmark without coordinates")
        square = np.zeros((2, 3))

        def coarsest(width: int, height: int) -> float:
            square[:] = _placed(settings, mean, job, np.array([width, height], np.float64))
            return float(np.min(crop_frame.sides(square))) / (_FINER * settings.size)

        image, factor = images.decode_coarsely(job.image, settings.max_pixels, coarsest)
        crop = resample(image, square / factor, settings.size, _SHRINKING[settings.format])
    except ImageError as error:
        return _Crop(str(error), None)
    crop.save(job.crop, settings.format, quality=settings.quality, compress_level=1)  # each takes what concerns it
    return _Crop("", geometry.apply_affine(geometry.invert_affine(square), job.points))


def _placed(settings: Settings, mean: Optional[np.ndarray], job: _Job, size: np.ndarray) -> np.ndarray:
    """[2, 3]: the square to cut out of an image, whose annotations must go with its width and height, [2].

    Raises:
      ImageError: they do not, or do not give a square.
    """
    if job.size is not None and (job.size != size).any():
        raise ImageError("{:g} x {:g} pixels, but annotated as {:g} x {:g}".format(*size, *job.size))
    beyond = settings.overhang * np.max(size)
    if (job.points < -beyond).any() or (job.points > size + beyond).any():
        raise ImageError("a landmark outside the image")
    return crop_frame.square_of(settings, mean, job.points, job.box, size)


def _box(square: np.ndarray) -> Tuple[float, float, float, float]:
    """Left, top, right and bottom of an upright square, in pixels of the image."""
    (width, _, x), (_, height, y) = square.tolist()
    return x - width, y - height, x + width, y + height


def _cut(image: Image.Image, square: np.ndarray, margin: float, factor: int) -> Tuple[Image.Image, np.ndarray]:
    """The upright part of an image around a square, reduced by a whole factor; the border repeats where it leaves.

    Returns:
      RGB, and the image's pixel (x, y) where it begins, which may be negative.
    """
    limits = np.array(image.size)
    corners = geometry.apply_affine(square, np.array([[-1.0, -1.0], [1.0, -1.0], [1.0, 1.0], [-1.0, 1.0]]))
    first, last = corners.min(0), corners.max(0)
    if (last <= 0.0).any() or (first >= limits).any():
        raise ImageError("a square outside the image")
    low = np.floor((first - margin) / factor).astype(int) * factor
    high = np.ceil((last + margin) / factor).astype(int) * factor
    # The margin alone is no reason to repeat the border.
    low = np.where(first < 0.0, low, np.maximum(low, 0))
    high = np.where(last > limits, high, np.minimum(high, -(-limits // factor) * factor))
    begin, end = np.maximum(low, 0), np.minimum(high, limits)
    part = image.reduce(factor, box=(*begin.tolist(), *end.tolist()))
    before = (begin - low) // factor
    after = (high - low) // factor - before - part.size
    if before.any() or after.any():
        padding = ((before[1], after[1]), (before[0], after[0]), (0, 0))
        part = Image.fromarray(np.pad(np.asarray(part), padding, mode="edge"))
    return part, low


def _check_skipped(config: Config, skipped: Dict[str, str], count: int) -> None:
    """Fails if too few images are left."""
    listed = "; ".join(f"{name}: {skipped[name]}" for name in sorted(skipped)[:5])
    if len(skipped) == count:
        raise DataError(f"align-crop: no usable image among {count}. {listed}")
    if len(skipped) > config.crop.max_skipped * count:
        raise DataError(
            "align-crop: {} of {} images cannot be used, more than crop.max_skipped = {:g} permits: {}{}".format(
                len(skipped), count, config.crop.max_skipped, listed, "; …" if len(skipped) > 5 else ""
            )
        )


def _write_summary(
    config: Config, output: Path, landmarks: List[str], splits: Dict[str, int], skipped: Dict[str, str]
) -> None:
    with open(str(output / "skipped.csv"), "w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(["source", "reason"])
        writer.writerows(sorted(skipped.items()))
    summary = {
        "images": sum(splits.values()),
        "skipped": len(skipped),
        "splits": splits,
        "landmarks": landmarks,
        "size": config.crop.size,
        "mode": config.crop.mode,
        "reads_test_annotations": config.crop.mode in ("box", "landmarks") and splits["test"] > 0,
    }
    (output / "crop.json").write_text(json.dumps(summary, indent=2) + "\n")
