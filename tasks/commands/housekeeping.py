"""Commands for what the stages left: `Verify`, `Lineage`, `Accept` and `Clean`.

Outputs are folders `<workspace>/artifacts/<stage>/<key>`, or links to such (an output that was accepted for new code).
"""

import contextlib
import datetime
import os
import re
import shutil
from pathlib import Path
from typing import Any, Dict, Iterator, List, Set

import luigi

from fse.errors import DataError, StageError
from fse.runtime import locks, outputs
from tasks.caching import fingerprint, reasons
from tasks.stages import sweep
from tasks.stages.pipeline import FullRun
from tasks.stages.stage_task import Command, StageTask, lock_of

_KEY = re.compile(r"\b[0-9a-f]{16}\b")
# Files that may name outputs by key: histories, baselines, tables.
_RECORDS = (".json", ".jsonl", ".csv", ".toml")
_LARGEST_RECORD = 20_000_000


class Verify(Command):
    """Reads all outputs in the workspace again and compares them with their manifests."""

    def act(self) -> None:
        """Prints a line for each output.

        Raises:
          StageError: one is not what it was when it was made.
        """
        bad = 0
        for folder in made_in(self.root):
            found = outputs.differences(folder) if reasons.read(folder) else [outputs.MANIFEST]
            if found:
                bad += 1
                outputs.forget(folder)
            print(
                "{:<9} {}  {}".format("DIFFERS" if found else "ok", folder, ", ".join(found[:5])).rstrip(), flush=True
            )
        if bad:
            raise StageError(f"{bad} outputs differ from their manifests; the next run that needs one makes it again")


class Lineage(Command):
    """Prints how an output came to be: what made it of what, back to the data set."""

    artifact = luigi.Parameter(
        default="", description="folder or file of an output, a link to one, or the beginning of its key"
    )

    def act(self) -> None:
        """Prints the output and, indented, its inputs.

        Raises:
          DataError: there is no such output.
        """
        folders = {folder.name: folder for folder in made_in(self.root)}
        for line in lineage(_find(self.artifact, folders), folders, 0):
            print(line)


class Accept(Command):
    """Declares that the changes of code since the last run make no difference to what the stages make.

    Outputs that differ from what this experiment needs in nothing but code count as made by the code as it is now; so do
    the outputs of other experiments that the same code made. The reason is kept in their manifests.
    """

    reason = luigi.Parameter(default="", description="why the change is harmless")

    def act(self) -> None:
        """Prints what was accepted, stage by stage.

        Raises:
          DataError: no reason was given.
        """
        if not self.reason.strip():
            raise DataError("--reason: say why the change of code is harmless; it is kept in the manifests")
        for task in self.clone(FullRun).stages().values():
            print("{:<16} {}".format(task.name, "done" if task.complete() else accept(task, self.reason)))


class Clean(Command):
    """Lists the outputs and left-overs that nothing in the workspace leads to; with --delete, deletes them.

    Kept is what the given experiment needs, what a symbolic link in the workspace points to (each experiment's folder has
    such; make one to pin an output), what a JSON, JSON-lines, CSV or TOML file of the workspace names by key, what a sweep
    that is not finished wants, and all that these were made of; and whatever is in use.
    """

    delete = luigi.BoolParameter(default=False, description="delete them")

    def act(self) -> None:
        """Prints each, and what there is in all."""
        wanted = self._wanted()
        count = size = 0
        for stage in sorted(path for path in (self.root / "artifacts").glob("*") if path.is_dir()):
            names: Dict[str, List[Path]] = {}
            for path in stage.iterdir():
                names.setdefault(path.name.split(".")[0], []).append(path)
            for key, paths in sorted(names.items()):
                left = (".old", ".tmp", ".building") if (stage / key).exists() else (".old", ".tmp")
                unwanted = sorted(path for path in paths if key not in wanted or path.name.endswith(left))
                if not _KEY.fullmatch(key) or not unwanted or not locks.is_free(lock_of(stage / key)):
                    continue
                bytes_ = sum(map(_size, unwanted))
                count, size = count + 1, size + bytes_
                print(f"{_megabytes(bytes_):>10}  {stage / key}")
                # It may take long, and other runs go on: one may have come to want this meanwhile.
                if self.delete and (key in wanted or key not in self._wanted()):
                    unwanted += (self.root / "logs").glob(f"*-{key}.log*") if key not in wanted else []
                    _remove(stage / key, unwanted)
        print(
            "{:>10}  in {} outputs; {}".format(
                _megabytes(size), count, "deleted" if self.delete else "--delete deletes them"
            )
        )

    def _wanted(self) -> Set[str]:
        """The keys of all that is to be kept, as of now."""
        needed = [str(task.made().get("key")) for task in self.clone(FullRun).stages().values()]
        return reached(self.root, [*needed, *sweep.wanted(self.root)])


def made_in(root: Path) -> List[Path]:
    """The output folders of a workspace."""
    found = (path for path in (root / "artifacts").glob("*/*") if _KEY.fullmatch(path.name))
    return sorted(path for path in found if path.is_dir() and not path.is_symlink())


def lineage(folder: Path, folders: Dict[str, Path], depth: int) -> Iterator[str]:
    """How an output came to be, in lines; `folders` are the workspace's by key."""
    made = reasons.read(folder)
    if not made:
        yield "  " * depth + f"{folder.parent.name} {folder.name}  its manifest cannot be read"
        return
    git = made.get("git") or {}
    state = "" if git.get("clean", True) else " with changes"
    facts = [
        "{stage} {key}  made {started} on {host} in {seconds} s".format(**dict({"host": "an unknown host"}, **made)),
        "commit {}{}".format(git.get("commit", "unknown")[:12], state),
        "why: {}".format(made.get("why", "not known")),
        *("{} {}".format(*pair) for pair in made.get("packages", {}).items() if pair[0] in ("tensorflow", "numpy")),
    ]
    facts += ["accepted {when}: {reason}".format(**entry) for entry in made.get("accepted", ())]
    yield "  " * depth + "; ".join(facts)
    for name, value in made["covers"].get("settings", {}).items():
        yield "  " * depth + f"    {name} = {value}"
    for identity in made["inputs"].values():
        before = folders.get(str(identity.get("key")))
        if before is None:
            yield "  " * (depth + 1) + "{stage} {key}  is not there any more".format(**identity)
            continue
        if reasons.read(before).get("content") not in (None, identity.get("content")):
            yield "  " * (depth + 1) + "(made again since, with another content:)"
        yield from lineage(before, folders, depth + 1)


def accept(task: StageTask, reason: str) -> str:
    """Has an output that only other code could have made count as the stage's; says what was done."""
    parts = task.parts()
    before = reasons.made_before(task.folder)
    last = reasons.nearest(parts, before)
    changes = list(reasons.differences(parts, reasons.of_manifest(last))) if last else ["never run"]
    if None in parts.inputs.values():
        return "not accepted: an output before it is not there"
    if not last or not changes or not all(change.startswith("code of ") for change in changes):
        return "not accepted: {}".format(reasons.in_words(changes) or "output missing")
    old = last["covers"]["code"]
    for made in {made["key"]: made for made in before}.values():
        if made["covers"].get("code") == old and not outputs.problem(task.folder / made["key"]):
            _stamp(task.folder / made["key"], made, parts.code, reason)
    task.forget()
    if not task.complete():
        return "not accepted: {}".format(outputs.problem(task.folder / last["key"]))
    return f"accepted: {reasons.in_words(changes)}"


def reached(root: Path, keys: List[str]) -> Set[str]:
    """Keys of the outputs that links and records in the workspace lead to, or `keys`, with all they were made of."""
    waiting = [*keys, *_named(root)]
    found: Set[str] = set()
    folders = {path.name: path for path in (root / "artifacts").glob("*/*") if _KEY.fullmatch(path.name)}
    while waiting:
        key = waiting.pop()
        if key in found:
            continue
        found.add(key)
        if key in folders:
            waiting.append(folders[key].resolve().name)
            inputs = reasons.read(folders[key]).get("inputs", {})
            waiting += [str(identity.get("key")) for identity in inputs.values()]
    return found


def _named(root: Path) -> Iterator[str]:
    """Keys that links and records in a workspace name."""
    for parent, folders, files in os.walk(str(root)):
        folders[:] = [name for name in folders if Path(parent, name) not in (root / "artifacts", root / "logs")]
        for path in (Path(parent, name) for name in [*folders, *files]):
            with contextlib.suppress(FileNotFoundError):  # another run replaced it
                if path.is_symlink():
                    yield from _KEY.findall(os.readlink(str(path)))
                elif path.suffix in _RECORDS and path.stat().st_size < _LARGEST_RECORD:
                    yield from _KEY.findall(path.read_text(errors="replace"))


def _find(text: str, folders: Dict[str, Path]) -> Path:
    """The output that a path or the beginning of a key means."""
    keys = [key for key in folders if key.startswith(text)] if text else []
    if len(keys) == 1:
        return folders[keys[0]]
    path = Path(text).resolve()
    for parent in (path, *path.parents):
        if parent.exists() and parent in folders.values():
            return parent
    raise DataError(
        "--artifact {}: {}".format(
            text, "several outputs begin so" if keys else "no output of this workspace; see --workspace"
        )
    )


def _stamp(folder: Path, made: Dict[str, Any], code: Dict[str, str], reason: str) -> None:
    """Has the output in `folder` count as made by `code` as well."""
    old = made["covers"]["code"]
    now = datetime.datetime.now(datetime.timezone.utc).replace(microsecond=0).isoformat()
    changed = {name: [old.get(name), code.get(name)] for name in {*old, *code} if old.get(name) != code.get(name)}
    entry = {"when": now, "reason": reason, "code": dict(sorted(changed.items()))}
    parts = reasons.of_manifest(made)._replace(code=code)
    alias = folder.with_name(fingerprint.key(parts._asdict()))
    stamped = dict(made, covers=dict(made["covers"], code=code), code=fingerprint.key(code))
    outputs.write_json(folder / outputs.MANIFEST, dict(stamped, accepted=[*made.get("accepted", ()), entry]))
    if not os.path.lexists(str(alias)):
        alias.symlink_to(folder.name)


def _remove(folder: Path, paths: List[Path]) -> None:
    """Removes what belongs to an output, unless somebody began to use it."""
    lock = lock_of(folder)
    with contextlib.suppress(StageError), locks.lock(lock, str(folder), 0.0):
        old = folder.with_name(folder.name + ".old")
        for path in sorted({*paths} - {lock}, reverse=True):
            if path == folder and not path.is_symlink():
                os.replace(str(path), str(old))  # so that no half of it is left in its place
                path = old
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(str(path))
            else:
                path.unlink()
        lock.unlink()


def _size(path: Path) -> int:
    """Bytes of a file, or of all files in a folder."""
    if path.is_dir() and not path.is_symlink():
        return sum(entry.stat().st_size for entry in path.rglob("*") if entry.is_file())
    return path.lstat().st_size


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.1f} MB"
