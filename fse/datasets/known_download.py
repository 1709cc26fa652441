"""Bring a known data set into the folder of the Download stage.

The annotations say which images are needed, so the archives are read twice: first their annotation files are unpacked,
then the images that the annotations name.
"""

import shutil
from pathlib import Path, PurePosixPath
from typing import Any, Callable, Dict, List

from fse.config import Config
from fse.datasets import annotations, archive, images, source
from fse.datasets.annotations import Annotations
from fse.datasets.spec import KnownDataset, LocalFiles, SourceFile
from fse.errors import ArchiveError, DataError, DownloadError
from fse.runtime.progress import progress_bar


def bring(config: Config, known: KnownDataset, output: Path, cache: Path) -> Dict[str, Any]:
    """Write `images/` and `landmarks.csv` of a known data set.

    Args:
      config: `dataset` and `download` are read.
      known: the data set.
      output: the stage's folder.
      cache: folder of downloads.

    Returns:
      The entries of `dataset.json` about source, part and terms.

    Raises:
      DataError, DownloadError, StageError: see `fse.datasets.download.download`.
    """
    part = config.dataset.part or next(iter(known.parts))
    paths = _obtain_files(config, known, cache)
    archives = sorted({path for file, path in paths.items() if file.folder})
    lists = {file.name: path for file, path in paths.items() if not file.folder}
    members = _MemberReader(config, known, cache)

    unpacked = output / "notes"
    unpacked.mkdir()
    names = [name for path in archives for name in members.extract(path, unpacked, _is_annotation_file)]
    annotation_files = {path.relative_to(unpacked).as_posix(): path for path in unpacked.rglob("*") if path.is_file()}
    local = LocalFiles(annotation_files, sorted(filter(images.is_image, names)), lists)
    table = known.read(local, part)
    _check_complete(config.dataset.name, table, names, known.parts[part])

    files = set(table.files)
    for path in archives:
        members.extract(path, output / "images", files.__contains__)
    shutil.rmtree(unpacked)
    annotations.write(output / "landmarks.csv", table)
    return {
        "source": known.homepage,
        "sha256": None,
        "part": part,
        "terms": known.terms,
        "hashes": {file.name: file.hash for file in known.files if file.hash},
        "boxes_from_annotations": known.boxes_from_annotations,
    }


def _obtain_files(config: Config, known: KnownDataset, cache: Path) -> Dict[SourceFile, Path]:
    """Return the path of each file, or of its unpacked folder; download what is missing.

    Raises:
      DataError: a file can only be downloaded by hand. Nothing is downloaded before all of those are there.
      DownloadError: a download failed. The other files are downloaded first, so that one error names all failures.
    """
    manual = source.unavailable_files(known.files, config.download)
    if manual:
        raise DataError(source.manual_instructions(manual, config.download, known.homepage, known.terms))
    paths: Dict[SourceFile, Path] = {}
    failures = []
    max_bytes = int(config.dataset.max_gigabytes * 1e9)
    for file in known.files:
        try:
            paths[file] = source.obtain_file(file, config.download, cache, known.homepage, max_bytes)
        except DownloadError as error:
            failures.append(str(error))
            manual.append(file)
    if failures:
        instructions = source.manual_instructions(manual, config.download, known.homepage, known.terms)
        raise DownloadError(f"{'; '.join(failures)}. Run again, or {instructions}")
    return paths


def _check_complete(name: str, table: Annotations, existing: List[str], published: Dict[str, int]) -> None:
    """Check that all annotated images exist, and that their number is the published one, if there is one."""
    missing = sorted(set(table.files) - set(existing))
    if missing:
        raise DataError(f"{name}: {len(missing):,} of its images are missing: {missing[0]} …; get the archives again")
    counts = {split: table.splits.count(split) for split in annotations.SPLITS}
    if published and counts != published:
        raise DataError(f"{name}: {counts} images, expected {published}; a file is incomplete, get the files again")


def _is_annotation_file(name: str) -> bool:
    return bool(name) and not images.is_image(name)


class _MemberReader:
    """Reads archives or unpacked folders of a known data set, whose files it renames to their names in the data set."""

    def __init__(self, config: Config, known: KnownDataset, cache: Path) -> None:
        self._limits = int(config.dataset.max_gigabytes * 1e9), config.dataset.max_files
        self._known = known
        self._cache = cache

    def extract(self, source_path: Path, target: Path, select: Callable[[str], bool]) -> List[str]:
        """Write the selected files of an archive or unpacked folder below `target`.

        Args:
          source_path: the archive or folder.
          target: a folder, which is created if a file is selected.
          select: whether to write the file with this name in the data set; the name is '' for files without use.

        Returns:
          The names in the data set of all files, selected or not.

        Raises:
          ArchiveError: the archive is corrupt. If it was downloaded, it is deleted.
        """
        if source_path.is_dir():
            return self._copy(source_path, target, select)
        try:
            return self._unpack(source_path, target, select)
        except ArchiveError:
            # The hashes of some files are not known, so that an incomplete download is only noticed here.
            if self._cache in source_path.parents:
                source_path.unlink()
            raise

    def _unpack(self, package: Path, target: Path, select: Callable[[str], bool]) -> List[str]:
        name_of = self._known.name_of
        names = [name_of(member) for member in archive.names(package, *self._limits)]
        if any(map(select, names)):
            target.mkdir(exist_ok=True)
            archive.unpack(
                package,
                target,
                lambda member: select(name_of(str(member))),
                *self._limits,
                rename=lambda member: PurePosixPath(name_of(str(member))),
            )
        return names

    def _copy(self, folder: Path, target: Path, select: Callable[[str], bool]) -> List[str]:
        # As in the archive, the paths begin with the name of the folder.
        files = (path for path in folder.rglob("*") if path.is_file())
        members = sorted(path.relative_to(folder.parent).as_posix() for path in files)
        names = [self._known.name_of(member) for member in members]
        selected = [(member, name) for member, name in zip(members, names) if select(name)]
        for member, name in progress_bar(selected, unit="files", desc="copying"):
            path = target / name
            path.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(folder.parent / member, path)
        return names
