import errno
import io
import os
import re
import shlex
import shutil
import tarfile
import zipfile
from pathlib import Path, PurePosixPath
from typing import Any, Callable, Dict, Mapping

import pytest

from fse import config
from fse.datasets import archive, download
from fse.errors import DataError, MachineError, is_machine_error

KINDS = ["zip", "tar", "tar.gz", "tar.bz2", "tar.xz"]
SEVEN_ZIP = b"7z\xbc\xaf\x27\x1c and more"  # the signature of a 7z archive
FILES = {"images/a.jpg": b"a" * 3000, "images/deep/b.png": os.urandom(4096), "landmarks.csv": b"file\n", "empty": b""}


def pack(path: Path, files: Mapping[str, bytes], kind: str = "zip") -> Path:
    if kind == "zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as package:
            for name, data in files.items():
                package.writestr(name, data)
    else:
        mode: Any = "w:" + kind[4:]
        with tarfile.open(path, mode) as package:
            for name, data in files.items():
                info = tarfile.TarInfo(name)
                info.size = len(data)
                package.addfile(info, io.BytesIO(data))
    return path


def pack_entry(path: Path, **fields: Any) -> Path:
    """Write a tar with an ordinary file and an entry with the given fields."""
    with tarfile.open(path, "w") as package:
        package.addfile(tarfile.TarInfo("images/first.jpg"))
        info = tarfile.TarInfo("images/odd")
        for name, value in fields.items():
            setattr(info, name, value)
        package.addfile(info)
    return path


def unpack(
    path: Path,
    folder: Path,
    select: Callable[[PurePosixPath], bool] = lambda name: True,
    max_bytes: int = 10**6,
    max_files: int = 100,
) -> Dict[str, bytes]:
    folder.mkdir()
    archive.unpack(path, folder, select, max_bytes, max_files)
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


@pytest.mark.parametrize("kind", KINDS)
def test_files_of_every_format(tmp_path: Path, kind: str) -> None:
    path = pack(tmp_path / "archive", FILES, kind)
    assert unpack(path, tmp_path / "out") == FILES
    assert archive.folders(path, 10**6, 100) == [".", "images", "images/deep"]


@pytest.mark.parametrize("kind", KINDS)
def test_only_selected_files_are_written(tmp_path: Path, kind: str) -> None:
    path = pack(tmp_path / "archive", FILES, kind)
    assert list(unpack(path, tmp_path / "out", lambda name: name.suffix == ".png")) == ["images/deep/b.png"]


def test_folders_and_long_names(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w", format=tarfile.PAX_FORMAT) as package:
        package.addfile(tarfile.TarInfo("./" + "x" * 150 + "/ä.jpg"))
        folder = tarfile.TarInfo("images")
        folder.type = tarfile.DIRTYPE
        package.addfile(folder)
    assert list(unpack(tmp_path / "a.tar", tmp_path / "out")) == ["x" * 150 + "/ä.jpg"]
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as package:
        package.writestr("images/", b"")
        package.writestr("images\\a.jpg", b"made on Windows")
    assert unpack(tmp_path / "a.zip", tmp_path / "out2") == {"images/a.jpg": b"made on Windows"}


@pytest.mark.parametrize("kind", ["zip", "tar"])
@pytest.mark.parametrize("name", ["../evil.jpg", "images/../../evil.jpg", "/tmp/evil.jpg", "C:/evil.jpg"])
def test_entries_that_leave_the_folder_are_refused(tmp_path: Path, kind: str, name: str) -> None:
    path = pack(tmp_path / "archive", {name: b"x"}, kind)
    with pytest.raises(DataError, match="leaves the archive's folder") as caught:
        unpack(path, tmp_path / "out", select=lambda name: False)
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
def test_links_and_devices_in_tar_are_refused(tmp_path: Path, fields: Dict[str, Any]) -> None:
    with pytest.raises(DataError, match="'images/odd' is a link or a device"):
        unpack(pack_entry(tmp_path / "a.tar", **fields), tmp_path / "out")


def test_links_in_zip_are_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as package:
        info = zipfile.ZipInfo("images/odd")
        info.create_system = 3
        info.external_attr = 0o120777 << 16
        package.writestr(info, "/etc/passwd")
    with pytest.raises(DataError, match="'images/odd' is a link or a device"):
        unpack(tmp_path / "a.zip", tmp_path / "out")


def test_encrypted_zip_is_refused(tmp_path: Path) -> None:
    data = bytearray(pack(tmp_path / "a.zip", {"a.jpg": b"x"}).read_bytes())
    data[data.index(b"PK\x01\x02") + 8] |= 1
    data[6] |= 1
    (tmp_path / "a.zip").write_bytes(bytes(data))
    with pytest.raises(DataError, match=r"'a.jpg' is encrypted"):
        unpack(tmp_path / "a.zip", tmp_path / "out")


@pytest.mark.parametrize("name", ["set.7z", "set.7z.001", "no suffix"])
def test_7z_archives_are_refused_with_the_command_that_unpacks_them(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(SEVEN_ZIP)
    message = (
        f"{path}: 7z archives are not supported; unpack it with `7z x {shlex.quote(str(path))}` and set dataset.archive to "
        "the folder, or put the folder of a known data set into download.data_path"
    )
    assert archive.is_archive(path)
    with pytest.raises(DataError, match=re.escape(message)):
        unpack(path, tmp_path / "out")
    with pytest.raises(DataError, match=re.escape(message)):
        archive.names(path, 10**6, 100)
    with pytest.raises(DataError, match=re.escape(message)):
        list(archive.contents(path, lambda name: True, 10**6, 100))
    assert path.read_bytes() == SEVEN_ZIP


def test_split_7z_archive_is_recognized_by_its_first_volume(tmp_path: Path) -> None:
    for number in range(1, 4):
        (tmp_path / f"img.7z.00{number}").write_bytes(SEVEN_ZIP[4 * number - 4 : 4 * number])
    assert archive.is_archive(tmp_path / "img.7z.001") is False  # a volume of four bytes shows no signature
    with pytest.raises(DataError, match=r"`7z x .*img\.7z\.001`"):
        unpack(tmp_path / "img.7z.001", tmp_path / "out")


def test_7z_archive_as_data_set(tmp_path: Path) -> None:
    (tmp_path / "set.7z.001").write_bytes(SEVEN_ZIP)
    tables = {"dataset": {"name": "mine", "archive": str(tmp_path / "set.7z.001")}}
    with pytest.raises(DataError, match=r"`7z x .*set\.7z\.001` and set dataset\.archive to the folder"):
        download.download(config.from_tables(tables), tmp_path / "out")


def test_unknown_compression_is_refused(tmp_path: Path) -> None:
    data = bytearray(pack(tmp_path / "a.zip", {"a.jpg": b"x"}).read_bytes())
    data[data.index(b"PK\x01\x02") + 10] = data[8] = 9
    (tmp_path / "a.zip").write_bytes(bytes(data))
    with pytest.raises(DataError, match="compression"):
        unpack(tmp_path / "a.zip", tmp_path / "out")


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_repeated_name_is_refused(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "archive"
    if kind == "zip":
        with zipfile.ZipFile(path, "w") as package:
            package.writestr("a.jpg", b"1")
            package.writestr("./a.jpg", b"2")
    else:
        with tarfile.open(path, "w") as package:
            package.addfile(tarfile.TarInfo("a.jpg"))
            package.addfile(tarfile.TarInfo("./a.jpg"))
    with pytest.raises(DataError, match=r"holds 'a.jpg' twice"):
        unpack(path, tmp_path / "out")


@pytest.mark.parametrize("kind", KINDS)
def test_decompression_bomb_is_stopped_at_the_limit(tmp_path: Path, kind: str) -> None:
    path = pack(tmp_path / "archive", {"bomb.jpg": bytes(20_000_000)}, kind)
    with pytest.raises(DataError, match=r"more than 0.001 GB.*dataset.max_gigabytes"):
        unpack(path, tmp_path / "out")
    assert sum(file.stat().st_size for file in (tmp_path / "out").rglob("*")) <= 10**6


def test_decompression_bomb_that_is_not_selected(tmp_path: Path) -> None:
    bomb = {"bomb.bin": bytes(20_000_000), "a.jpg": b"a"}
    with pytest.raises(DataError, match="max_gigabytes"):
        unpack(pack(tmp_path / "a.tgz", bomb, "tar.gz"), tmp_path / "out", lambda name: name.suffix == ".jpg")
    written = unpack(pack(tmp_path / "a.zip", bomb), tmp_path / "out2", lambda name: name.suffix == ".jpg")
    assert written == {"a.jpg": b"a"}


def test_declared_sizes_are_not_trusted(tmp_path: Path) -> None:
    data = bytearray(pack(tmp_path / "a.zip", {"a.jpg": bytes(5_000_000)}).read_bytes())
    for signature, offset in ((b"PK\x01\x02", 24), (b"PK\x03\x04", 22)):
        place = data.index(signature) + offset
        data[place : place + 4] = (10).to_bytes(4, "little")
    (tmp_path / "a.zip").write_bytes(bytes(data))
    with pytest.raises(DataError, match=r"corrupt|max_gigabytes"):
        unpack(tmp_path / "a.zip", tmp_path / "out")


def test_giant_header_is_not_read_into_memory(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tgz", "w:gz") as package:
        info = tarfile.TarInfo("header")
        info.type, info.size = tarfile.XHDTYPE, 1 << 30
        package.addfile(info)
    with pytest.raises(DataError, match="truncated or corrupt"):
        unpack(tmp_path / "a.tgz", tmp_path / "out", max_bytes=10**12)


@pytest.mark.parametrize("kind", ["zip", "tar.gz"])
def test_too_many_entries_are_refused(tmp_path: Path, kind: str) -> None:
    path = pack(tmp_path / "archive", {f"{number}.txt": b"" for number in range(101)}, kind)
    with pytest.raises(DataError, match=r"more than 100 entries.*dataset.max_files"):
        unpack(path, tmp_path / "out", lambda name: False)


@pytest.mark.parametrize("kind", KINDS)
def test_every_truncation_is_detected(tmp_path: Path, kind: str) -> None:
    data = pack(tmp_path / "whole", FILES, kind).read_bytes()
    # tarfile fills the last record with zeros, which are not part of the archive.
    end = len(data) if kind != "tar" else len(data.rstrip(b"\0")) + 511
    for number, length in enumerate(range(0, end, max(1, end // 40))):
        (tmp_path / "cut").write_bytes(data[:length])
        with pytest.raises(DataError, match="truncated or corrupt"):
            unpack(tmp_path / "cut", tmp_path / f"out{number}")


@pytest.mark.parametrize("kind", KINDS)
def test_corrupt_contents_are_detected(tmp_path: Path, kind: str) -> None:
    data = bytearray(pack(tmp_path / "a", {"images/b.png": FILES["images/deep/b.png"]}, kind).read_bytes())
    if kind == "tar":
        data[100] ^= 1  # plain tar has checksums over its headers only
    else:
        data[len(data) // 2] ^= 1
    (tmp_path / "a").write_bytes(bytes(data))
    with pytest.raises(DataError, match="truncated or corrupt"):
        unpack(tmp_path / "a", tmp_path / "out")


def test_garbage_between_entries_of_tar_is_detected(tmp_path: Path) -> None:
    data = bytearray(pack(tmp_path / "a.tar", {"a": b"a" * 512, "b": b"b" * 512}, "tar").read_bytes())
    data[1024:1536] = os.urandom(512)
    (tmp_path / "a.tar").write_bytes(bytes(data))
    with pytest.raises(DataError, match="truncated or corrupt"):
        unpack(tmp_path / "a.tar", tmp_path / "out")


@pytest.mark.parametrize(
    "data", [b"", b"<html>quota</html>", b"PK\x03\x04 and no more", bytes(range(7, 207)) * 10, b"\x1f\x8b"]
)
def test_files_that_are_not_archives(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "a.zip").write_bytes(data)
    with pytest.raises(DataError, match="truncated or corrupt"):
        unpack(tmp_path / "a.zip", tmp_path / "out")


@pytest.mark.parametrize("kind", ["zip"])
def test_archive_that_does_not_fit_on_the_disk_is_not_unpacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    path = pack(tmp_path / "archive", FILES, kind)
    usage = shutil.disk_usage(str(tmp_path))
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=5000))
    with pytest.raises(MachineError, match=r"archive, unpacked,: needs 7\.1e-06 GB in .*out, where 5e-06 GB are free"):
        unpack(path, tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []
    written = unpack(
        path, tmp_path / "out2", lambda name: name.suffix == ".jpg"
    )  # files that are not selected need no space
    assert list(written) == ["images/a.jpg"]


class _Full(io.BytesIO):
    def write(self, data: Any) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_full_disk_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = pack(tmp_path / "a.zip", FILES)
    real = open
    monkeypatch.setattr(archive, "open", lambda name, mode: _Full() if "x" in mode else real(name, mode), raising=False)
    with pytest.raises(MachineError, match=r"a\.zip: cannot be unpacked into .*out: No space left on device") as caught:
        unpack(path, tmp_path / "out")
    assert is_machine_error(caught.value)


def test_file_in_place_of_a_folder(tmp_path: Path) -> None:
    path = pack(tmp_path / "a.zip", {"images": b"", "images/a.jpg": b""})
    with pytest.raises(MachineError, match="cannot be unpacked into"):
        unpack(path, tmp_path / "out")
