"""A finished run of the tiny experiment, made once."""

import shutil
from pathlib import Path

import pytest

from tests.pipeline.program import TINY, luigi


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which a FullRun has been done. Not to be changed."""
    folder = tmp_path_factory.mktemp("finished")
    (folder / "tiny.toml").write_text(TINY)
    done = luigi(folder, "FullRun", "--config", "tiny.toml")
    assert done.returncode == 0, done.stderr
    assert "always the mean shape" in done.stdout
    assert str(folder / "workspace" / "tiny" / "report.html") in done.stdout
    return folder


@pytest.fixture(scope="module")
def ran(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of it, to be changed."""
    folder = tmp_path_factory.mktemp("ran") / "copy"
    shutil.copytree(str(finished), str(folder), symlinks=True)
    return folder
