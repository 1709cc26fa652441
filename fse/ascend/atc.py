"""The offline model, `model.om`, that Ascend's runtime loads: made of `model.pb` by CANN's `atc`, where there is one.

By choice AOE, CANN's tuner, is run before: it leaves what it finds in its repository (TUNE_BANK_PATH), where atc looks for it.
Elsewhere the exact commands are left in `atc.sh` beside `model.pb`. Never imports npu_bridge.
"""

import shlex
import shutil
from pathlib import Path
from typing import Any, Dict, List, Tuple

from fse.ascend import npu_smi
from fse.config import Config
from fse.errors import DeviceError, ExportError
from fse.runtime import processes

# Where no card tells its name and none is set: the original Ascend 910.
USUAL_SOC = "Ascend910A"

# AOE's --job_type for each choice of export.aoe, in the order that its manual asks for, and what it says at the end.
JOBS: Dict[str, Tuple[int, ...]] = {"": (), "subgraphs": (1,), "operators": (2,), "both": (1, 2)}
TUNED = "Aoe process finished"

# Both programs leave files in the current folder.
_SCRIPT = """\
#!/bin/sh
# Makes model.om of model.pb, both in the folder of this script, on a host with CANN.
set -e
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
ln -s "$here/model.pb" model.pb
{}
find . -maxdepth 1 -name 'model*.om' -exec mv {{}} "$here/model.om" ';'
"""


def command(config: Config, soc: str) -> List[str]:
    """atc's arguments, to be run beside `model.pb` (CANN's ATC manual; --output is without its extension)."""
    return ["atc", *_model(config), "--output=model", "--soc_version=" + soc, "--log=error"]


def tuning(config: Config) -> List[List[str]]:
    """The arguments of each run of AOE, to be run beside `model.pb` (CANN's AOE manual)."""
    return [["aoe", f"--job_type={job}", *_model(config), "--log=error"] for job in JOBS[config.export.aoe]]


def convert(config: Config, folder: Path) -> Dict[str, Any]:
    """Writes `atc.sh` into the folder of `model.pb`, and `model.om` if this host has `atc`.

    Returns:
      what was done, for `model.json`: the commands, the chip and how it is known, and whether they were run.

    Raises:
      ExportError: a program failed, hung, or did not do what it is for; AOE was chosen and is not here, but atc is.
    """
    soc, source = _soc(config)
    lines = [" ".join(map(shlex.quote, arguments)) for arguments in [*tuning(config), command(config, soc)]]
    (folder / "atc.sh").write_text(_SCRIPT.format("\n".join(lines)))
    here = shutil.which("atc") is not None
    if here:
        if config.export.aoe and shutil.which("aoe") is None:
            raise ExportError(
                f"export.aoe is {config.export.aoe!r}, but aoe is not on the PATH, where atc is; install it with CANN's toolkit, or leave "
                "export.aoe empty"
            )
        _run(["sh", str(folder / "atc.sh")], config.export.offline_seconds, len(lines) - 1)
        if not (folder / "model.om").is_file():
            raise ExportError(f"atc ended well, but wrote no model.om; command: {lines[-1]}")
    return {"commands": lines, "soc_version": soc, "soc_version_from": source, "was_run": here}


def _model(config: Config) -> List[str]:
    """What both programs are told of the model."""
    view = config.network.view
    return [
        "--model=model.pb",
        "--framework=3",
        "--input_format=NHWC",
        f"--input_shape=images:{config.export.offline_batch},{view},{view},3",
        "--out_nodes=landmarks:0;heatmaps:0",
        "--output_type=FP32",
    ]


def _soc(config: Config) -> Any:
    """The chip's name for atc, and where it is from."""
    if config.export.soc_version:
        return config.export.soc_version, "export.soc_version"
    try:
        return npu_smi.soc_version(npu_smi.overview().cards[0]), "npu-smi"
    except DeviceError:
        return USUAL_SOC, "assumed"


def _run(arguments: List[str], seconds: int, tunings: int) -> None:
    """Runs the script, which holds so many runs of AOE."""
    ended = processes.run(arguments, seconds)
    said = ended.output + ended.errors
    last = (ended.errors.strip() or ended.output.strip() or "they said nothing")[-500:]
    if ended.code is None:
        raise ExportError(f"atc.sh did not end within export.offline_seconds ({seconds} seconds)")
    if ended.code:
        raise ExportError(f"atc.sh ended with exit code {ended.code}: {last}")
    if said.count(TUNED) < tunings:
        raise ExportError(f"aoe ended well, but did not say {TUNED!r}: {last}")
