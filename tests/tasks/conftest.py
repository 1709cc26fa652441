"""Fixtures of the tasks' tests."""

from pathlib import Path
from typing import Iterator

import pytest

from tasks.caching import code_identity
from tests.tasks import toy


@pytest.fixture
def toy_pipeline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An empty workspace for the pipeline of `tests.tasks.toy`; it is the current folder."""
    toy.set_up(tmp_path, monkeypatch)
    yield
    monkeypatch.undo()
    code_identity.forget()
