"""`Verify`: whether all outputs still have the content that their manifests describe."""

from fse.errors import StageError
from fse.runtime import integrity
from fse.runtime.manifests import MANIFEST
from tasks.caching import reasons
from tasks.commands.command import Command
from tasks.commands.workspace import output_folders


class Verify(Command):
    """Reads all outputs in the workspace and compares them with their manifests."""

    def act(self) -> None:
        """Print a line for each output.

        Raises:
          StageError: an output differs from its manifest.
        """
        damaged = 0
        for folder in output_folders(self.root):
            names = integrity.differences(folder) if reasons.readable_manifest(folder) else [MANIFEST]
            if names:
                damaged += 1
                integrity.forget(folder)
            status = "DIFFERS" if names else "ok"
            print(f"{status:<9} {folder}  {', '.join(names[:5])}".rstrip(), flush=True)
        if damaged:
            raise StageError(
                f"{damaged} outputs differ from their manifests; the next run that needs them rebuilds them"
            )
