"""Fixtures of the commands' tests."""

from typing import List

import pytest

from tasks.commands.command import Command
from tests.tasks import toy
from tests.tasks.commands.helpers import Execute


@pytest.fixture
def execute(toy_full_run: None, capsys: pytest.CaptureFixture[str]) -> Execute:
    """A function that runs a command on the toy pipeline and returns the lines that it prints."""

    def run(command: Command) -> List[str]:
        toy.apply_changes()
        capsys.readouterr()
        command.act()
        return capsys.readouterr().out.splitlines()

    return run
