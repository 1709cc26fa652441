"""Nights on a full disk, or at a limit of the file size: the verdict is `infrastructure`, and it is written."""

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

# Runs a command with a workspace on a disk of 2.2 megabytes, and copies the nightly's folder from there.
ON_A_SMALL_DISK = """
mkdir disk workspace
mount -t tmpfs -o size=2200k tmpfs disk || exit 1
"$@" --workspace disk
code=$?
cp -r disk/nightly workspace/
exit $code
"""


def can_mount() -> bool:
    """Return whether this user may create a mount namespace and mount a disk in it."""
    unshare = shutil.which("unshare")
    return unshare is not None and subprocess.call([unshare, "-Urm", "mount", "-t", "tmpfs", "tmpfs", "/mnt"]) == 0


def check_results(folder: Path, output: str, reason: str) -> None:
    """Check verdict, history, page and alarm of a night that ran out of space."""
    assert "n 2026-01-01: infrastructure" in output
    record = verdict(folder, "2026-01-01")
    assert record["verdict"] == "infrastructure"
    assert reason in record["reasons"][0]["words"]
    nightly = folder / "workspace" / "nightly" / "n"
    assert [night["verdict"] for night in History(nightly / "history.sqlite").records()] == ["infrastructure"]
    assert reason in (nightly / "index.html").read_text()
    assert not (nightly / "reserve").exists()
    assert json.loads((folder / "messages.jsonl").read_text())["state"] == "broken"


def test_a_full_disk(tmp_path: Path) -> None:
    if not can_mount():
        pytest.skip("this user may not mount a disk")
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
    check_results(tmp_path, done.stdout, "No space left on device")


def test_a_limit_of_the_file_size(tmp_path: Path) -> None:
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
    check_results(tmp_path, done.stdout, "File too large")
