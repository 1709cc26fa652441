import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fse.errors import DeviceBusyError, StageError
from fse.runtime import locks

HOLD = """
import sys, time
from pathlib import Path
from fse.runtime import locks
with locks.lock(Path(sys.argv[1]), "the thing", 1.0, shared=len(sys.argv) > 2):
    print("held", flush=True)
    time.sleep(60)
"""


def holder(path: Path, *more: str) -> "subprocess.Popen[str]":
    """Start another process that holds a lock."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path), *more],
        env=dict(os.environ, PYTHONPATH=os.pathsep.join(sys.path)),
        stdout=subprocess.PIPE,
        universal_newlines=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    process.stdout.close()
    return process


def test_only_one_process_holds_a_lock_and_errors_name_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    process = holder(tmp_path / "a.lock")
    try:
        assert not locks.is_free(tmp_path / "a.lock")
        message = rf"npu is in use by process {process.pid} of .* \(the thing\); waited 0 seconds"
        with pytest.raises(DeviceBusyError, match=message), locks.lock(
            tmp_path / "a.lock", "npu", 0.3, error=DeviceBusyError
        ):
            pass
        assert f"waiting for npu, in use by process {process.pid}" in capsys.readouterr().err
    finally:
        process.kill()
        process.wait()


def test_killing_the_holder_releases_the_lock(tmp_path: Path) -> None:
    process = holder(tmp_path / "a.lock")
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert locks.is_free(tmp_path / "a.lock")
    with locks.lock(tmp_path / "a.lock", "it", 0.0):
        assert f"process {os.getpid()} " in locks.holder(tmp_path / "a.lock")
    assert (tmp_path / "a.lock").read_text() == ""


def test_waits_for_the_holder(tmp_path: Path) -> None:
    process = holder(tmp_path / "a.lock")
    os.kill(process.pid, signal.SIGTERM)
    with locks.lock(tmp_path / "a.lock", "it", 20.0):
        pass
    process.wait()


def test_shared_locks_exclude_only_exclusive_locks(tmp_path: Path) -> None:
    process = holder(tmp_path / "a.lock", "shared")
    try:
        with locks.lock(tmp_path / "a.lock", "it", 0.0, shared=True):
            pass
        with pytest.raises(StageError, match="in use"), locks.lock(tmp_path / "a.lock", "it", 0.0):
            pass
    finally:
        process.kill()
        process.wait()


def test_a_child_that_inherits_the_descriptor_holds_the_lock_too(tmp_path: Path) -> None:
    with locks.lock(tmp_path / "a.lock", "it", 0.0) as descriptor:
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], pass_fds=[descriptor])
    assert not locks.is_free(tmp_path / "a.lock")
    child.kill()
    child.wait()
    assert locks.is_free(tmp_path / "a.lock")


def test_a_removed_lock_file_protects_nothing(tmp_path: Path) -> None:
    with locks.lock(tmp_path / "a.lock", "it", 0.0):
        (tmp_path / "a.lock").unlink()
        with locks.lock(tmp_path / "a.lock", "it", 0.0):
            pass


def test_lock_files_are_open_to_all_users_and_links_are_not_followed(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        with locks.lock(tmp_path / "a.lock", "it", 0.0):
            assert (tmp_path / "a.lock").stat().st_mode & 0o777 == 0o666
    finally:
        os.umask(before)
    (tmp_path / "b.lock").symlink_to(tmp_path / "a.lock")
    with pytest.raises(OSError, match="b.lock"), locks.lock(tmp_path / "b.lock", "it", 0.0):
        pass


def test_there_is_one_lock_per_card_and_one_for_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FSE_LOCKS", raising=False)
    assert locks.device_lock_files("cpu", ["0", "1"]) == {"cpu": Path("/tmp/fse-device-cpu.lock")}
    monkeypatch.setenv("FSE_LOCKS", "/locks")
    assert locks.device_lock_files("gpu", ["2", "GPU-a/b"]) == {
        "gpu-2": Path("/locks/fse-device-gpu-2.lock"),
        "gpu-GPU-a/b": Path("/locks/fse-device-gpu-GPU-a_b.lock"),
    }


def test_locks_are_free_on_a_read_only_file_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.lock").write_text("")

    def refuse(number: int) -> None:
        def open_(*_: object) -> None:
            raise OSError(number, "")

        monkeypatch.setattr(os, "open", open_)

    refuse(errno.EROFS)
    assert locks.is_free(tmp_path / "a.lock")
    refuse(errno.EACCES)
    assert not locks.is_free(tmp_path / "a.lock")


def test_waiting_ends_after_the_time_limit(tmp_path: Path) -> None:
    process = holder(tmp_path / "a.lock")
    began = time.monotonic()
    with pytest.raises(StageError), locks.lock(tmp_path / "a.lock", "it", 0.5):
        pass
    assert 0.4 < time.monotonic() - began < 10.0
    process.kill()
    process.wait()


def test_try_lock_does_not_wait_for_another_process(tmp_path: Path) -> None:
    process = holder(tmp_path / "a")
    try:
        with locks.try_lock(tmp_path / "a") as mine:
            assert not mine
        assert not locks.is_free(tmp_path / "a")
    finally:
        process.kill()
        process.wait()
    with locks.try_lock(tmp_path / "a") as mine, locks.try_lock(tmp_path / "a") as second:
        assert mine
        assert not second
    assert locks.is_free(tmp_path / "a")
