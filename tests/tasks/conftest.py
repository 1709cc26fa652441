"""Fixtures of the tasks' tests."""

from pathlib import Path
from typing import Iterator

import pytest

from tasks.caching import code_identity
from tasks.stages.full_run import FullRun
from tests.tasks import toy


@pytest.fixture
def toy_pipeline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An empty workspace for the pipeline of `tests.tasks.toy`; its parent is the current folder."""
    toy.set_up(tmp_path, monkeypatch)
    yield
    monkeypatch.undo()
    code_identity.forget()


@pytest.fixture
def toy_full_run(toy_pipeline: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let FullRun have the three stages of the toy pipeline."""
    monkeypatch.setattr(FullRun, "stages", lambda self: {name: stage() for name, stage in toy.STAGES.items()})
