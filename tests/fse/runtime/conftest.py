"""A small output, which several files of tests change."""

from pathlib import Path

import pytest

from fse.runtime.outputs import atomic_output


@pytest.fixture
def output(tmp_path: Path) -> Path:
    """Return an output with a file at the top and two in a folder."""
    with atomic_output(tmp_path / "out", {"stage": "demo"}) as building:
        (building / "top").write_text("top")
        (building / "in").mkdir()
        for name in "ab":
            (building / "in" / name).write_text(name)
    return tmp_path / "out"
