"""What all commands have in common, on the toy pipeline."""

from pathlib import Path

import luigi
import pytest

from fse.errors import StageError
from tasks.commands.accept import Accept
from tasks.commands.verify import Verify
from tests.tasks import toy

pytestmark = pytest.mark.usefixtures("toy_full_run")


def test_a_read_only_workspace_is_an_error_of_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    toy.run()
    toy.sources["third"] = toy.sources["third"].replace("y // 2", "int(y / 2)")
    toy.apply_changes()

    def refuse(*_: object) -> None:
        raise OSError(30, "Read-only file system", "workspace")

    monkeypatch.setattr(Path, "replace", refuse)
    with pytest.raises(StageError, match="workspace: cannot be used: Read-only file system"):
        Accept(reason="the same").run()


def test_a_command_runs_every_time() -> None:
    for _ in range(2):
        toy.apply_changes()
        assert luigi.build([Verify()], local_scheduler=True, log_level="CRITICAL")
