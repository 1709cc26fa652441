"""The base of commands: tasks that report on a workspace or maintain it, and have no output."""

from fse.errors import StageError
from tasks.experiment_task import ExperimentTask


class Command(ExperimentTask):
    """A reporting or maintenance command without output. It runs every time it is named."""

    _done = False

    def complete(self) -> bool:
        """Return whether the command has run in this process."""
        return self._done

    def run(self) -> None:
        """Run the command.

        Raises:
          StageError: a file cannot be read or written.
        """
        try:
            self.act()
        except OSError as error:
            raise StageError(f"{error.filename}: cannot be used: {error.strerror}") from error
        self._done = True

    def act(self) -> None:
        """Do the command's work; subclasses implement this."""
        raise NotImplementedError
