"""Fixtures of the nightly's tests."""

from pathlib import Path

import pytest

from tests.tasks.nightly.fake_nightly import FakeNightly


@pytest.fixture
def nightly(tmp_path: Path) -> FakeNightly:
    """Return a nightly with simulated runs."""
    return FakeNightly(tmp_path)
