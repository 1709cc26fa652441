"""The AlignCrop stage: crops of one size from every image of a data set, with its landmarks mapped to the crops.

The images are cropped in shards of 500. When all crops of a shard are written, the shard's results are saved in a file
below `finished/`. That file is what makes the stage resumable, and what lets several hosts share it.
"""

import csv
import functools
import itertools
import json
import logging
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List

import numpy as np

from fse.config import Config
from fse.datasets import annotations
from fse.errors import DataError, StageError
from fse.preprocessing.crop_image import CropJob, CropResult
from fse.preprocessing.crop_plan import CropPlan, make_plan
from fse.runtime import locks, processes
from fse.runtime.files import write_json
from fse.runtime.outputs import CLAIMS
from fse.runtime.progress import progress_bar

# Images per shard, which is how many an interrupted run has to crop again at most.
_IMAGES_PER_SHARD = 500
# Folder of the results of finished shards, which exists while the stage runs.
FINISHED = "finished"


@dataclass(frozen=True)
class _Shard:
    """A shard to crop."""

    jobs: List[CropJob]
    results: Path  # the file for its results
    claim: Path  # lock file of the process that crops it


def align_crop(config: Config, dataset: Path, output: Path) -> None:
    """Crop every image of a data set.

    Writes `images/*.png` or `.jpeg` (RGB, `crop.size` square), `landmarks.csv` (file, source, split, and the landmarks in
    [-1, 1] over the crop, which may lie outside it), `skipped.csv` (source, reason) and `crop.json`. Rows are sorted by
    the names of the sources. The number of processes does not change the output. If `output` holds an interrupted
    attempt, the stage resumes after the last finished shard.

    An image is skipped if it is broken or too large, if the data set is annotated but the image is not, if its size is
    not the annotated one, or if a landmark is missing or lies outside the image.

    Args:
      config: `crop` is read, and `evaluate.eyes` in mode `landmarks`.
      dataset: output of Download.
      output: a folder that does not exist, is empty, or holds an interrupted attempt.

    Raises:
      DataError: there is no image, more are skipped than `crop.max_skipped` permits, or the data set lacks annotations
        that the mode needs.
      StageError: the output cannot be written, or a process was killed.
    """
    try:
        (output / "images").mkdir(parents=True, exist_ok=True)
        _align_crop(config, dataset, output)
    except OSError as error:
        raise StageError(f"the crops cannot be written to {error.filename or output}: {error.strerror}") from None


def share(config: Config, dataset: Path, output: Path) -> None:
    """Crop the shards that no other process is cropping, and save their results for `align_crop`.

    Any number of processes may do this at once, on any hosts that see `output`. If a process dies, another one or
    `align_crop` crops its shard.

    Args:
      config: as for `align_crop`.
      dataset: as for `align_crop`.
      output: a folder that contains a folder `claims`.

    Raises:
      DataError: as for `align_crop`.
      StageError: as for `align_crop`.
    """
    (output / "images").mkdir(exist_ok=True)
    (output / FINISHED).mkdir(exist_ok=True)
    plan = make_plan(config, dataset, output)
    indices = _shard_indices(len(plan.order), output / FINISHED)
    shards = (
        _Shard([plan.job(index) for index in shard], results, output / CLAIMS / results.name)
        for results, shard in indices.items()
    )
    crop_shard = functools.partial(_crop_unclaimed, plan.crop)
    cropped = processes.ordered_map(crop_shard, shards, config.crop.processes, "align-crop", chunk=1)
    count = sum(progress_bar(cropped, total=len(indices), unit="shards", desc="align-crop"))
    logging.info("align-crop: %d of %d shards were made here", count, len(indices))


def _align_crop(config: Config, dataset: Path, output: Path) -> None:
    plan = make_plan(config, dataset, output)
    results = _crop_shards(plan, config.crop.processes, output / FINISHED)
    skipped = dict.fromkeys(plan.unannotated, "no annotation")
    splits: Dict[str, int] = dict.fromkeys(annotations.SPLITS, 0)

    def rows() -> Iterator[annotations.CropRow]:
        progress = progress_bar(results, total=len(plan.order), unit="images", desc="align-crop")
        for result, row, crop_name in zip(progress, plan.order, plan.crop_names):
            source, split = plan.table.files[row], plan.table.splits[row]
            if result.points is None:
                skipped[source] = result.reason
            else:
                splits[split] += 1
                yield annotations.CropRow(crop_name, source, split, result.points)

    annotations.write_crops(output / "landmarks.csv", plan.table.landmarks, rows())
    _check_skipped(config, skipped, sum(splits.values()) + len(skipped))
    _write_summary(config, output, plan.table.landmarks, splits, skipped)
    shutil.rmtree(output / FINISHED)


def _shard_indices(count: int, finished: Path) -> Dict[Path, range]:
    """Return the indices of each shard of `count` images, by the file for the shard's results."""
    return {
        finished / f"{number:05d}.json": range(first, min(first + _IMAGES_PER_SHARD, count))
        for number, first in enumerate(range(0, count, _IMAGES_PER_SHARD))
    }


def _crop_unclaimed(crop: Callable[[CropJob], CropResult], shard: _Shard) -> bool:
    """Crop a shard unless it is finished or another process is cropping it; return whether it was cropped here."""
    with locks.try_lock(shard.claim) as claimed:
        if not claimed or shard.results.exists():
            return False
        _write_results(shard.results, [crop(job) for job in shard.jobs])
        return True


def _crop_shards(plan: CropPlan, workers: int, finished: Path) -> Iterator[CropResult]:
    """Yield the results of all images in order. Shards that an earlier attempt finished are read, not cropped again.

    Neither jobs nor results are ever all in memory.
    """
    finished.mkdir(exist_ok=True)
    shards = _shard_indices(len(plan.order), finished)
    done = {results for results in shards if results.exists()}
    jobs = (plan.job(index) for results, shard in shards.items() if results not in done for index in shard)
    cropped = processes.ordered_map(plan.crop, jobs, workers, "align-crop")
    for path, shard in shards.items():
        if path in done:
            yield from _read_results(path)
            continue
        results = []
        for result in itertools.islice(cropped, len(shard)):
            results.append(result)
            yield result
        _write_results(path, results)


def _write_results(path: Path, results: List[CropResult]) -> None:
    write_json(path, [[item.reason, None if item.points is None else item.points.tolist()] for item in results])


def _read_results(path: Path) -> List[CropResult]:
    """Return the results of a shard that an earlier attempt finished."""
    rows: List[Any] = json.loads(path.read_text())
    return [CropResult(reason, None if points is None else np.reshape(points, (-1, 2))) for reason, points in rows]


def _check_skipped(config: Config, skipped: Dict[str, str], count: int) -> None:
    """Check that enough images are left.

    Raises:
      DataError: all of `count` images were skipped, or more than `crop.max_skipped` permits.
    """
    reasons = "; ".join(f"{name}: {skipped[name]}" for name in sorted(skipped)[:5])
    if len(skipped) == count:
        raise DataError(f"align-crop: no usable image among {count}. {reasons}")
    if len(skipped) > config.crop.max_skipped * count:
        more = "; …" if len(skipped) > 5 else ""
        raise DataError(
            f"align-crop: {len(skipped)} of {count} images cannot be used, more than crop.max_skipped = "
            f"{config.crop.max_skipped:g} permits: {reasons}{more}"
        )


def _write_summary(
    config: Config, output: Path, landmarks: List[str], splits: Dict[str, int], skipped: Dict[str, str]
) -> None:
    with open(output / "skipped.csv", "w", newline="", encoding="utf-8") as stream:
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
