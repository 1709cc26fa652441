"""What is known of a data set beforehand: its card, its files, and how its annotations are read."""

import re
from pathlib import Path
from typing import Callable, Dict, Iterator, List, NamedTuple, Tuple

import numpy as np

from fse.datasets.annotations import Annotations
from fse.errors import DataError

FIVE_POINTS = ("left_eye", "right_eye", "nose", "left_mouth", "right_mouth")


class File(NamedTuple):
    """A file that a data set is made of.

    name: its own name, by which it is looked for; of an archive in parts, the first one's, NAME.001, the others lying beside
    it. size: bytes, of all parts; 0 if not known. hash: hexadecimal md5, sha1 or sha256, told by its length, of a file that is
    not in parts; '' if not known. addresses: where it can be downloaded, http(s):// or drive:ID of Google Drive; none if it
    has to be fetched by hand. folder: of an archive, a folder that may be there unpacked instead; '' for a list.
    """

    name: str
    size: int = 0
    hash: str = ""
    addresses: Tuple[str, ...] = ()
    folder: str = ""


class Given(NamedTuple):
    """What `DataSet.read` reads from.

    notes: annotation files of the archives by their names in the data set. images: names of the images there, sorted.
    lists: paths of the files that are no archives, by name.
    """

    notes: Dict[str, Path]
    images: List[str]
    lists: Dict[str, Path]


class DataSet(NamedTuple):
    """A known data set; its file's docstring is its card.

    page, terms: where a person finds it, and on what terms. files: what it is made of. members: pattern of the names in
    archives that are of interest; group 1 is the name in the data set. read: gives the annotations of a part, files
    named as in the data set. parts: the published number of images by split, for each part; the first is the default,
    and an empty one where nothing is published. landmarks, eyes: names. boxes_from_annotations: its boxes tell where the
    annotated points are, in test images too.
    """

    page: str
    terms: str
    files: Tuple[File, ...]
    members: str
    read: Callable[[Given, str], Annotations]
    parts: Dict[str, Dict[str, int]]
    landmarks: Tuple[str, ...] = ()
    eyes: Tuple[str, ...] = ("left_eye", "right_eye")
    boxes_from_annotations: bool = False


def lines(path: Path) -> Iterator[Tuple[int, List[str]]]:
    """Number and words of every line of a text file that is not blank.

    Raises:
      DataError: it cannot be read, or is not text.
    """
    try:
        with open(str(path), encoding="utf-8-sig") as stream:
            for number, line in enumerate(stream, 1):
                words = line.split()
                if words:
                    yield number, words
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from None
    except UnicodeDecodeError:
        raise DataError(f"{path}: not a text file") from None


def numbers(words: List[str], count: int, path: Path, line: int) -> np.ndarray:
    """float64 [count]: the words as numbers.

    Raises:
      DataError: there are more or fewer, or one is no number below a billion.
    """
    try:
        values = np.array([float(word) for word in words])
        if len(values) == count and np.isfinite(values).all() and (np.abs(values) < 1e9).all():
            return values
    except ValueError:
        pass
    raise DataError(
        "{}, line {}: wanted {} numbers, got {!r}".format(path, line, count, " ".join(words)[:80])
    ) from None


def tight_boxes(points: np.ndarray) -> np.ndarray:
    """float64 [n, 4]: x, y, width and height of the smallest box around each image's points, [n, L, 2]."""
    low, high = points.min(1), points.max(1)
    return np.concatenate([low, high - low], axis=1)


def shares(names: List[str], test: float, seed: int) -> List[str]:
    """`train` or `test` for each name, a fixed share of them for testing.

    The draw depends on the seed and the sorted names alone.
    """
    count = round(test * len(names))
    chosen = np.random.RandomState(seed).permutation(len(names))[:count]
    ordered = sorted(names)
    tested = {ordered[place] for place in chosen}
    return ["test" if name in tested else "train" for name in names]


def name_in(known: DataSet, member: str) -> str:
    """The name in the data set of a file in an archive; '' if it is of no interest, as hidden ones never are (macOS)."""
    match = re.search("(?:^|/)" + known.members + r"\Z", member)
    return match.group(1) if match and "/." not in "/" + member else ""
