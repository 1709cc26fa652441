"""Bring a data set of the user's own, an archive or a folder, into the folder of the Download stage."""

import dataclasses
import shutil
from pathlib import Path, PurePosixPath
from typing import Any, Callable, Dict, List

from fse.config import Config, Dataset, is_remote
from fse.datasets import archive, folder, images, source
from fse.errors import ArchiveError, DataError
from fse.redaction import redact_url
from fse.runtime.progress import progress_bar


def bring(config: Config, output: Path, cache: Path) -> Dict[str, Any]:
    """Copy or unpack `dataset.archive` into `images/` and `landmarks.csv`.

    Args:
      config: `dataset` and `download` are read.
      output: the stage's folder.
      cache: folder of downloads.

    Returns:
      The entries of `dataset.json` about the archive.

    Raises:
      DataError, DownloadError, StageError: see `fse.datasets.download.download`.
    """
    dataset = config.dataset
    if dataset.name == folder.NAME:
        dataset = dataclasses.replace(dataset, images=".")
    path, digest = source.fetch_archive(dataset, config.download, cache)
    if path.is_dir():
        _copy(_root(path, dataset), output, dataset)
    else:
        _unpack(path, output, dataset)
    if dataset.name == folder.NAME:
        require_annotations(dataset, output)
        folder.add_splits(dataset, images.list_images(output / "images"), output / "landmarks.csv")
    origin = redact_url(dataset.archive) if is_remote(dataset.archive) else path.name
    return {"source": origin, "sha256": digest}


def require_annotations(dataset: Dataset, output: Path) -> None:
    """Raise an error if `dataset.annotations` was set and there is no such file.

    Raises:
      DataError: the annotation file is missing.
    """
    if dataset.annotations != Dataset.annotations and not (output / "landmarks.csv").is_file():
        raise DataError(
            f"{redact_url(dataset.archive)}: no annotation file {dataset.annotations!r} beside folder {dataset.images!r}; "
            "correct dataset.annotations"
        )


def _unpack(path: Path, output: Path, dataset: Dataset) -> None:
    """Unpack images and annotation file of an archive."""
    limits = int(dataset.max_gigabytes * 1e9), dataset.max_files
    unpacked = output / "unpacked"
    unpacked.mkdir()
    try:
        archive.unpack(path, unpacked, _selector(dataset), *limits)
    except ArchiveError:
        if is_remote(dataset.archive):
            path.unlink()  # so that the next run downloads it again
        raise
    if not images.list_images(unpacked):
        raise _no_images_error(dataset, archive.folders(path, *limits))
    root = _root(unpacked, dataset)
    if (root / dataset.annotations).is_file():
        (root / dataset.annotations).replace(output / "landmarks.csv")
    (root / dataset.images).replace(output / "images")
    shutil.rmtree(unpacked, ignore_errors=True)


def _selector(dataset: Dataset) -> Callable[[PurePosixPath], bool]:
    """Return a function that selects images and annotation file, at the top of an archive or below one folder."""
    image_folder, annotation_file = PurePosixPath(dataset.images).parts, PurePosixPath(dataset.annotations).parts

    def select(name: PurePosixPath) -> bool:
        is_image = images.is_image(name.name)
        return any(
            inner == annotation_file or (is_image and inner[: len(image_folder)] == image_folder)
            for inner in (name.parts, name.parts[1:])
        )

    return select


def _root(place: Path, dataset: Dataset) -> Path:
    """Return the folder that contains `dataset.images`: the given folder, or the only folder in it that does."""
    if dataset.name == folder.NAME:
        return folder.image_root(place, dataset.annotations)
    if (place / dataset.images).is_dir():
        return place
    inside = [path for path in sorted(place.iterdir()) if (path / dataset.images).is_dir()]
    if len(inside) == 1:
        return inside[0]
    raise _no_images_error(dataset, _folder_names(place))


def _copy(root: Path, output: Path, dataset: Dataset) -> None:
    """Copy images and annotation file. With links, later changes of the originals would change the output."""
    names = images.list_images(root / dataset.images)
    if not names:
        raise _no_images_error(dataset, _folder_names(root))
    for name in progress_bar(names, unit="images", desc="copying"):
        target = output / "images" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(root / dataset.images / name, target)
    if (root / dataset.annotations).is_file():
        shutil.copyfile(root / dataset.annotations, output / "landmarks.csv")


def _folder_names(place: Path) -> List[str]:
    return sorted(path.name for path in place.iterdir() if path.is_dir())


def _no_images_error(dataset: Dataset, folders: List[str]) -> DataError:
    label, extensions = redact_url(dataset.archive), " ".join(images.EXTENSIONS)
    if dataset.name == folder.NAME:
        return DataError(f"{label}: no images ({extensions}) in it; correct dataset.archive")
    listed = ", ".join(folders[:10]) + (", …" if len(folders) > 10 else "")
    return DataError(
        f"{label}: no images ({extensions}) below folder {dataset.images!r}; set dataset.images. It has these folders: "
        f"{listed or 'none'}"
    )
