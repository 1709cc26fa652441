"""A finished run of the tiny experiment, which the tests share."""

import shutil
from pathlib import Path

import pytest

from tests.pipeline.program import TINY, luigi


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a finished FullRun. Tests must not change it."""
    folder = tmp_path_factory.mktemp("finished")
    (folder / "tiny.toml").write_text(TINY)
    done = luigi(folder, "FullRun", "--config", "tiny.toml")
    assert done.returncode == 0, done.stderr
    assert "always the mean shape" in done.stdout
    assert str(folder / "workspace" / "tiny" / "report.html") in done.stdout
    return folder


@pytest.fixture(scope="module")
def ran(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the finished run, which the tests of a module may change."""
    folder = tmp_path_factory.mktemp("ran") / "copy"
    shutil.copytree(finished, folder, symlinks=True)
    return folder
