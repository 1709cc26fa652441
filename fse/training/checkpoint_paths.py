"""The files of checkpoints, and the checkpoint that `train.init_from` names. Needs no TensorFlow, so tasks use it too.

A checkpoint is several files with a common prefix, `<folder>/model-<step>`; functions here pass prefixes as strings, as
TensorFlow does.
"""

import glob
import json
from pathlib import Path
from typing import List, Optional

PREFIX = "model"


def list_checkpoints(folder: Path) -> List[str]:
    """Return the prefixes of the checkpoints in a folder, newest step first."""
    files = [file for file in folder.glob(PREFIX + "-*.index") if file.stem.split("-")[-1].isdigit()]
    prefixes = {int(file.stem.split("-")[-1]): str(file.with_suffix("")) for file in files}
    return [prefixes[step] for step in sorted(prefixes, reverse=True)]


def step_of(prefix: str) -> int:
    """Return the step in a checkpoint's name."""
    return int(prefix.rsplit("-", 1)[1])


def resolve_checkpoint(init_from: str) -> Optional[str]:
    """Return the prefix of the checkpoint that a path names; None if there is none.

    Args:
      init_from: an experiment's folder in a workspace, a training's output or a folder of checkpoints, for its newest
        checkpoint; or the prefix of a checkpoint.
    """
    path = Path(init_from)
    for folder in (path / "stages" / "Train" / "checkpoints", path / "checkpoints", path):
        prefixes = list_checkpoints(folder)
        if prefixes:
            return prefixes[0]
    return init_from if Path(init_from + ".index").is_file() else None


def checkpoint_files(prefix: str) -> List[Path]:
    """Return the files of a checkpoint, sorted."""
    path = Path(prefix)
    return sorted(path.parent.glob(glob.escape(path.name) + ".*"))


def network_name(prefix: str) -> str:
    """Return `network.name` of the training whose output a checkpoint is in; '' if it is unknown."""
    try:
        name = json.loads((Path(prefix).parents[1] / "manifest.json").read_text())["config"]["network"]["name"]
    except (OSError, ValueError, LookupError, TypeError):
        return ""
    return name if isinstance(name, str) else ""


def missing_message(init_from: str) -> str:
    """Return the error message for a path without a checkpoint."""
    return (
        f"train.init_from {init_from}: no checkpoint model-<step> there; give the name of a trained experiment of this "
        "workspace (luigi --module pipeline Train --config NAME), or the path of its folder, of an output of Train, or "
        "of a checkpoint"
    )
