"""Damaged annotation files and archives: reading them raises an error of this package or returns a sensible result."""

import io
import os
import shutil
import tarfile
import zipfile
from pathlib import Path
from typing import Any, Callable, Dict, List, Tuple

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fse.datasets import annotations, archive
from fse.datasets.registry import KNOWN
from fse.datasets.spec import LocalFiles
from fse.errors import FseError
from tests.fse.datasets import layouts

# The examples are the same in every run. FUZZ_EXAMPLES=5000 tests more of them.
EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "40"))
fuzz = settings(
    max_examples=EXAMPLES,
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)

# Replacements of numbers and names, and bytes with a meaning in one of the formats.
ODD = [b"", b"0", b"-1", b"1e400", b"nan", b"inf", b"\xc2\xb2", b"1_0", b"x", b"../x", b"9" * 5000, b"\xff\xfe", b"\0"]
ODD += [
    b" ",
    b"\t",
    b"\r",
    b"\n",
    b"\r\n\r\n",
    b"\xef\xbb\xbf",
    b'"',
    b",",
    b"\\",
    b"{",
    b"}",
    b"\x1c",
    b"\xe2\x80\xa8",
]


@st.composite
def damaged(draw: st.DrawFn, original: bytes) -> bytes:
    """Return the bytes after a few edits: bytes are dropped, replaced or doubled, the end is cut, or a bit is flipped."""
    data = bytearray(original)
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(data)))
        end = min(len(data), start + draw(st.sampled_from([0, 1, 2, 8, 40, 1000])))
        kind = draw(st.sampled_from(["drop", "replace", "double", "end", "bit"]))
        if kind == "drop":
            del data[start:end]
        elif kind == "replace":
            data[start:end] = draw(st.one_of(st.sampled_from(ODD), st.binary(max_size=12)))
        elif kind == "double":
            data[start:start] = data[start:end]
        elif kind == "end":
            del data[start:]
        elif start < len(data):
            data[start] ^= 1 << draw(st.integers(0, 7))
    return bytes(data)


# Annotation files and lists by name, with the sorted names of the images between them.
Contents = Tuple[Dict[str, bytes], List[str], Dict[str, bytes]]


def unpacked(folder: Path) -> Contents:
    """Return annotation files and names of images in the archives of a folder, and the list files beside them."""
    notes: Dict[str, bytes] = {}
    images: List[str] = []
    lists: Dict[str, bytes] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix in (".zip", ".gz"):
            for content in archive.contents(path, lambda name: True, 10**8, 1000):
                name = str(content.name).replace("aflw-mtfl/", "")
                if name.endswith((".jpg", ".png")):
                    images.append(name)
                else:
                    notes[name] = content.data
        elif path.is_file():
            lists[path.name] = path.read_bytes()
    return notes, sorted(images), lists


SETS: Dict[str, Callable[[Path], object]] = {
    **dict.fromkeys(("celeba", "mafl", "celeba_wild", "mafl_wild"), layouts.celeba),
    "aflw": layouts.aflw,
    "300w": layouts.w300,
    "cats": layouts.cats,
}


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> Dict[str, Contents]:
    """Return the annotation files of every data set that has some."""
    contents = {}
    for name, make in SETS.items():
        folder = tmp_path_factory.mktemp(name)
        make(folder)
        contents[name] = unpacked(folder)
    return contents


@pytest.mark.parametrize("name", sorted(SETS))
@given(data=st.data())
@fuzz
def test_annotations_of_known_data_sets(
    originals: Dict[str, Contents], tmp_path: Path, name: str, data: st.DataObject
) -> None:
    notes, images, lists = originals[name]
    pool = lists if lists else notes
    used = [key for key in sorted(pool) if lists == {} or key in {file.name for file in KNOWN[name].files}]
    chosen = data.draw(st.sampled_from(used))
    broken = data.draw(damaged(pool[chosen]))
    written = {}
    for number, (key, text) in enumerate(sorted(pool.items())):
        written[key] = tmp_path / f"{number}.txt"
        written[key].write_bytes(broken if key == chosen else text)
    local = LocalFiles({}, images, written) if lists else LocalFiles(written, images, {})
    part = data.draw(st.sampled_from(sorted(KNOWN[name].parts)))
    try:
        table = KNOWN[name].read(local, part)
    except FseError as error:
        assert str(error)
        return
    assert len(table.files) == len(table.splits) == len(table.points)
    assert np.isfinite(table.points).all()
    assert table.boxes is None or table.boxes.shape == (len(table.files), 4)
    annotations.write(tmp_path / "table.csv", table)


TABLE = (
    b"file,width,height,split,left_eye_x,left_eye_y,nose_x,nose_y,box_x,box_y,box_width,box_height\r\n"
    b'a/1.jpg,320,200,train,1,2.5,3,4,0,0,10,20\r\n"b, c.jpg",100,100,test,,nan,7,8e1,1,2,3,4\r\n'
)


@given(data=st.one_of(damaged(TABLE), st.binary(max_size=200), st.text(max_size=100).map(str.encode)))
@fuzz
def test_annotation_files(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "table.csv").write_bytes(data)
    try:
        table = annotations.read(tmp_path / "table.csv")
    except FseError as error:
        assert "table.csv" in str(error)
        return
    assert len(table.files) == len(table.splits)
    assert table.points.shape == (len(table.files), len(table.landmarks), 2)
    assert not any(name.startswith("/") or ".." in name.split("/") for name in table.files)


CONTENTS = {"images/a.jpg": b"a" * 3000, "images/deep/b.png": os.urandom(600), "landmarks.csv": b"file\n", "empty": b""}


def packed(kind: str) -> bytes:
    stream = io.BytesIO()
    if kind == "zip":
        with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as package:
            for name, data in CONTENTS.items():
                package.writestr(zipfile.ZipInfo(name), data)
    else:
        mode: Any = "w:" + kind[4:]
        with tarfile.open(fileobj=stream, mode=mode, format=tarfile.GNU_FORMAT) as package:
            for name, data in dict(CONTENTS, **{"n" * 150: b"long"}).items():
                info = tarfile.TarInfo(name)
                info.size = len(data)
                package.addfile(info, io.BytesIO(data))
    return stream.getvalue()


@pytest.mark.parametrize("kind", ["zip", "tar", "tar.gz", "tar.bz2", "tar.xz"])
@given(data=st.data())
@fuzz
def test_archives(tmp_path: Path, kind: str, data: st.DataObject) -> None:
    path, folder = tmp_path / "archive", tmp_path / "folder"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    path.write_bytes(data.draw(damaged(packed(kind))))
    beside = {file.name for file in tmp_path.iterdir()}
    limits = (100_000, 100)
    readers: List[Callable[[], object]] = [
        lambda: archive.unpack(path, folder, lambda name: True, *limits),
        lambda: archive.names(path, *limits),
        lambda: list(archive.contents(path, lambda name: True, *limits)),
    ]
    for read in readers:
        try:
            read()
        except FseError as error:
            assert str(path) in str(error)
    assert {file.name for file in tmp_path.iterdir()} == beside
    files = [file for file in folder.rglob("*") if not file.is_dir()]
    assert not [file for file in files if file.is_symlink()]
    assert sum(file.stat().st_size for file in files) <= limits[0] + (1 << 20)


def test_tar_of_long_names_only(tmp_path: Path) -> None:
    """The module tarfile calls itself for each long name."""
    link = tarfile.TarInfo("././@LongLink")
    link.type, link.size = tarfile.GNUTYPE_LONGNAME, 512
    (tmp_path / "a.tar").write_bytes((link.tobuf() + b"n" * 512) * 5000)
    with pytest.raises(FseError, match="truncated or corrupt"):
        archive.names(tmp_path / "a.tar", 10**9, 10**6)
