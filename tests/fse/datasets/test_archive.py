import errno
import io
import os
import shutil
import sys
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pytest

from fse.datasets import archive
from fse.errors import DataError, MachineError, is_machines
from tests.fse.datasets import layouts

SEVEN = pytest.param("7z", marks=layouts.needs_libarchive)
KINDS = ["zip", "tar", "tar.gz", "tar.bz2", "tar.xz", SEVEN]
FILES = {"images/a.jpg": b"a" * 3000, "images/deep/b.png": os.urandom(4096), "landmarks.csv": b"file\n", "empty": b""}


def pack(path: Any, files: Any, kind: Any = "zip") -> Any:
    if kind == "zip":
        with zipfile.ZipFile(str(path), "w", zipfile.ZIP_DEFLATED) as package:
            for name, data in files.items():
                package.writestr(name, data)
    elif kind == "7z":
        with layouts.libarchive.file_writer(str(path), "7zip") as package:
            for name, data in files.items():
                package.add_file_from_memory(name, len(data), data)
    else:
        with tarfile.open(str(path), "w:" + kind[4:]) as package:
            for name, data in files.items():
                info = tarfile.TarInfo(name)
                info.size = len(data)
                package.addfile(info, io.BytesIO(data))
    return path


def pack_entry(path: Any, **fields: Any) -> Any:
    """A tar with one ordinary file and one entry of given fields."""
    with tarfile.open(str(path), "w") as package:
        package.addfile(tarfile.TarInfo("images/first.jpg"))
        info = tarfile.TarInfo("images/odd")
        for name, value in fields.items():
            setattr(info, name, value)
        package.addfile(info)
    return path


def unpack(
    path: Any, folder: Any, wanted: Any = lambda name: True, max_bytes: Any = 10**6, max_files: Any = 100
) -> Any:
    folder.mkdir()
    archive.unpack(path, folder, wanted, max_bytes, max_files)
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


@pytest.mark.parametrize("kind", KINDS)
def test_all_kinds(tmp_path: Path, kind: Any) -> None:
    path = pack(tmp_path / "archive", FILES, kind)
    assert unpack(path, tmp_path / "out") == FILES
    assert archive.folders(path, 10**6, 100) == [".", "images", "images/deep"]


@pytest.mark.parametrize("kind", KINDS)
def test_only_what_is_wanted(tmp_path: Path, kind: Any) -> None:
    path = pack(tmp_path / "archive", FILES, kind)
    assert list(unpack(path, tmp_path / "out", lambda name: name.suffix == ".png")) == ["images/deep/b.png"]


def test_folders_and_long_names_are_fine(tmp_path: Path) -> None:
    with tarfile.open(str(tmp_path / "a.tar"), "w", format=tarfile.PAX_FORMAT) as package:
        package.addfile(tarfile.TarInfo("./" + "x" * 150 + "/ä.jpg"))
        folder = tarfile.TarInfo("images")
        folder.type = tarfile.DIRTYPE
        package.addfile(folder)
    assert list(unpack(tmp_path / "a.tar", tmp_path / "out")) == ["x" * 150 + "/ä.jpg"]
    with zipfile.ZipFile(str(tmp_path / "a.zip"), "w") as package:
        package.writestr("images/", b"")
        package.writestr("images\\a.jpg", b"made on Windows")
    assert unpack(tmp_path / "a.zip", tmp_path / "out2") == {"images/a.jpg": b"made on Windows"}


@pytest.mark.parametrize("kind", ["zip", "tar", SEVEN])
@pytest.mark.parametrize("name", ["../evil.jpg", "images/../../evil.jpg", "/tmp/evil.jpg", "C:/evil.jpg"])
def test_entries_that_leave_the_folder(tmp_path: Path, kind: Any, name: str) -> None:
    path = pack(tmp_path / "archive", {name: b"x"}, kind)
    with pytest.raises(DataError, match="leaves the archive's folder") as caught:
        unpack(path, tmp_path / "out", wanted=lambda name: False)
    assert "evil.jpg" in str(caught.value)
    assert str(path) in str(caught.value)
    assert not [file for file in tmp_path.rglob("*") if "evil" in file.name]


@pytest.mark.parametrize(
    "fields",
    [
        {"type": tarfile.SYMTYPE, "linkname": "/etc/passwd"},
        {"type": tarfile.LNKTYPE, "linkname": "images/first.jpg"},
        {"type": tarfile.CHRTYPE},
        {"type": tarfile.FIFOTYPE},
    ],
)
def test_links_and_devices_in_tar(tmp_path: Path, fields: Any) -> None:
    with pytest.raises(DataError, match="'images/odd' is a link or a device"):
        unpack(pack_entry(tmp_path / "a.tar", **fields), tmp_path / "out")


def test_links_in_zip(tmp_path: Path) -> None:
    with zipfile.ZipFile(str(tmp_path / "a.zip"), "w") as package:
        info = zipfile.ZipInfo("images/odd")
        info.create_system = 3
        info.external_attr = 0o120777 << 16
        package.writestr(info, "/etc/passwd")
    with pytest.raises(DataError, match="'images/odd' is a link or a device"):
        unpack(tmp_path / "a.zip", tmp_path / "out")


def test_encrypted(tmp_path: Path) -> None:
    data = bytearray(pack(tmp_path / "a.zip", {"a.jpg": b"x"}).read_bytes())
    data[data.index(b"PK\x01\x02") + 8] |= 1
    data[6] |= 1
    (tmp_path / "a.zip").write_bytes(bytes(data))
    with pytest.raises(DataError, match=r"'a.jpg' is encrypted"):
        unpack(tmp_path / "a.zip", tmp_path / "out")


@layouts.needs_libarchive
def test_links_in_7z(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    os.symlink("/etc/passwd", "odd")
    with layouts.libarchive.file_writer("a.7z", "7zip") as package:
        package.add_files("odd")
    with pytest.raises(DataError, match="'odd' is a link or a device"):
        unpack(tmp_path / "a.7z", tmp_path / "out")


@pytest.mark.parametrize("kind", ["zip", "tar", SEVEN])
@pytest.mark.parametrize("length", [100, 1000, 3000])
def test_archives_in_parts(tmp_path: Path, kind: Any, length: int) -> None:
    """As `7z -v` cuts them: bytes 0 to n, n to 2n, …"""
    whole = pack(tmp_path / "whole", {**FILES, "more.jpg": b"m" * 5000}, kind)
    data = whole.read_bytes()
    length = max(length, len(data) // 90)
    path = tmp_path / f"set.{kind}.001"
    for number, start in enumerate(range(0, len(data), length), 1):
        path.with_suffix(f".{number:03d}").write_bytes(data[start : start + length])
    assert archive.size(path) == len(data)
    assert archive.is_archive(path) or length < 300  # what tells a tar is in its 257th byte
    assert unpack(path, tmp_path / "out") == {**FILES, "more.jpg": b"m" * 5000}
    last = archive.parts(path)[-1]
    if kind != "tar":  # whose end is nothing but zeros
        last.unlink()
        with pytest.raises(DataError, match="truncated or corrupt"):
            unpack(path, tmp_path / "out2")


def test_without_libarchive_it_is_told_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "libarchive", None)
    (tmp_path / "a.7z.001").write_bytes(b"7z\xbc\xaf\x27\x1c and more")
    with pytest.raises(DataError, match=r"pip install libarchive-c.*7z x .*a\.7z\.001`\) and give the folder"):
        unpack(tmp_path / "a.7z.001", tmp_path / "out")


def test_unknown_compression(tmp_path: Path) -> None:
    data = bytearray(pack(tmp_path / "a.zip", {"a.jpg": b"x"}).read_bytes())
    data[data.index(b"PK\x01\x02") + 10] = data[8] = 9
    (tmp_path / "a.zip").write_bytes(bytes(data))
    with pytest.raises(DataError, match="compression"):
        unpack(tmp_path / "a.zip", tmp_path / "out")


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_twice_the_same_name(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "archive"
    if kind == "zip":
        with zipfile.ZipFile(str(path), "w") as package:
            package.writestr("a.jpg", b"1")
            package.writestr("./a.jpg", b"2")
    else:
        with tarfile.open(str(path), "w") as package:
            package.addfile(tarfile.TarInfo("a.jpg"))
            package.addfile(tarfile.TarInfo("./a.jpg"))
    with pytest.raises(DataError, match=r"holds 'a.jpg' twice"):
        unpack(path, tmp_path / "out")


@pytest.mark.parametrize("kind", KINDS)
def test_bombs(tmp_path: Path, kind: Any) -> None:
    path = pack(tmp_path / "archive", {"bomb.jpg": bytes(20_000_000)}, kind)
    with pytest.raises(DataError, match=r"more than 0.001 GB.*dataset.max_gigabytes"):
        unpack(path, tmp_path / "out")
    assert sum(file.stat().st_size for file in (tmp_path / "out").rglob("*")) <= 10**6


def test_bombs_that_nobody_wants_cost_no_time(tmp_path: Path) -> None:
    bomb = {"bomb.bin": bytes(20_000_000), "a.jpg": b"a"}
    with pytest.raises(DataError, match="max_gigabytes"):
        unpack(pack(tmp_path / "a.tgz", bomb, "tar.gz"), tmp_path / "out", lambda name: name.suffix == ".jpg")
    found = unpack(pack(tmp_path / "a.zip", bomb), tmp_path / "out2", lambda name: name.suffix == ".jpg")
    assert found == {"a.jpg": b"a"}


def test_sizes_are_counted_not_believed(tmp_path: Path) -> None:
    data = bytearray(pack(tmp_path / "a.zip", {"a.jpg": bytes(5_000_000)}).read_bytes())
    for signature, offset in ((b"PK\x01\x02", 24), (b"PK\x03\x04", 22)):
        place = data.index(signature) + offset
        data[place : place + 4] = (10).to_bytes(4, "little")
    (tmp_path / "a.zip").write_bytes(bytes(data))
    with pytest.raises(DataError, match=r"corrupt|max_gigabytes"):
        unpack(tmp_path / "a.zip", tmp_path / "out")


def test_a_giant_header_is_not_read_into_memory(tmp_path: Path) -> None:
    with tarfile.open(str(tmp_path / "a.tgz"), "w:gz") as package:
        info = tarfile.TarInfo("header")
        info.type, info.size = tarfile.XHDTYPE, 1 << 30
        package.addfile(info)
    with pytest.raises(DataError, match="truncated or corrupt"):
        unpack(tmp_path / "a.tgz", tmp_path / "out", max_bytes=10**12)


@pytest.mark.parametrize("kind", ["zip", "tar.gz", SEVEN])
def test_too_many_entries(tmp_path: Path, kind: Any) -> None:
    path = pack(tmp_path / "archive", {f"{number}.txt": b"" for number in range(101)}, kind)
    with pytest.raises(DataError, match=r"more than 100 entries.*dataset.max_files"):
        unpack(path, tmp_path / "out", lambda name: False)


@pytest.mark.parametrize("kind", KINDS)
def test_every_truncation_is_noticed(tmp_path: Path, kind: Any) -> None:
    data = pack(tmp_path / "whole", FILES, kind).read_bytes()
    # tarfile fills the last record with zeros that nobody needs.
    end = len(data) if kind != "tar" else len(data.rstrip(b"\0")) + 511
    for number, length in enumerate(range(0, end, max(1, end // 40))):
        (tmp_path / "cut").write_bytes(data[:length])
        with pytest.raises(DataError, match="truncated or corrupt"):
            unpack(tmp_path / "cut", tmp_path / f"out{number}")


@pytest.mark.parametrize("kind", KINDS)
def test_corruption_of_contents_is_noticed(tmp_path: Path, kind: Any) -> None:
    data = bytearray(pack(tmp_path / "a", {"images/b.png": FILES["images/deep/b.png"]}, kind).read_bytes())
    if kind == "tar":
        data[100] ^= 1  # plain tar has checksums over its headers only
    else:
        data[len(data) // 2] ^= 1
    (tmp_path / "a").write_bytes(bytes(data))
    with pytest.raises(DataError, match="truncated or corrupt"):
        unpack(tmp_path / "a", tmp_path / "out")


def test_garbage_between_entries_of_tar_is_noticed(tmp_path: Path) -> None:
    data = bytearray(pack(tmp_path / "a.tar", {"a": b"a" * 512, "b": b"b" * 512}, "tar").read_bytes())
    data[1024:1536] = os.urandom(512)
    (tmp_path / "a.tar").write_bytes(bytes(data))
    with pytest.raises(DataError, match="truncated or corrupt"):
        unpack(tmp_path / "a.tar", tmp_path / "out")


@pytest.mark.parametrize("data", [b"", b"<html>quota</html>", b"PK\x03\x04 and no more", os.urandom(2000), b"\x1f\x8b"])
def test_no_archive_at_all(tmp_path: Path, data: Any) -> None:
    (tmp_path / "a.zip").write_bytes(data)
    with pytest.raises(DataError, match="truncated or corrupt"):
        unpack(tmp_path / "a.zip", tmp_path / "out")


@pytest.mark.parametrize("kind", ["zip", SEVEN])
def test_what_will_not_fit_is_not_begun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: Any) -> None:
    path = pack(tmp_path / "archive", FILES, kind)
    usage = shutil.disk_usage(str(tmp_path))
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=5000))
    with pytest.raises(MachineError, match=r"archive, unpacked,: needs 7\.1e-06 GB in .*out, where 5e-06 GB are free"):
        unpack(path, tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []
    found = unpack(path, tmp_path / "out2", lambda name: name.suffix == ".jpg")  # what is not wanted takes no room
    assert list(found) == ["images/a.jpg"]


class _Full(io.BytesIO):
    def write(self, data: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_full_disk_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = pack(tmp_path / "a.zip", FILES)
    real = open
    monkeypatch.setattr(archive, "open", lambda name, mode: _Full() if "x" in mode else real(name, mode), raising=False)
    with pytest.raises(MachineError, match=r"a\.zip: cannot be unpacked into .*out: No space left on device") as caught:
        unpack(path, tmp_path / "out")
    assert is_machines(caught.value)


def test_a_file_where_a_folder_is_wanted(tmp_path: Path) -> None:
    path = pack(tmp_path / "a.zip", {"images": b"", "images/a.jpg": b""})
    with pytest.raises(MachineError, match="cannot be unpacked into"):
        unpack(path, tmp_path / "out")
