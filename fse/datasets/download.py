"""Data sets: a folder of images and, where there are landmarks, an annotation file (`fse.datasets.annotations`)."""

import dataclasses
import json
import os
import shutil
from collections import Counter
from pathlib import Path, PurePosixPath
from typing import Any, Callable, Dict, List, Optional

from fse import config as configuration
from fse.datasets import (
    annotations,
    archive,
    folder,
    images,
    registry,
    source,
    synthetic,
)
from fse.datasets.spec import DataSet, Given, name_in
from fse.errors import ArchiveError, DataError, DownloadError, MachineError
from fse.runtime.progress import progress_bar


def download(config: configuration.Config, output: Path, cache: Optional[Path] = None) -> None:
    """Brings the data set into a folder: the Download stage.

    Writes `images/…`, `landmarks.csv` if the data set is annotated, and `dataset.json`: name, number of images, by
    split too, names of the landmarks, source and its sha256.

    Args:
      config: `dataset` and `download` are read.
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
        origin = _bring(config, output, cache)
        summary = dict(_describe(dataset, output), **origin)
        (output / "dataset.json").write_text(json.dumps(summary, indent=2) + "\n")
        if configuration.is_remote(dataset.archive):
            source.discard(dataset.archive, cache)
    except OSError as error:
        raise MachineError(f"the data set cannot be written to {error.filename or output}: {error.strerror}") from error


def _bring(config: configuration.Config, output: Path, cache: Path) -> Dict[str, Any]:
    """Writes `images/` and `landmarks.csv`. Returns where they are from: the last entries of `dataset.json`."""
    dataset = config.dataset
    if dataset.name in registry.KNOWN and not dataset.archive:
        return _bring_known(config, registry.KNOWN[dataset.name], output, cache)
    if dataset.name == "synthetic" and not dataset.archive:
        synthetic.render(dataset, output)
        return {"source": "synthetic", "sha256": None}
    if dataset.name == folder.NAME:
        dataset = dataclasses.replace(dataset, images=".")
    path, digest = source.fetch(dataset, config.download, cache)
    if path.is_dir():
        _copy(_root(path, dataset), output, dataset)
    else:
        _unpack(path, output, dataset)
    if dataset.name == folder.NAME:
        _check_annotated(dataset, output)
        folder.split(dataset, images.find(output / "images"), output / "landmarks.csv")
    remote = configuration.is_remote(dataset.archive)
    return {"source": configuration.redact_url(dataset.archive) if remote else path.name, "sha256": digest}


def _bring_known(config: configuration.Config, known: DataSet, output: Path, cache: Path) -> Dict[str, Any]:
    """`_bring` of a known data set: its lists say which images of its archives are wanted."""
    name, part = config.dataset.name, config.dataset.part or next(iter(known.parts))
    to_fetch = source.absent(known.files, config.download)
    if to_fetch:
        raise DataError(source.by_hand(to_fetch, config.download, known.page, known.terms))
    paths, problems = {}, []
    for file in known.files:
        most = int(config.dataset.max_gigabytes * 1e9)
        try:
            paths[file] = source.obtain(file, config.download, cache, known.page, most)
        except DownloadError as error:  # what has to be fetched by hand is told at once
            problems.append(str(error))
            to_fetch.append(file)
    if problems:
        advice = source.by_hand(to_fetch, config.download, known.page, known.terms)
        raise DownloadError("{}. Run again, or {}".format("; ".join(problems), advice))
    lists = {file.name: path for file, path in paths.items() if not file.folder}
    packages = sorted({path for file, path in paths.items() if file.folder})
    notes = output / "notes"
    notes.mkdir()
    found = [
        name_in(known, member)
        for package in packages
        for member in _extract(config, package, known, notes, _is_note, cache)
    ]
    noted = {path.relative_to(notes).as_posix(): path for path in notes.rglob("*") if path.is_file()}
    table = known.read(Given(noted, sorted(filter(images.is_image, found)), lists), part)
    missing = sorted(set(table.files) - set(found))
    if missing:
        raise DataError(f"{name}: {len(missing):,} of its images are missing: {missing[0]} …")
    counts = {split: table.splits.count(split) for split in annotations.SPLITS}
    if known.parts[part] and counts != known.parts[part]:
        raise DataError(f"{name}: {counts} images, wanted {known.parts[part]}; is a file incomplete?")
    wanted = set(table.files)
    for package in packages:
        _extract(config, package, known, output / "images", wanted.__contains__, cache)
    shutil.rmtree(str(notes))
    annotations.write_table(output / "landmarks.csv", table)
    digests = {file.name: file.hash for file in known.files if file.hash}
    return {
        "source": known.page,
        "sha256": None,
        "part": part,
        "terms": known.terms,
        "hashes": digests,
        "boxes_from_annotations": known.boxes_from_annotations,
    }


def _is_note(name: str) -> bool:
    return bool(name) and not images.is_image(name)


def _extract(
    config: configuration.Config,
    package: Path,
    known: DataSet,
    folder: Path,
    wanted: Callable[[str], bool],
    cache: Path,
) -> List[str]:
    """Writes the wanted files of an archive or an unpacked folder, named as in the data set; returns all members.

    A download in `cache` that is corrupt, though nothing was known of it to tell, is deleted.
    """
    limits = int(config.dataset.max_gigabytes * 1e9), config.dataset.max_files
    if not package.is_dir():
        try:
            members = archive.names(package, *limits)
            if any(wanted(name_in(known, member)) for member in members):
                folder.mkdir(exist_ok=True)
                archive.unpack(
                    package,
                    folder,
                    lambda member: wanted(name_in(known, str(member))),
                    *limits,
                    name=lambda member: PurePosixPath(name_in(known, str(member))),
                )
        except ArchiveError:
            if cache in package.parents:
                package.unlink()
            raise
        return members
    inside = (path for path in package.rglob("*") if path.is_file())
    members = sorted(path.relative_to(package.parent).as_posix() for path in inside)
    chosen = [member for member in members if wanted(name_in(known, member))]
    for member in progress_bar(chosen, unit="files", desc="copying"):
        target = folder / name_in(known, member)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(str(package.parent / member), str(target))
    return members


def _unpack(path: Path, output: Path, dataset: configuration.Dataset) -> None:
    limits = int(dataset.max_gigabytes * 1e9), dataset.max_files
    unpacked = output / "unpacked"
    unpacked.mkdir()
    try:
        archive.unpack(path, unpacked, _wanted(dataset), *limits)
    except ArchiveError:
        if configuration.is_remote(dataset.archive):
            path.unlink()  # it will not get better; the next run downloads it again
        raise
    if not images.find(unpacked):
        raise _no_images(dataset, archive.folders(path, *limits))
    root = _root(unpacked, dataset)
    if (root / dataset.annotations).is_file():
        os.replace(str(root / dataset.annotations), str(output / "landmarks.csv"))
    os.replace(str(root / dataset.images), str(output / "images"))
    shutil.rmtree(str(unpacked), ignore_errors=True)


def _wanted(dataset: configuration.Dataset) -> Callable[[PurePosixPath], bool]:
    """Chooses the images and the annotation file, at the top of the archive or below one folder."""
    folder, table = PurePosixPath(dataset.images).parts, PurePosixPath(dataset.annotations).parts

    def wanted(name: PurePosixPath) -> bool:
        image = images.is_image(name.name)
        return any(
            inner == table or (image and inner[: len(folder)] == folder) for inner in (name.parts, name.parts[1:])
        )

    return wanted


def _root(place: Path, dataset: configuration.Dataset) -> Path:
    """The folder that holds `dataset.images`: the given one, or the only one in it that does."""
    if dataset.name == folder.NAME:
        return folder.root(place, dataset.annotations)
    if (place / dataset.images).is_dir():
        return place
    inside = [path for path in sorted(place.iterdir()) if (path / dataset.images).is_dir()]
    if len(inside) == 1:
        return inside[0]
    raise _no_images(dataset, sorted(path.name for path in place.iterdir() if path.is_dir()))


def _copy(root: Path, output: Path, dataset: configuration.Dataset) -> None:
    """Copies images and annotations; links would let later changes to the originals through."""
    names = images.find(root / dataset.images)
    if not names:
        raise _no_images(dataset, sorted(path.name for path in root.iterdir() if path.is_dir()))
    for name in progress_bar(names, unit="images", desc="copying"):
        target = output / "images" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(str(root / dataset.images / name), str(target))
    if (root / dataset.annotations).is_file():
        shutil.copyfile(str(root / dataset.annotations), str(output / "landmarks.csv"))


def _no_images(dataset: configuration.Dataset, folders: List[str]) -> DataError:
    if dataset.name == folder.NAME:
        return DataError(
            "{}: no images ({}) in it".format(configuration.redact_url(dataset.archive), " ".join(images.EXTENSIONS))
        )
    listed = ", ".join(folders[:10]) + (", …" if len(folders) > 10 else "")
    return DataError(
        "{}: no images ({}) below folder {!r}; set dataset.images. It has these folders: {}".format(
            configuration.redact_url(dataset.archive), " ".join(images.EXTENSIONS), dataset.images, listed or "none"
        )
    )


def _describe(dataset: configuration.Dataset, output: Path) -> Dict[str, Any]:
    """Looks at what was brought: the first entries of `dataset.json`."""
    names = images.find(output / "images")
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
    else:
        _check_annotated(dataset, output)
    return {"name": dataset.name, "images": len(names), "splits": splits, "landmarks": landmarks}


def _check_annotated(dataset: configuration.Dataset, output: Path) -> None:
    """Fails if an annotation file was named and is not there."""
    if dataset.annotations != configuration.Dataset.annotations and not (output / "landmarks.csv").is_file():
        raise DataError(
            f"{configuration.redact_url(dataset.archive)}: no annotation file {dataset.annotations!r} beside folder {dataset.images!r}; see dataset.annotations"
        )
