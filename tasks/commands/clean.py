"""`Clean`: list or delete outputs that nothing references."""

import contextlib
import shutil
from pathlib import Path
from typing import Dict, List, Set

import luigi

from fse.errors import StageError
from fse.runtime import locks
from tasks.caching.publishing import lock_path
from tasks.commands.command import Command
from tasks.commands.workspace import KEY, referenced_keys
from tasks.stages.full_run import FullRun
from tasks.stages.sweep import keys_of_unfinished_sweeps

# Endings of what an interrupted process leaves beside an output. A folder that is being built may be resumed while the
# output does not exist.
_LEFTOVERS = (".old", ".tmp")
_BUILDING = ".building"


class Clean(Command):
    """Lists outputs and leftovers that nothing references; with --delete, deletes them.

    References are: the stages of the given experiment, symbolic links in the workspace (each experiment's folder has some;
    make one to keep an output), keys in JSON, JSON lines, CSV and TOML files of the workspace, unfinished sweeps, and the
    inputs of referenced outputs. Outputs in use are kept too.
    """

    delete = luigi.BoolParameter(default=False, description="delete the listed outputs")

    def act(self) -> None:
        """Print each unreferenced output, and the total."""
        referenced = self._referenced_keys()
        count = total = 0
        for stage in sorted(path for path in (self.root / "artifacts").glob("*") if path.is_dir()):
            for key, paths in _paths_by_key(stage).items():
                folder = stage / key
                unwanted = _unwanted(folder, paths, key in referenced)
                if not KEY.fullmatch(key) or not unwanted or not locks.is_free(lock_path(folder)):
                    continue
                size = sum(map(_size, unwanted))
                count, total = count + 1, total + size
                print(f"{_megabytes(size):>10}  {folder}")
                # Deleting takes long, and a run that started meanwhile may reference the output now.
                if self.delete and (key in referenced or key not in self._referenced_keys()):
                    unwanted += (self.root / "logs").glob(f"*-{key}.log*") if key not in referenced else []
                    _remove(folder, unwanted)
        print(f"{_megabytes(total):>10}  in {count} outputs; {'deleted' if self.delete else '--delete deletes them'}")

    def _referenced_keys(self) -> Set[str]:
        """Return the keys of all outputs to keep, as of now."""
        needed = [str(task.manifest().get("key")) for task in self.clone(FullRun).stages().values()]
        return referenced_keys(self.root, [*needed, *keys_of_unfinished_sweeps(self.root)])


def _paths_by_key(stage: Path) -> Dict[str, List[Path]]:
    """Return the contents of a stage's folder by the key that their names begin with, sorted."""
    paths: Dict[str, List[Path]] = {}
    for path in stage.iterdir():
        paths.setdefault(path.name.split(".")[0], []).append(path)
    return dict(sorted(paths.items()))


def _unwanted(folder: Path, paths: List[Path], referenced: bool) -> List[Path]:
    """Return the paths that belong to the output `folder` and can go: all, or the leftovers of a referenced output."""
    leftovers = (*_LEFTOVERS, _BUILDING) if folder.exists() else _LEFTOVERS
    return sorted(path for path in paths if not referenced or path.name.endswith(leftovers))


def _remove(folder: Path, paths: List[Path]) -> None:
    """Remove the paths that belong to an output, unless another process uses the output."""
    lock = lock_path(folder)
    with contextlib.suppress(StageError), locks.lock(lock, str(folder), 0.0):
        old = folder.with_name(folder.name + ".old")
        for path in sorted({*paths} - {lock}, reverse=True):
            if path == folder and not path.is_symlink():
                path.replace(old)  # if the process is killed now, no partial output is left under the key
                path = old
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()
        lock.unlink()


def _size(path: Path) -> int:
    """Return the bytes of a file, or of all files in a folder."""
    if path.is_dir() and not path.is_symlink():
        return sum(entry.stat().st_size for entry in path.rglob("*") if entry.is_file())
    return path.lstat().st_size


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.1f} MB"
