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
from fse import locks
with locks.lock(Path(sys.argv[1]), "the thing", 1.0, shared=len(sys.argv) > 2):
    print("held", flush=True)
    time.sleep(60)
"""


def holder(path: Path, *more: str) -> "subprocess.Popen[str]":
    """Another process that holds a lock."""
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


def test_a_lock_is_held_by_one_and_says_by_whom(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
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


def test_a_killed_holder_frees_it(tmp_path: Path) -> None:
    process = holder(tmp_path / "a.lock")
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert locks.is_free(tmp_path / "a.lock")
    with locks.lock(tmp_path / "a.lock", "it", 0.0):
        assert f"process {os.getpid()} " in locks.holder(tmp_path / "a.lock")
    assert (tmp_path / "a.lock").read_text() == ""


def test_it_is_waited_for(tmp_path: Path) -> None:
    process = holder(tmp_path / "a.lock")
    os.kill(process.pid, signal.SIGTERM)
    with locks.lock(tmp_path / "a.lock", "it", 20.0):
        pass
    process.wait()


def test_shared_holders_do_not_mind_each_other(tmp_path: Path) -> None:
    process = holder(tmp_path / "a.lock", "shared")
    try:
        with locks.lock(tmp_path / "a.lock", "it", 0.0, shared=True):
            pass
        with pytest.raises(StageError, match="in use"), locks.lock(tmp_path / "a.lock", "it", 0.0):
            pass
    finally:
        process.kill()
        process.wait()


def test_a_child_that_has_the_descriptor_holds_the_lock_too(tmp_path: Path) -> None:
    with locks.lock(tmp_path / "a.lock", "it", 0.0) as descriptor:
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], pass_fds=[descriptor])
    assert not locks.is_free(tmp_path / "a.lock")
    child.kill()
    child.wait()
    assert locks.is_free(tmp_path / "a.lock")


def test_a_lock_file_that_was_removed_locks_nothing(tmp_path: Path) -> None:
    with locks.lock(tmp_path / "a.lock", "it", 0.0):
        (tmp_path / "a.lock").unlink()
        with locks.lock(tmp_path / "a.lock", "it", 0.0):
            pass


def test_every_user_may_open_a_lock_file_and_no_link_is_followed(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        with locks.lock(tmp_path / "a.lock", "it", 0.0):
            assert (tmp_path / "a.lock").stat().st_mode & 0o777 == 0o666
    finally:
        os.umask(before)
    (tmp_path / "b.lock").symlink_to(tmp_path / "a.lock")
    with pytest.raises(OSError, match="b.lock"), locks.lock(tmp_path / "b.lock", "it", 0.0):
        pass


def test_there_is_a_lock_per_card_and_one_for_the_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FSE_LOCKS", raising=False)
    assert locks.of_devices("cpu", ["0", "1"]) == {"cpu": Path("/tmp/fse-device-cpu.lock")}
    monkeypatch.setenv("FSE_LOCKS", "/locks")
    found = locks.of_devices("gpu", ["2", "GPU-a/b"])
    assert found == {
        "gpu-2": Path("/locks/fse-device-gpu-2.lock"),
        "gpu-GPU-a/b": Path("/locks/fse-device-gpu-GPU-a_b.lock"),
    }


def test_nobody_holds_a_lock_where_nothing_can_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.lock").write_text("")

    def refuse(number: int) -> None:
        def open_(*_: object) -> None:
            raise OSError(number, "")

        monkeypatch.setattr(locks.os, "open", open_)

    refuse(errno.EROFS)
    assert locks.is_free(tmp_path / "a.lock")
    refuse(errno.EACCES)
    assert not locks.is_free(tmp_path / "a.lock")


def test_a_wait_has_an_end(tmp_path: Path) -> None:
    process = holder(tmp_path / "a.lock")
    began = time.monotonic()
    with pytest.raises(StageError), locks.lock(tmp_path / "a.lock", "it", 0.5):
        pass
    assert 0.4 < time.monotonic() - began < 10.0
    process.kill()
    process.wait()


def test_what_another_process_has_is_not_claimed(tmp_path: Path) -> None:
    process = holder(tmp_path / "a")
    try:
        with locks.try_lock(tmp_path / "a") as mine:
            assert not mine
        assert not locks.is_free(tmp_path / "a")
    finally:
        process.kill()
        process.wait()
    with locks.try_lock(tmp_path / "a") as mine, locks.try_lock(tmp_path / "a") as twice:
        assert mine
        assert not twice
    assert locks.is_free(tmp_path / "a")
