"""Annotation files and archives that were damaged in any way: an error of this package, or a result that makes sense."""

import io
import os
import shutil
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fse.datasets import annotations, archive
from fse.datasets.registry import KNOWN
from fse.datasets.spec import Given
from fse.errors import FseError
from tests.fse.datasets import layouts

# The same examples each time, so that what passes once passes always. FUZZ_EXAMPLES=5000 looks longer.
EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "40"))
fuzz = settings(
    max_examples=EXAMPLES,
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)

# What stands where a number or a name should, and bytes that end, begin or part something in some format.
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
def damaged(draw: Any, whole: Any) -> Any:
    """The bytes after a few edits: a stretch is dropped, replaced, doubled, moved, or a bit is turned."""
    data = bytearray(whole)
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


def unpacked(folder: Any) -> Any:
    """Annotation files, names of images and lists that are in the archives and beside them in a folder."""
    notes, images, lists = {}, [], {}
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


SETS = {"celeba": layouts.celeba, "mafl": layouts.celeba, "celeba_wild": layouts.celeba, "mafl_wild": layouts.celeba}
SETS.update({"aflw": layouts.aflw, "300w": layouts.w300, "cats": layouts.cats})


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The annotation files of every data set that has some."""
    found = {}
    for name, make in SETS.items():
        folder = tmp_path_factory.mktemp(name)
        make(folder)
        found[name] = unpacked(folder)
    return found


@pytest.mark.parametrize("name", sorted(SETS))
@given(data=st.data())
@fuzz
def test_annotations_of_known_data_sets(made: Any, tmp_path: Path, name: Any, data: Any) -> None:
    notes, images, lists = made[name]
    pool = lists if lists else notes
    wanted = [key for key in sorted(pool) if lists == {} or key in {file.name for file in KNOWN[name].files}]
    chosen = data.draw(st.sampled_from(wanted))
    broken = data.draw(damaged(pool[chosen]))
    written = {}
    for number, (key, text) in enumerate(sorted(pool.items())):
        written[key] = tmp_path / f"{number}.txt"
        written[key].write_bytes(broken if key == chosen else text)
    given_ = Given({}, images, written) if lists else Given(written, images, {})
    part = data.draw(st.sampled_from(sorted(KNOWN[name].parts)))
    try:
        table = KNOWN[name].read(given_, part)
    except FseError as error:
        assert str(error)
        return
    assert len(table.files) == len(table.splits) == len(table.points)
    assert np.isfinite(table.points).all()
    assert table.boxes is None or table.boxes.shape == (len(table.files), 4)
    annotations.write_table(tmp_path / "table.csv", table)


TABLE = (
    b"file,width,height,split,left_eye_x,left_eye_y,nose_x,nose_y,box_x,box_y,box_width,box_height\r\n"
    b'a/1.jpg,320,200,train,1,2.5,3,4,0,0,10,20\r\n"b, c.jpg",100,100,test,,nan,7,8e1,1,2,3,4\r\n'
)


@given(data=st.one_of(damaged(TABLE), st.binary(max_size=200), st.text(max_size=100).map(str.encode)))
@fuzz
def test_tables_of_annotations(tmp_path: Path, data: Any) -> None:
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


def packed(kind: Any) -> Any:
    stream = io.BytesIO()
    if kind == "7z":
        with layouts.libarchive.custom_writer(stream.write, "7zip") as package:
            for name, data in CONTENTS.items():
                package.add_file_from_memory(name, len(data), data)
    elif kind == "zip":
        with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as package:
            for name, data in CONTENTS.items():
                package.writestr(zipfile.ZipInfo(name), data)
    else:
        with tarfile.open(fileobj=stream, mode="w:" + kind[4:], format=tarfile.GNU_FORMAT) as package:
            for name, data in dict(CONTENTS, **{"n" * 150: b"long"}).items():
                info = tarfile.TarInfo(name)
                info.size = len(data)
                package.addfile(info, io.BytesIO(data))
    return stream.getvalue()


@pytest.mark.parametrize(
    "kind", ["zip", "tar", "tar.gz", "tar.bz2", "tar.xz", pytest.param("7z", marks=layouts.needs_libarchive)]
)
@given(data=st.data())
@fuzz
def test_archives(tmp_path: Path, kind: Any, data: Any) -> None:
    path, folder = tmp_path / "archive", tmp_path / "folder"
    shutil.rmtree(str(folder), ignore_errors=True)
    folder.mkdir()
    path.write_bytes(data.draw(damaged(packed(kind))))
    beside = {file.name for file in tmp_path.iterdir()}
    limits = (100_000, 100)
    for look in (
        lambda: archive.unpack(path, folder, lambda name: True, *limits),
        lambda: archive.names(path, *limits),
        lambda: list(archive.contents(path, lambda name: True, *limits)),
    ):
        try:
            look()
        except FseError as error:
            assert str(path) in str(error)
    assert {file.name for file in tmp_path.iterdir()} == beside
    files = [file for file in folder.rglob("*") if not file.is_dir()]
    assert not [file for file in files if file.is_symlink()]
    assert sum(file.stat().st_size for file in files) <= limits[0] + (1 << 20)


def test_a_tar_of_nothing_but_long_names(tmp_path: Path) -> None:
    """tarfile calls itself for each of them."""
    link = tarfile.TarInfo("././@LongLink")
    link.type, link.size = tarfile.GNUTYPE_LONGNAME, 512
    (tmp_path / "a.tar").write_bytes((link.tobuf() + b"n" * 512) * 5000)
    with pytest.raises(FseError, match="truncated or corrupt"):
        archive.names(Path(tmp_path / "a.tar"), 10**9, 10**6)
