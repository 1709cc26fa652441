"""What the tests of the commands share."""

from pathlib import Path
from typing import Callable, List, Set

from tasks.commands.command import Command
from tasks.commands.workspace import output_folders

# Runs a command in this process and returns the lines that it prints.
Execute = Callable[[Command], List[str]]


def output_keys() -> Set[str]:
    """Return the keys of all outputs in the workspace."""
    return {folder.name for folder in output_folders(Path("workspace").absolute())}
