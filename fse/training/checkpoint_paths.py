"""Where checkpoints lie, and which one `train.init_from` means. Needs no TensorFlow, so scheduling may ask too."""

import glob
import json
from pathlib import Path
from typing import List, Optional

PREFIX = "model"


def found(folder: Path) -> List[str]:
    """Prefixes of the checkpoints in a folder, newest step first."""
    files = [file for file in folder.glob(PREFIX + "-*.index") if file.stem.split("-")[-1].isdigit()]
    steps = {int(file.stem.split("-")[-1]): str(file.with_suffix("")) for file in files}
    return [steps[step] for step in sorted(steps, reverse=True)]


def step_of(prefix: str) -> int:
    """The step in a checkpoint's name."""
    return int(prefix.rsplit("-", 1)[1])


def resolve_checkpoint(init_from: str) -> Optional[str]:
    """The prefix of the checkpoint that a path means; None if there is none.

    Args:
      init_from: an experiment's folder in a workspace, a training's output or a folder of checkpoints, of which the newest
        is taken; or the prefix of one.
    """
    path = Path(init_from)
    for folder in (path / "stages" / "Train" / "checkpoints", path / "checkpoints", path):
        prefixes = found(folder)
        if prefixes:
            return prefixes[0]
    return init_from if Path(init_from + ".index").is_file() else None


def files_of(prefix: str) -> List[Path]:
    """The files of a checkpoint, sorted."""
    return sorted(map(Path, glob.glob(glob.escape(prefix) + ".*")))


def network_of(prefix: str) -> str:
    """The name of the network that a checkpoint in a training's output is of; '' if that is not known."""
    try:
        name = json.loads((Path(prefix).parents[1] / "manifest.json").read_text())["config"]["network"]["name"]
    except (OSError, ValueError, LookupError, TypeError):
        return ""
    return name if isinstance(name, str) else ""


def missing(init_from: str) -> str:
    """What to say where no checkpoint is."""
    return (
        f"train.init_from {init_from}: no checkpoint model-<step> there; wanted the name of an experiment of this workspace that has "
        "been trained (luigi --module pipeline Train --config NAME), or a path of its folder, of what Train wrote, or of a "
        "checkpoint"
    )
