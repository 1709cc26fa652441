"""The Download stage: bring a data set into a folder of images and an annotation file."""

import json
from collections import Counter
from pathlib import Path
from typing import Any, Dict, List, Optional

from fse.config import Config, Dataset, is_remote
from fse.datasets import annotations, images, known_download, own_download, registry, source, synthetic
from fse.errors import DataError, MachineError


def download(config: Config, output: Path, cache: Optional[Path] = None) -> None:
    """Download or render the data set into a folder.

    Writes the images below `images/`; `landmarks.csv` (`fse.datasets.annotations`) if the data set is annotated; and
    `dataset.json` with the name, the number of images in total and by split, the names of the landmarks, the source and
    its sha256.

    Args:
      config: `dataset` and `download` are read.
      output: a folder that is empty or does not exist.
      cache: folder where downloads stay until they are unpacked, so that a later run resumes them; by default the
        folder that contains `output`.

    Raises:
      DataError: the archive is missing or unusable, or does not contain the data set.
      DownloadError: the archive cannot be downloaded, or its checksum differs.
      StageError: the output cannot be written.
    """
    dataset, cache = config.dataset, cache or output.parent
    try:
        output.mkdir(parents=True, exist_ok=True)
        cache.mkdir(parents=True, exist_ok=True)
        origin = _bring(config, output, cache)
        summary = dict(_summary(dataset, output), **origin)
        (output / "dataset.json").write_text(json.dumps(summary, indent=2) + "\n")
        if is_remote(dataset.archive):
            source.discard_download(dataset.archive, cache)
    except OSError as error:
        raise MachineError(f"the data set cannot be written to {error.filename or output}: {error.strerror}") from error


def _bring(config: Config, output: Path, cache: Path) -> Dict[str, Any]:
    """Write `images/` and `landmarks.csv`; return the entries of `dataset.json` about their origin."""
    dataset = config.dataset
    if dataset.archive:
        return own_download.bring(config, output, cache)
    if dataset.name in registry.KNOWN:
        return known_download.bring(config, registry.KNOWN[dataset.name], output, cache)
    if dataset.name == "synthetic":
        synthetic.render(dataset, output)
        return {"source": "synthetic", "sha256": None}
    return own_download.bring(config, output, cache)


def _summary(dataset: Dataset, output: Path) -> Dict[str, Any]:
    """Return the first entries of `dataset.json`, which describe the files in `output`."""
    names = images.list_images(output / "images")
    landmarks: List[str] = []
    splits = {"train": len(names), "test": 0}
    if (output / "landmarks.csv").is_file():
        table = annotations.read(output / "landmarks.csv")
        existing = set(names)
        counts = Counter(split for file, split in zip(table.files, table.splits) if file in existing)
        if not counts:
            raise DataError(
                f"{dataset.annotations}: none of the files it names is below {dataset.images!r}: "
                f"{', '.join(table.files[:3])} …; there are: {', '.join(names[:3])} …"
            )
        landmarks, splits = table.landmarks, {split: counts[split] for split in annotations.SPLITS}
    else:
        own_download.require_annotations(dataset, output)
    return {"name": dataset.name, "images": len(names), "splits": splits, "landmarks": landmarks}
