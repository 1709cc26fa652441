"""`Lineage`: what made an output, from which inputs, back to the data set."""

from pathlib import Path
from typing import Any, Dict, Iterator

import luigi

from fse.errors import DataError
from tasks.caching import reasons
from tasks.commands.command import Command
from tasks.commands.workspace import output_folders

# Packages whose versions are printed; the manifest has more.
_PACKAGES = ("tensorflow", "numpy")


class Lineage(Command):
    """Prints how an output was made, with all its inputs back to the data set."""

    artifact = luigi.Parameter(
        default="", description="folder or file of an output, a link to one, or the first characters of its key"
    )

    def act(self) -> None:
        """Print the output and, indented, its inputs.

        Raises:
          DataError: there is no such output, or several.
        """
        folders = {folder.name: folder for folder in output_folders(self.root)}
        for line in lineage(_find_output(self.artifact, folders), folders, 0):
            print(line)


def lineage(folder: Path, folders: Dict[str, Path], depth: int) -> Iterator[str]:
    """Yield lines about an output and its inputs.

    Args:
      folder: the output.
      folders: all outputs of the workspace, by key.
      depth: the level of indentation.
    """
    indent = "  " * depth
    manifest = reasons.readable_manifest(folder)
    if not manifest:
        yield f"{indent}{folder.parent.name} {folder.name}  its manifest cannot be read"
        return
    yield indent + _description(manifest)
    for name, value in manifest["covers"].get("settings", {}).items():
        yield f"{indent}    {name} = {value}"
    for identity in manifest["inputs"].values():
        input_folder = folders.get(str(identity.get("key")))
        if input_folder is None:
            yield f"{indent}  {identity['stage']} {identity['key']}  no longer exists"
            continue
        if reasons.readable_manifest(input_folder).get("content") not in (None, identity.get("content")):
            yield f"{indent}  (rebuilt since then, with different content:)"
        yield from lineage(input_folder, folders, depth + 1)


def _description(manifest: Dict[str, Any]) -> str:
    """Return stage, time, host, commit, reason, versions and acceptances of an output in one line."""
    git = manifest.get("git") or {}
    changes = "" if git.get("clean", True) else " with uncommitted changes"
    packages = manifest.get("packages", {})
    facts = [
        f"{manifest['stage']} {manifest['key']}  made {manifest['started']} on {manifest.get('host', 'an unknown host')} "
        f"in {manifest['seconds']} s",
        f"commit {git.get('commit', 'unknown')[:12]}{changes}",
        f"why: {manifest.get('why', 'unknown')}",
        *(f"{name} {version}" for name, version in packages.items() if name in _PACKAGES),
        *(f"accepted {entry['when']}: {entry['reason']}" for entry in manifest.get("accepted", ())),
    ]
    return "; ".join(facts)


def _find_output(text: str, folders: Dict[str, Path]) -> Path:
    """Return the output that a path or the first characters of a key name.

    Raises:
      DataError: no output, or several outputs, match.
    """
    keys = [key for key in folders if key.startswith(text)] if text else []
    if len(keys) == 1:
        return folders[keys[0]]
    path = Path(text).resolve()
    for parent in (path, *path.parents):
        if parent.exists() and parent in folders.values():
            return parent
    problem = "several outputs have keys that begin so" if keys else "no output of this workspace; see --workspace"
    raise DataError(f"--artifact {text}: {problem}")
