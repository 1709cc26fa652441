"""The offline model `model.om` for Ascend's runtime, which CANN's compiler `atc` makes from `model.pb`.

On request AOE, CANN's tuner, runs first. It stores its results in a repository (TUNE_BANK_PATH), from which atc reads them.
On a host without atc, the commands are left in `atc.sh` beside `model.pb`. This module never imports npu_bridge.
"""

import shlex
import shutil
from pathlib import Path
from typing import Any, Dict, List, Tuple

from fse.ascend import npu_smi
from fse.errors import DeviceError, ExportError
from fse.runtime import processes

# The original Ascend 910: the chip if neither the configuration nor npu-smi names one.
DEFAULT_SOC = "Ascend910A"

# AOE's --job_type for each value of `export.aoe`, in the order that its manual asks for (1: subgraphs, 2: operators).
JOBS: Dict[str, Tuple[int, ...]] = {"": (), "subgraphs": (1,), "operators": (2,), "both": (1, 2)}

# The line that AOE prints when it has succeeded. Its exit code is 0 either way.
AOE_FINISHED = "Aoe process finished"

# How much of the programs' output an error message quotes.
_QUOTED_CHARACTERS = 500

# Both programs write files into the current folder, so they run in a temporary one. atc may add the platform to the name
# of the model.
_SCRIPT = """\
#!/bin/sh
# Makes model.om from model.pb, both in the folder of this script, on a host with CANN.
set -e
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
ln -s "$here/model.pb" model.pb
{}
find . -maxdepth 1 -name 'model*.om' -exec mv {{}} "$here/model.om" ';'
"""


def atc_command(view: int, batch: int, soc_version: str) -> List[str]:
    """Return the command of atc, for a folder with `model.pb` (CANN's ATC manual).

    Args:
      view: width and height of the model's images, in pixels.
      batch: number of images per run of the offline model.
      soc_version: name of the chip.
    """
    # --output has no extension.
    return ["atc", *_model_options(view, batch), "--output=model", f"--soc_version={soc_version}", "--log=error"]


def aoe_commands(view: int, batch: int, aoe: str) -> List[List[str]]:
    """Return the commands of AOE, for a folder with `model.pb` (CANN's AOE manual).

    Args:
      view: width and height of the model's images, in pixels.
      batch: number of images per run of the offline model.
      aoe: what to tune, a key of `JOBS`.
    """
    return [["aoe", f"--job_type={job}", *_model_options(view, batch), "--log=error"] for job in JOBS[aoe]]


def convert(folder: Path, view: int, batch: int, soc_version: str, aoe: str, seconds: int) -> Dict[str, Any]:
    """Write `atc.sh` into the folder of `model.pb`, and `model.om` if this host has `atc`.

    Args:
      folder: the folder of `model.pb`.
      view: width and height of the model's images, in pixels.
      batch: number of images per run of the offline model.
      soc_version: name of the chip; '' asks npu-smi.
      aoe: what AOE tunes first, a key of `JOBS`.
      seconds: time limit.

    Returns:
      the entry of `model.json`: the commands, the chip and where its name comes from, and whether the commands were run.

    Raises:
      ExportError: a program failed, exceeded the time limit or did not do its work; or AOE is missing on a host with atc.
    """
    soc, origin = _chip(soc_version)
    commands = [*aoe_commands(view, batch, aoe), atc_command(view, batch, soc)]
    lines = [" ".join(map(shlex.quote, command)) for command in commands]
    script = folder / "atc.sh"
    script.write_text(_SCRIPT.format("\n".join(lines)))
    has_atc = shutil.which("atc") is not None
    if has_atc:
        if aoe and shutil.which("aoe") is None:
            raise ExportError(
                f"export.aoe is {aoe!r}, but aoe is not on the PATH although atc is; install aoe with CANN's toolkit, or "
                "leave export.aoe empty"
            )
        _run(script, seconds, len(JOBS[aoe]))
        if not (folder / "model.om").is_file():
            raise ExportError(f"atc succeeded, but wrote no model.om; command: {lines[-1]}")
    return {"commands": lines, "soc_version": soc, "soc_version_from": origin, "was_run": has_atc}


def _model_options(view: int, batch: int) -> List[str]:
    """Return the options of both programs that describe the model."""
    return [
        "--model=model.pb",
        "--framework=3",  # TensorFlow
        "--input_format=NHWC",
        f"--input_shape=images:{batch},{view},{view},3",
        "--out_nodes=landmarks:0;heatmaps:0",
        "--output_type=FP32",
    ]


def _chip(soc_version: str) -> Tuple[str, str]:
    """Return the name of the chip for atc, and where the name comes from."""
    if soc_version:
        return soc_version, "export.soc_version"
    try:
        return npu_smi.soc_version(npu_smi.overview().cards[0]), "npu-smi"
    except DeviceError:
        return DEFAULT_SOC, "assumed"


def _run(script: Path, seconds: int, aoe_runs: int) -> None:
    """Run the script.

    Args:
      script: `atc.sh`.
      seconds: time limit.
      aoe_runs: number of AOE's runs in the script.

    Raises:
      ExportError: the script failed or exceeded the time limit, or a run of AOE did not finish.
    """
    result = processes.run(["sh", str(script)], seconds)
    last_words = (result.errors.strip() or result.output.strip() or "no output")[-_QUOTED_CHARACTERS:]
    if result.code is None:
        raise ExportError(f"atc.sh did not end within export.offline_seconds ({seconds} seconds)")
    if result.code:
        raise ExportError(f"atc.sh ended with exit code {result.code}: {last_words}")
    if (result.output + result.errors).count(AOE_FINISHED) < aoe_runs:
        raise ExportError(f"aoe ended with exit code 0, but did not print {AOE_FINISHED!r}: {last_words}")
