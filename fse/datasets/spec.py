"""The description of a known data set: its files, its license terms, and how its annotations are read."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, Dict, Iterator, List, Tuple

import numpy as np

from fse.datasets.annotations import Annotations
from fse.errors import DataError

FIVE_POINTS = ("left_eye", "right_eye", "nose", "left_mouth", "right_mouth")

_MAX_NUMBER = 1e9  # larger values in annotations are errors


@dataclass(frozen=True)
class SourceFile:
    """A file that a data set is distributed in: an archive of images, or a text file with a list."""

    name: str  # name by which the file is searched; of a split archive the first volume's, NAME.001
    size: int = 0  # bytes, all volumes together; 0 if unknown
    hash: str = ""  # hexadecimal md5, sha1 or sha256, recognized by its length; '' if unknown
    urls: Tuple[str, ...] = ()  # http(s):// or drive:ID (Google Drive); empty if people have to download the file
    folder: str = ""  # archive: name of the folder that it unpacks to, which is accepted instead; '' for a list

    @property
    def is_split(self) -> bool:
        """Whether the archive is split into volumes."""
        return self.name.endswith(".001")

    @property
    def is_seven_zip(self) -> bool:
        """Whether the archive is a 7z archive, of which only the unpacked folder can be read."""
        return self.name.endswith((".7z", ".7z.001"))


@dataclass(frozen=True)
class LocalFiles:
    """The files on this machine that `KnownDataset.read` reads annotations from."""

    annotations: Dict[str, Path]  # annotation files that were unpacked from archives, by name in the data set
    images: List[str]  # names in the data set of the images in the archives, sorted
    lists: Dict[str, Path]  # source files that are not archives, by name


@dataclass(frozen=True)
class KnownDataset:
    """A known data set. The docstring of its module is its card: source, terms, images, splits and landmarks."""

    homepage: str  # URL where a person finds the data set
    terms: str  # license terms in a few words
    files: Tuple[SourceFile, ...]  # all files that are needed
    members: str  # regular expression of the useful paths in archives; group 1 is the file's name in the data set
    read: Callable[[LocalFiles, str], Annotations]  # returns the annotations of a part, with names in the data set
    parts: Dict[
        str, Dict[str, int]
    ]  # published number of images by split, for each part; the first part is the default
    landmarks: Tuple[str, ...] = ()  # names
    eyes: Tuple[str, ...] = ("left_eye", "right_eye")  # landmarks whose distance errors are divided by
    boxes_from_annotations: bool = False  # boxes are derived from the annotated points, in test images too

    def name_of(self, member: str) -> str:
        """Return the name in the data set of a file in an archive; '' if it is not useful or hidden.

        Archives that were made on macOS contain hidden files beside the images.
        """
        match = re.search(f"(?:^|/){self.members}\\Z", member)
        return match.group(1) if match and "/." not in "/" + member else ""


def read_lines(path: Path) -> Iterator[Tuple[int, List[str]]]:
    """Yield the number and the words of each line of a text file, except blank lines.

    Raises:
      DataError: the file cannot be read, or is not UTF-8 text.
    """
    try:
        with open(path, encoding="utf-8-sig") as stream:
            for number, line in enumerate(stream, 1):
                words = line.split()
                if words:
                    yield number, words
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); check the file and its permissions") from None
    except UnicodeDecodeError:
        raise DataError(f"{path}: not a text file in UTF-8; get it again") from None


def parse_numbers(words: List[str], count: int, path: Path, line: int) -> np.ndarray:
    """Return float64 [count], the words of a line as numbers.

    Raises:
      DataError: there are more or fewer, or a word is not a number below a billion.
    """
    try:
        values = np.array([float(word) for word in words])
        if len(values) == count and np.isfinite(values).all() and (np.abs(values) < _MAX_NUMBER).all():
            return values
    except ValueError:
        pass
    text = " ".join(words)[:80]
    raise DataError(f"{path}, line {line}: expected {count} numbers, got {text!r}; get the file again")


def bounding_boxes(points: np.ndarray) -> np.ndarray:
    """Return float64 [n, 4]: x, y, width and height of the smallest box around each image's points, [n, L, 2]."""
    low, high = points.min(1), points.max(1)
    return np.concatenate([low, high - low], axis=1)


def random_splits(names: List[str], test_share: float, seed: int) -> List[str]:
    """Return `train` or `test` for each name; a fixed share of the names is for testing.

    The split depends only on the seed and the sorted names.
    """
    count = round(test_share * len(names))
    chosen = np.random.RandomState(seed).permutation(len(names))[:count]
    ordered = sorted(names)
    test = {ordered[index] for index in chosen}
    return ["test" if name in test else "train" for name in names]
