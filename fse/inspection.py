"""What is in a workspace, an output, a folder of images, a TFRecord file or an archive: `fse inspect PATH`.

Nothing in it is trusted: archives, records and images are read where their limits are, values of JSON files are shown
as what they are, and no name reaches the terminal with control characters in it.
"""

import contextlib
import os
import sys
from collections import Counter
from pathlib import Path, PurePosixPath
from typing import Any, Callable, Dict, Iterator, List, NamedTuple, Optional, Set, Tuple, Union

import numpy as np

from fse import geometry
from fse.config import Crop, Dataset
from fse.datasets import annotations, archive, images, split_file
from fse.errors import ConfigError, DataError, ImageError, RecordError
from fse.report import dataset_overview, formatting
from fse.runtime import outputs

_LISTED = 12  # names of each kind that are shown
_SHOWN, _COLUMNS, _TILE = 48, 8, 160  # of the contact sheet, the tile in pixels
_NO_MANIFEST = "its manifest cannot be read, or an older version of this program wrote it"

_Line = Tuple[str, str]
# An encoded image or its file, and its points [L, 2] in [-1, 1].
_Image = Tuple[Union[bytes, Path], np.ndarray]


class _Found(NamedTuple):
    """What was found: lines of what and how much, how many images, and how to get those at given places."""

    lines: List[_Line]
    images: int = 0
    take: Callable[[Set[int]], Iterator[_Image]] = lambda places: iter(())


def inspect(path: Path, sheet: Optional[Path] = None) -> None:
    """Prints what is in a file or folder, a line each; reads an archive or a TFRecord file to its end.

    Args:
      path: a workspace, an output of a stage, a folder of images, a TFRecord file, or a zip, tar or 7z archive.
      sheet: a PNG file to write: up to 48 of its images, evenly chosen, with the annotated points there are.

    Raises:
      ConfigError: the folder of `sheet` is not there, or `sheet` is one.
      DataError: there is no such file, it is none of these, it is truncated, corrupt or larger than
        `dataset.max_gigabytes`' default, or a contact sheet is wanted and there is no image.
    """
    if sheet and not sheet.absolute().parent.is_dir():
        raise ConfigError(f"--sheet {sheet}: no such folder: {sheet.parent}")
    if sheet and sheet.is_dir():
        raise ConfigError(f"--sheet {sheet}: a folder; name the file to write")
    try:
        found = _look(path)
    except RecursionError:
        raise DataError(f"{path}: a JSON file in it is nested too deeply") from None
    width = max(len(_plain(what)) for what, _ in found.lines)
    for what, value in found.lines:
        print("{:<{}}  {}".format(_plain(what), width, _plain(value)).rstrip())
    sys.stdout.flush()
    if sheet:
        _write_sheet(path, found, sheet)


def _look(path: Path) -> _Found:
    if path.is_file():
        if archive.is_archive(path):
            return _archive(path)
        return _records_file(path)
    if not path.is_dir():
        raise DataError(f"{path}: no such file or folder")
    if (path / "artifacts").is_dir():
        return _workspace(path)
    if (path / outputs.MANIFEST).is_file():
        return _output(path)
    found = _images_in(path)
    if not found.images:
        raise DataError(
            f"{path}: not a workspace (no folder artifacts), not an output (no {outputs.MANIFEST}), and no image or TFRecord file in "
            "it"
        )
    return found


def _workspace(root: Path) -> _Found:
    """Experiments with the outputs that they lead to, and all outputs in the order in which they were begun."""
    lines = [("workspace", str(root))]
    for links in sorted(path for path in root.glob("*/stages") if path.is_dir()):
        there = sorted((link for link in links.iterdir() if (link / outputs.MANIFEST).is_file()), key=_begun)
        lost = sorted({link.name for link in links.iterdir()} - {link.name for link in there})
        text = f"{len(there)} stages: {_some([link.name for link in there])}"
        lines.append(("experiment " + links.parent.name, text + ("; lost: " + _some(lost) if lost else "")))
    folders = [path for path in (root / "artifacts").glob("*/*") if path.is_dir() and not path.is_symlink()]
    for path in sorted((path for path in folders if (path / outputs.MANIFEST).is_file()), key=_begun):
        made = outputs.read_manifest(path)
        about = (str(made.get("started")), _seconds(made.get("seconds")), _size(made.get("bytes")))
        lines.append((f"{path.parent.name} {path.name}", ", ".join(about) if made else _NO_MANIFEST))
    unfinished = sorted(path for path in folders if path.name.endswith(".building"))
    lines += [(f"{path.parent.name} {path.stem}", "unfinished") for path in unfinished]
    return _Found(lines)


def _begun(folder: Path) -> Tuple[str, str]:
    """What orders outputs by when they were begun."""
    return str(outputs.read_manifest(folder).get("started")), str(folder)


def _output(folder: Path) -> _Found:
    """An output of a stage: what its manifest says of it, and its images."""
    made, inside = outputs.read_manifest(folder), _images_in(folder)
    if not made:
        return inside._replace(lines=[("output", _NO_MANIFEST), *inside.lines])
    inputs = made.get("inputs")
    lines = [
        ("output of", str(made.get("stage"))),
        ("key", str(made.get("key") or "none")),
        ("made of", ", ".join(_names(inputs)) or "nothing"),
        ("started", "{} on {}".format(made.get("started"), made.get("host"))),
        ("took", _seconds(made.get("seconds"))),
        ("size", _size(made.get("bytes"))),
    ]
    if made.get("why"):
        lines.append(("why it ran", str(made["why"])))
    for part in ("counts", "metrics"):
        values = made.get(part)
        lines += [(name, _number(value)) for name, value in values.items()] if isinstance(values, dict) else []
    return inside._replace(lines=lines + inside.lines)


def _images_in(folder: Path) -> _Found:
    """The shards or images of a folder, also of one that download or align-crop wrote."""
    shards = sorted(path for path in folder.glob("*.tfrecord") if path.is_file())
    if shards:
        return _shards(shards)
    root = next((folder / name for name in ("images", "images") if (folder / name).is_dir()), folder)
    names = images.list_images(root)
    if not names:
        return _Found([])
    lines = [("image files", f"{len(names):,}"), ("sizes", dataset_overview.describe_sizes_below(root))]
    points: Dict[str, np.ndarray] = {}
    if (folder / "landmarks.csv").is_file():
        table = annotations.read(folder / "landmarks.csv")
        points = dict(zip(table.files, table.points))
        lines.append(("splits", _counted(Counter(table.splits))))
        lines.append(("landmarks", ", ".join(table.landmarks) or "none"))
    in_pixels = root.name != "images"

    def take(places: Set[int]) -> Iterator[_Image]:
        for place in sorted(places):
            name = names[place]
            placed = points.get(name, np.zeros((0, 2)))
            if in_pixels and len(placed):
                placed = geometry.from_pixels(placed, images.upright_size(root / name))
            yield root / name, placed

    return _Found(lines, len(names), take)


def _records_file(path: Path) -> _Found:
    try:
        return _shards([path])
    except RecordError as error:
        if "not a TFRecord file" not in str(error):
            raise
        raise DataError(f"{path}: neither a TFRecord file nor a zip, tar or 7z archive, or truncated") from None


def _shards(paths: List[Path]) -> _Found:
    """TFRecord files, all of which are read and their checksums checked."""
    from fse.inputs import records

    counts = [records.count(path) for path in paths]
    lines = [("records in " + path.name, f"{n:,}, {_size(path.stat().st_size)}") for path, n in zip(paths, counts)]
    features: Dict[str, Set[str]] = {}
    sizes: List[Tuple[int, int]] = []
    broken = 0
    for path in paths:
        for example in records.examples(path):
            for name, feature in sorted(example.features.feature.items())[:_LISTED]:
                features.setdefault(name, set()).add(_kind(feature))
            try:
                sizes.append(images.upright_size(_encoded(example)))
            except ImageError:
                broken += 1
    listed = sorted(features)[:_LISTED]
    lines += [("feature " + name, " or ".join(sorted(features[name])[:_LISTED])) for name in listed]
    lines.append(("images", f"{len(sizes):,}" + (f", {broken:,} records without" if broken else "")))
    lines.append(("sizes", dataset_overview.describe_sizes(sizes)))

    def take(places: Set[int]) -> Iterator[_Image]:
        every = (example for path in paths for example in records.examples(path))
        for place, example in enumerate(every):
            if place in places:
                yield _encoded(example), _landmarks(example)

    return _Found(lines, sum(counts), take)


def _kind(feature: Any) -> str:
    """`1 int64`, `10 float`, `1 bytes`, `empty`."""
    kind = feature.WhichOneof("kind")
    return "{:,} {}".format(len(getattr(feature, kind).value), kind.replace("_list", "")) if kind else "empty"


def _encoded(example: Any) -> bytes:
    """The image file in an example; empty if there is none."""
    values = example.features.feature["image/encoded"].bytes_list.value
    return bytes(values[0]) if values else b""


def _landmarks(example: Any) -> np.ndarray:
    values = np.array(example.features.feature["landmarks"].float_list.value, np.float64)
    return values.reshape(-1, 2) if len(values) % 2 == 0 else np.zeros((0, 2))


def _archive(path: Path) -> _Found:
    """An archive, all of which is read."""
    limits = int(Dataset.max_gigabytes * 1e9), Dataset.max_files
    names: List[PurePosixPath] = []
    total = 0
    for content in archive.contents(path, lambda name: False, *limits):
        names.append(content.name)
        total += content.size
    chosen = [name for name in names if images.is_image(name.name)]
    others = [str(name) for name in names if not images.is_image(name.name)]
    lines = [
        ("archive", f"{_size(split_file.size(path))}, {_size(total)} unpacked"),
        ("files", f"{len(names):,}"),
        ("images", f"{len(chosen):,}"),
    ]
    folders = Counter(str(name.parent) for name in chosen)
    lines += [("images in " + folder, f"{count:,}") for folder, count in folders.most_common(_LISTED)]
    lines.append(("other files", _some(others)))

    def take(places: Set[int]) -> Iterator[_Image]:
        wanted = {chosen[place] for place in places}
        for content in archive.contents(path, wanted.__contains__, *limits):
            if content.name in wanted:
                yield content.data, np.zeros((0, 2))

    return _Found(lines, len(chosen), take)


def _write_sheet(path: Path, found: _Found, sheet: Path) -> None:
    """Writes the contact sheet; images that cannot be decoded are left out, and said so."""
    shown, points, reasons = [], [], []
    for image, places in found.take(set(dataset_overview.evenly_spaced(found.images, _SHOWN).tolist())):
        try:
            shown.append(images.decode(image, Crop.max_pixels))
            points.append(places)
        except ImageError as error:
            reasons.append(str(error))
    if not shown:
        raise DataError(f"{path}: no image in it for a contact sheet{_because(reasons)}")
    partial = sheet.with_name(sheet.name + ".partial")
    try:
        dataset_overview.annotated_contact_sheet(shown, points, _TILE, _COLUMNS).save(str(partial), "png")
        os.replace(str(partial), str(sheet))
    except OSError:
        with contextlib.suppress(OSError):
            partial.unlink()
        raise
    print(f"contact sheet of {len(shown)} images: {_plain(str(sheet))}")
    if reasons:
        print(f"{len(reasons)} left out{_plain(_because(reasons))}")


def _because(reasons: List[str]) -> str:
    return f": {_counted(Counter(reasons))}" if reasons else ""


def _names(value: Any) -> List[str]:
    return sorted(map(str, value)) if isinstance(value, dict) else []


def _some(names: List[str]) -> str:
    rest = len(names) - _LISTED
    return (", ".join(names[:_LISTED]) + (f" and {rest:,} more" if rest > 0 else "")) or "none"


def _counted(counts: Dict[str, int]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in sorted(counts.items()))


def _finite(value: Any) -> Optional[float]:
    """A number as a float; None for what is none."""
    try:
        number = float(value) if type(value) in (int, float) else None
    except OverflowError:
        return None
    return None if formatting.is_missing(number) else number


def _number(value: Any) -> str:
    number = _finite(value)
    return "unknown" if number is None else f"{value:,}" if isinstance(value, int) else f"{number:.6g}"


def _seconds(value: Any) -> str:
    return formatting.format_duration(_finite(value))


def _size(value: Any) -> str:
    number = _finite(value)
    if number is None:
        return "unknown"
    return f"{number / 1e6:,.1f} MB" if number >= 1e6 else f"{number / 1e3:,.1f} kB"


def _plain(text: str) -> str:
    """Text for any terminal: what is not printable, or not in its character set, is shown as an escape."""
    text = text.replace("\N{NO-BREAK SPACE}", " ")
    text = "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in text)
    encoding = sys.stdout.encoding or "utf-8"
    return text.encode(encoding, "backslashreplace").decode(encoding)
