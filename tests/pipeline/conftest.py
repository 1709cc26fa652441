"""A finished run of the tiny experiment, which the tests share."""

import os
import shutil
from pathlib import Path

import pytest

from fse.runtime import locks
from tests.pipeline.program import TINY, luigi


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a finished FullRun, which all pytest-xdist workers share. Tests must not change it."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "finished"
    with locks.lock(folder.with_suffix(".lock"), "the finished run", wait=600):
        if not (folder / "tiny.toml").exists():
            run_tiny(folder)
    return folder


def run_tiny(folder: Path) -> None:
    """Run the tiny experiment in a folder that gets its name when the run has finished."""
    building = folder.with_suffix(".building")
    building.mkdir()
    (building / "tiny.toml").write_text(TINY)
    done = luigi(building, "FullRun", "--config", "tiny.toml")
    assert done.returncode == 0, done.stderr
    assert "always the mean shape" in done.stdout
    assert str(building / "workspace" / "tiny" / "report.html") in done.stdout
    building.rename(folder)


@pytest.fixture(scope="module")
def ran(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the finished run, which the tests of a module may change."""
    folder = tmp_path_factory.mktemp("ran") / "copy"
    shutil.copytree(finished, folder, symlinks=True)
    return folder
