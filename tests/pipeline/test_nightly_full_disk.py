"""Nights whose disk is full, or at a limit: the machine is to blame, and the verdict is written all the same."""

import json
import resource
import shutil
import subprocess
from pathlib import Path

import pytest

from tasks.nightly.history import History
from tests.pipeline.program import TINY, command, environment, luigi, started
from tests.pipeline.test_nightly import NIGHTLY, verdict

pytestmark = pytest.mark.slow

NIGHT = ["NightlyRegression", "--config", "n.toml", "--date", "2026-01-01"]

# Plays a night on a disk of 2.2 megabytes, and copies what is to be looked at from there.
ON_A_SMALL_DISK = """
mkdir disk workspace
mount -t tmpfs -o size=2200k tmpfs disk || exit 1
"$@" --workspace disk
code=$?
cp -r disk/nightly workspace/
exit $code
"""


def can_mount() -> bool:
    """Whether this user may make a name space of his own and mount a disk in it."""
    unshare = shutil.which("unshare")
    return unshare is not None and subprocess.call([unshare, "-Urm", "mount", "-t", "tmpfs", "tmpfs", "/mnt"]) == 0


def look(folder: Path, said: str, reason: str) -> None:
    """What a night leaves for which there was no room."""
    assert "n 2026-01-01: infrastructure" in said
    record = verdict(folder, "2026-01-01")
    assert record["verdict"] == "infrastructure"
    assert reason in record["reasons"][0]["words"]
    nightly = folder / "workspace" / "nightly" / "n"
    assert [night["verdict"] for night in History(nightly / "history.sqlite").records()] == ["infrastructure"]
    assert reason in (nightly / "index.html").read_text()
    assert not (nightly / "reserve").exists()
    assert json.loads((folder / "told.jsonl").read_text())["state"] == "broken"


def test_a_full_disk(tmp_path: Path) -> None:
    if not can_mount():
        pytest.skip("this user may not mount a small disk")
    (tmp_path / "tiny.toml").write_text(TINY)
    (tmp_path / "n.toml").write_text(NIGHTLY)
    done = subprocess.run(
        ["unshare", "-Urm", "sh", "-c", ON_A_SMALL_DISK, "sh", *command(*NIGHT)],
        cwd=str(tmp_path),
        env=environment(tmp_path),
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 61, done.stderr
    assert "Traceback" not in done.stderr
    look(tmp_path, done.stdout, "No space left on device")


def test_files_that_may_not_grow(tmp_path: Path) -> None:
    (tmp_path / "tiny.toml").write_text(TINY)
    (tmp_path / "n.toml").write_text(NIGHTLY)
    limit = (50_000, resource.getrlimit(resource.RLIMIT_FSIZE)[1])
    done = luigi(
        tmp_path,
        *NIGHT,
        "--set",
        "dataset.size=512",
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, limit),
    )
    assert done.returncode == 61, done.stderr
    assert started(done) == ["Download"]
    look(tmp_path, done.stdout, "File too large")
