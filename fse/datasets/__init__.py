"""Data sets: a folder of pictures and, where there are landmarks, an annotation file (`fse.datasets.annotations`)."""

import json
import os
import shutil
from collections import Counter
from pathlib import Path, PurePosixPath
from typing import Any, Callable, Dict, List, Optional

from fse import config as configuration
from fse import pictures
from fse.datasets import annotations, archive, source, synthetic
from fse.errors import DataError, StageError
from fse.progress import bar


def download(config: configuration.Config, output: Path, cache: Optional[Path] = None) -> None:
    """Brings the data set into a folder: the Download stage.

    Writes `images/…`, `landmarks.csv` if the data set is annotated, and `dataset.json`: name, number of pictures, by
    split too, names of the landmarks, source and its sha256.

    Args:
      config: `dataset` is read.
      output: an empty folder, or one to be made.
      cache: where downloads stay until they are unpacked, so that they go on after a failure; default: beside `output`.

    Raises:
      DataError: the archive is missing or unusable, or holds no such data set.
      DownloadError: the archive cannot be downloaded, or has another checksum.
      StageError: the output cannot be written.
    """
    dataset, cache = config.dataset, cache or output.parent
    try:
        output.mkdir(parents=True, exist_ok=True)
        cache.mkdir(parents=True, exist_ok=True)
        origin = _bring(dataset, output, cache)
        summary = dict(_describe(dataset, output), **origin)
        (output / "dataset.json").write_text(json.dumps(summary, indent=2) + "\n")
        if source.is_remote(dataset.archive):
            source.discard(dataset.archive, cache)
    except OSError as error:
        raise StageError(
            "the data set cannot be written to {}: {}".format(error.filename or output, error.strerror)
        ) from None


def _bring(dataset: configuration.Dataset, output: Path, cache: Path) -> Dict[str, Optional[str]]:
    """Writes `images/` and `landmarks.csv`. Returns where they are from: the last entries of `dataset.json`."""
    if dataset.name == "synthetic" and not dataset.archive:
        synthetic.render(dataset, output)
        return {"source": "synthetic", "sha256": None}
    path, digest = source.fetch(dataset.archive, dataset.sha256, cache)
    if path.is_dir():
        _copy(_root(path, dataset), output, dataset)
    else:
        _unpack(path, output, dataset)
    remote = source.is_remote(dataset.archive)
    return {"source": source.label(dataset.archive) if remote else path.name, "sha256": digest}


def _unpack(path: Path, output: Path, dataset: configuration.Dataset) -> None:
    limits = int(dataset.max_gigabytes * 1e9), dataset.max_files
    unpacked = output / "unpacked"
    unpacked.mkdir()
    try:
        archive.unpack(path, unpacked, _wanted(dataset), *limits)
    except DataError:
        if source.is_remote(dataset.archive):
            path.unlink()  # it will not get better; the next run downloads it again
        raise
    if not pictures.find(unpacked):
        raise _no_pictures(dataset, archive.folders(path, *limits))
    root = _root(unpacked, dataset)
    if (root / dataset.annotations).is_file():
        os.replace(str(root / dataset.annotations), str(output / "landmarks.csv"))
    os.replace(str(root / dataset.images), str(output / "images"))
    shutil.rmtree(str(unpacked), ignore_errors=True)


def _wanted(dataset: configuration.Dataset) -> Callable[[PurePosixPath], bool]:
    """Chooses the pictures and the annotation file, at the top of the archive or below one folder."""
    images, table = PurePosixPath(dataset.images).parts, PurePosixPath(dataset.annotations).parts

    def wanted(name: PurePosixPath) -> bool:
        picture = pictures.is_picture(name.name)
        return any(
            inner == table or (picture and inner[: len(images)] == images) for inner in (name.parts, name.parts[1:])
        )

    return wanted


def _root(folder: Path, dataset: configuration.Dataset) -> Path:
    """The folder that holds `dataset.images`: the given one, or the only one in it that does."""
    if (folder / dataset.images).is_dir():
        return folder
    inside = [path for path in sorted(folder.iterdir()) if (path / dataset.images).is_dir()]
    if len(inside) == 1:
        return inside[0]
    raise _no_pictures(dataset, sorted(path.name for path in folder.iterdir() if path.is_dir()))


def _copy(root: Path, output: Path, dataset: configuration.Dataset) -> None:
    """Copies pictures and annotations; links would let later changes to the originals through."""
    names = pictures.find(root / dataset.images)
    if not names:
        raise _no_pictures(dataset, sorted(path.name for path in root.iterdir() if path.is_dir()))
    for name in bar(names, unit="pictures", desc="copying"):
        target = output / "images" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(str(root / dataset.images / name), str(target))
    if (root / dataset.annotations).is_file():
        shutil.copyfile(str(root / dataset.annotations), str(output / "landmarks.csv"))


def _no_pictures(dataset: configuration.Dataset, folders: List[str]) -> DataError:
    listed = ", ".join(folders[:10]) + (", …" if len(folders) > 10 else "")
    return DataError(
        "{}: no pictures ({}) below folder {!r}; set dataset.images. It has these folders: {}".format(
            source.label(dataset.archive), " ".join(pictures.EXTENSIONS), dataset.images, listed or "none"
        )
    )


def _describe(dataset: configuration.Dataset, output: Path) -> Dict[str, Any]:
    """Looks at what was brought: the first entries of `dataset.json`."""
    names = pictures.find(output / "images")
    landmarks: List[str] = []
    splits = {"train": len(names), "test": 0}
    if (output / "landmarks.csv").is_file():
        table = annotations.read(output / "landmarks.csv")
        present = set(names)
        found = Counter(split for file, split in zip(table.files, table.splits) if file in present)
        if not found:
            raise DataError(
                "{}: none of the files it names is below {!r}: {} …; there are: {} …".format(
                    dataset.annotations, dataset.images, ", ".join(table.files[:3]), ", ".join(names[:3])
                )
            )
        landmarks, splits = table.landmarks, {split: found[split] for split in annotations.SPLITS}
    elif dataset.annotations != configuration.Dataset.annotations:
        raise DataError(
            "{}: no annotation file {!r} beside folder {!r}; see dataset.annotations".format(
                source.label(dataset.archive), dataset.annotations, dataset.images
            )
        )
    return {"name": dataset.name, "pictures": len(names), "splits": splits, "landmarks": landmarks}
