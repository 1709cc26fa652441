import os
from pathlib import Path

import pytest

from fse.datasets import archive, split_file
from fse.errors import DataError
from tests.fse.datasets.test_archive import FILES, pack, unpack


@pytest.mark.parametrize("kind", ["zip", "tar"])
@pytest.mark.parametrize("length", [100, 1000, 3000])
def test_split_archives(tmp_path: Path, kind: str, length: int) -> None:
    """The volumes are bytes 0 to n, n to 2n and so on, as `split` and `7z -v` write them."""
    files = {**FILES, "more.jpg": b"m" * 5000}
    data = pack(tmp_path / "whole", files, kind).read_bytes()
    length = max(length, len(data) // 90)
    path = tmp_path / f"set.{kind}.001"
    for number, start in enumerate(range(0, len(data), length), 1):
        path.with_suffix(f".{number:03d}").write_bytes(data[start : start + length])
    assert split_file.size(path) == len(data)
    assert archive.is_archive(path) or length < 300  # the signature of tar is in its 257th byte
    assert unpack(path, tmp_path / "out") == files
    last = split_file.volumes(path)[-1]
    if kind != "tar":  # whose end consists of zeros
        last.unlink()
        with pytest.raises(DataError, match="truncated or corrupt"):
            unpack(path, tmp_path / "out2")


def test_reading_across_volumes(tmp_path: Path) -> None:
    data = os.urandom(1000)
    for number in range(4):
        (tmp_path / f"a.00{number + 1}").write_bytes(data[250 * number : 250 * (number + 1)])
    with split_file.open_volumes(tmp_path / "a.001") as stream:
        assert stream.read(600) == data[:600]
        stream.seek(-300, os.SEEK_END)
        assert stream.read() == data[-300:]
        stream.seek(249)
        assert stream.read(2) == data[249:251]


def test_other_files_have_one_volume(tmp_path: Path) -> None:
    for name in ("a.zip", "a.002"):
        (tmp_path / name).write_bytes(b"1234")
    assert split_file.volumes(tmp_path / "a.zip") == [tmp_path / "a.zip"]
    assert split_file.size(tmp_path / "a.002") == 4
