"""`fse inspect PATH`: what a TFRecord file, an archive or a folder of images contains.

The files are untrusted. Archives, records and images are read within their limits, and control characters in names do not
reach the terminal.
"""

import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Callable, Dict, Iterator, List, Optional, Set, Tuple, Union

import numpy as np

from fse import geometry
from fse.config import Crop, Dataset
from fse.datasets import annotations, archive, images, split_file
from fse.errors import ConfigError, DataError, ImageError, RecordError
from fse.report import dataset_overview
from fse.runtime.files import atomic_file

_MAX_LISTED = 12  # names of each kind that are listed
_MAX_TILES, _COLUMNS, _TILE_PIXELS = 48, 8, 160  # of the contact sheet

# A line of the output: what it is about, and the value.
_Line = Tuple[str, str]
# An encoded image or its file, and its points [L, 2], (x, y) in [-1, 1].
_AnnotatedImage = Tuple[Union[bytes, Path], np.ndarray]


@dataclass(frozen=True)
class _Contents:
    """The contents of a file or folder."""

    lines: List[_Line]  # the summary
    image_count: int
    read_images: Callable[[Set[int]], Iterator[_AnnotatedImage]]  # yields the images with these indices, in order


def inspect(path: Path, sheet: Optional[Path] = None) -> None:
    """Print a summary of a file or folder. Archives and TFRecord files are read to their end.

    Args:
      path: a TFRecord file, a zip or tar archive, or a folder of images or TFRecord files.
      sheet: a PNG file to write: a contact sheet of up to 48 evenly spaced images with their annotated points.

    Raises:
      ConfigError: `sheet` is a folder, or its folder does not exist.
      DataError: the file does not exist, is of another kind, is truncated, corrupt or larger than the default of
        `dataset.max_gigabytes`; or `sheet` is given and there is no image.
    """
    if sheet and not sheet.absolute().parent.is_dir():
        raise ConfigError(f"--sheet {sheet}: no such folder: {sheet.parent}")
    if sheet and sheet.is_dir():
        raise ConfigError(f"--sheet {sheet}: a folder; name the file to write")
    contents = _contents_of(path)
    width = max(len(_printable(name)) for name, _ in contents.lines)
    for name, value in contents.lines:
        print(f"{_printable(name):<{width}}  {_printable(value)}".rstrip())
    sys.stdout.flush()
    if sheet:
        _write_sheet(path, contents, sheet)


def _contents_of(path: Path) -> _Contents:
    if path.is_dir():
        return _folder_contents(path)
    if not path.is_file():
        raise DataError(f"{path}: no such file or folder")
    if archive.is_archive(path):
        return _archive_contents(path)
    try:
        return _record_contents([path])
    except RecordError as error:
        if "not a TFRecord file" not in str(error):
            raise
        raise DataError(f"{path}: neither a TFRecord file nor a zip or tar archive, or truncated") from None


def _folder_contents(folder: Path) -> _Contents:
    """Return the contents of a folder of TFRecord files or images, such as the output of Download or AlignCrop."""
    shards = sorted(path for path in folder.glob("*.tfrecord") if path.is_file())
    if shards:
        return _record_contents(shards)
    root = folder / "images" if (folder / "images").is_dir() else folder
    names = images.list_images(root)
    if not names:
        raise DataError(f"{folder}: contains neither images nor TFRecord files")
    lines = [("image files", f"{len(names):,}"), ("sizes", dataset_overview.describe_sizes_below(root))]
    points: Dict[str, np.ndarray] = {}
    if (folder / "landmarks.csv").is_file():
        table = annotations.read(folder / "landmarks.csv")
        points = dict(zip(table.files, table.points))
        lines.append(("splits", _listed_counts(Counter(table.splits))))
        lines.append(("landmarks", ", ".join(table.landmarks) or "none"))
    # AlignCrop writes points in [-1, 1] over the crop; in all other annotation files they are in pixels.
    in_pixels = not (folder / "crop.json").is_file()

    def read_images(indices: Set[int]) -> Iterator[_AnnotatedImage]:
        for index in sorted(indices):
            path = root / names[index]
            image_points = points.get(names[index], np.zeros((0, 2)))
            if in_pixels and len(image_points):
                image_points = geometry.from_pixels(image_points, images.upright_size(path))
            yield path, image_points

    return _Contents(lines, len(names), read_images)


def _record_contents(paths: List[Path]) -> _Contents:
    """Return the contents of TFRecord files, after reading all records and verifying their checksums."""
    from fse.inputs import records  # imports TensorFlow

    counts = [records.count(path) for path in paths]
    lines = [
        (f"records in {path.name}", f"{count:,}, {_size(path.stat().st_size)}") for path, count in zip(paths, counts)
    ]
    kinds: Dict[str, Set[str]] = {}
    sizes: List[Tuple[int, int]] = []
    without_image = 0
    for path in paths:
        for example in records.examples(path):
            for name, feature in sorted(example.features.feature.items())[:_MAX_LISTED]:
                kinds.setdefault(name, set()).add(_kind(feature))
            try:
                sizes.append(images.upright_size(_encoded_image(example)))
            except ImageError:
                without_image += 1
    listed = sorted(kinds)[:_MAX_LISTED]
    lines += [(f"feature {name}", " or ".join(sorted(kinds[name])[:_MAX_LISTED])) for name in listed]
    note = f", {without_image:,} records without" if without_image else ""
    lines.append(("images", f"{len(sizes):,}{note}"))
    lines.append(("sizes", dataset_overview.describe_sizes(sizes)))

    def read_images(indices: Set[int]) -> Iterator[_AnnotatedImage]:
        examples = (example for path in paths for example in records.examples(path))
        for index, example in enumerate(examples):
            if index in indices:
                yield _encoded_image(example), _landmarks(example)

    return _Contents(lines, sum(counts), read_images)


def _kind(feature: Any) -> str:
    """Return the number and type of a feature's values, such as `1 int64`, `10 float` or `empty`."""
    kind = feature.WhichOneof("kind")
    return f"{len(getattr(feature, kind).value):,} {kind.replace('_list', '')}" if kind else "empty"


def _encoded_image(example: Any) -> bytes:
    """Return the image file in an example; b"" if there is none."""
    values = example.features.feature["image/encoded"].bytes_list.value
    return bytes(values[0]) if values else b""


def _landmarks(example: Any) -> np.ndarray:
    values = np.array(example.features.feature["landmarks"].float_list.value, np.float64)
    return values.reshape(-1, 2) if len(values) % 2 == 0 else np.zeros((0, 2))


def _archive_contents(path: Path) -> _Contents:
    """Return the contents of an archive, after reading all of it."""
    limits = int(Dataset.max_gigabytes * 1e9), Dataset.max_files
    names: List[PurePosixPath] = []
    unpacked_bytes = 0
    for content in archive.contents(path, lambda name: False, *limits):
        names.append(content.name)
        unpacked_bytes += content.size
    image_names = [name for name in names if images.is_image(name.name)]
    other_names = [str(name) for name in names if not images.is_image(name.name)]
    lines = [
        ("archive", f"{_size(split_file.size(path))}, {_size(unpacked_bytes)} unpacked"),
        ("files", f"{len(names):,}"),
        ("images", f"{len(image_names):,}"),
    ]
    folders = Counter(str(name.parent) for name in image_names)
    lines += [(f"images in {folder}", f"{count:,}") for folder, count in folders.most_common(_MAX_LISTED)]
    lines.append(("other files", _listed_names(other_names)))

    def read_images(indices: Set[int]) -> Iterator[_AnnotatedImage]:
        wanted = {image_names[index] for index in indices}
        for content in archive.contents(path, wanted.__contains__, *limits):
            if content.name in wanted:
                yield content.data, np.zeros((0, 2))

    return _Contents(lines, len(image_names), read_images)


def _write_sheet(path: Path, contents: _Contents, sheet: Path) -> None:
    """Write the contact sheet, without the images that cannot be decoded, and print how many images it has."""
    decoded: List[np.ndarray] = []
    points: List[np.ndarray] = []
    reasons: Dict[str, int] = Counter()
    indices = dataset_overview.evenly_spaced(contents.image_count, _MAX_TILES)
    for image, image_points in contents.read_images(set(indices.tolist())):
        try:
            decoded.append(images.decode(image, Crop.max_pixels))
            points.append(image_points)
        except ImageError as error:
            reasons[str(error)] += 1
    note = f": {_listed_counts(reasons)}" if reasons else ""
    if not decoded:
        raise DataError(f"{path}: no image in it for a contact sheet{note}")
    with atomic_file(sheet) as temporary:
        dataset_overview.annotated_contact_sheet(decoded, points, _TILE_PIXELS, _COLUMNS).save(temporary, "png")
    print(f"contact sheet of {len(decoded)} images: {_printable(str(sheet))}")
    if reasons:
        print(f"{sum(reasons.values())} left out{_printable(note)}")


def _listed_names(names: List[str]) -> str:
    more = len(names) - _MAX_LISTED
    return (", ".join(names[:_MAX_LISTED]) + (f" and {more:,} more" if more > 0 else "")) or "none"


def _listed_counts(counts: Dict[str, int]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in sorted(counts.items()))


def _size(byte_count: int) -> str:
    return f"{byte_count / 1e6:,.1f} MB" if byte_count >= 1e6 else f"{byte_count / 1e3:,.1f} kB"


def _printable(text: str) -> str:
    """Escape the characters that are not printable, or not in the character set of the terminal."""
    text = text.replace("\N{NO-BREAK SPACE}", " ")
    escaped = (char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)
    encoding = sys.stdout.encoding or "utf-8"
    return "".join(escaped).encode(encoding, "backslashreplace").decode(encoding)
