import os
from pathlib import Path

import pytest

from fse.doctor import storage
from fse.doctor.check import Check


def test_the_disk_needs_space_and_room_for_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.statvfs(tmp_path)

    class Disk:
        f_frsize, f_files, f_favail = 4096, real.f_files or 1, 10**6
        f_bavail = 100 * 10**9 // 4096

    monkeypatch.setattr(os, "statvfs", lambda _: Disk)
    assert storage.check_disk(tmp_path).status == "ok"
    Disk.f_favail = 9
    assert "room for only 9 more files" in storage.check_disk(tmp_path).found
    Disk.f_bavail = 5 * 10**9 // 4096
    Disk.f_favail = 10**6
    assert storage.check_disk(tmp_path).status == "warning"
    Disk.f_bavail = 10
    full = storage.check_disk(tmp_path)
    assert (full.status, full.found) == ("failed", f"0.0 GB free at {tmp_path}")


def test_the_folders_must_be_writable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FSE_LOCKS", str(tmp_path / "none"))
    workspace, locks = storage.check_write_access(tmp_path / "new" / "workspace")
    assert workspace == Check("workspace", "ok", f"{tmp_path} can be written and locked")
    assert (locks.status, locks.found) == ("failed", f"{tmp_path / 'none'}: No such file or directory")
    assert list(tmp_path.iterdir()) == []
