"""The offline model, `model.om`, that Ascend's runtime loads: made of `model.pb` by CANN's `atc`, where there is one.

Elsewhere the exact command is left in `atc.sh` beside `model.pb`. Never imports npu_bridge.
"""

import shlex
import shutil
from pathlib import Path
from typing import Any, Dict, List

from fse import npu_smi, processes
from fse.config import Config
from fse.errors import DeviceError, ExportError

# Where no card tells its name and none is set: the original Ascend 910.
USUAL_SOC = "Ascend910A"


def command(config: Config, soc: str) -> List[str]:
    """atc's arguments, to be run in the model's folder (CANN's ATC manual; --output is without its extension)."""
    view = config.network.view
    return [
        "atc",
        "--model=model.pb",
        "--framework=3",
        "--output=model",
        "--soc_version=" + soc,
        "--input_format=NHWC",
        "--input_shape=pictures:{},{},{},3".format(config.export.offline_batch, view, view),
        "--out_nodes=landmarks:0;heatmaps:0",
        "--output_type=FP32",
        "--log=error",
    ]


def convert(config: Config, folder: Path) -> Dict[str, Any]:
    """Writes `atc.sh` into the folder of `model.pb`, and `model.om` if this host has `atc`.

    Returns:
      what was done, for `model.json`: the command, the chip and how it is known, and whether atc was run.

    Raises:
      ExportError: atc failed, hung, or wrote no model.
    """
    program = shutil.which("atc")
    soc, source = _soc(config)
    arguments = command(config, soc)
    line = " ".join(map(shlex.quote, arguments))
    script = '#!/bin/sh\ncd "$(dirname "$0")" && exec {}\n'.format(line)
    (folder / "atc.sh").write_text(script)
    if program:
        _run(["sh", str(folder / "atc.sh")], config.export.offline_seconds)
        if not (folder / "model.om").is_file():
            raise ExportError("atc ended well, but wrote no model.om; command: {}".format(line))
    return {"command": line, "soc_version": soc, "soc_version_from": source, "was_run": bool(program)}


def _soc(config: Config) -> Any:
    """The chip's name for atc, and where it is from."""
    if config.export.soc_version:
        return config.export.soc_version, "export.soc_version"
    try:
        return npu_smi.soc_version(npu_smi.overview().cards[0]), "npu-smi"
    except DeviceError:
        return USUAL_SOC, "assumed"


def _run(arguments: List[str], seconds: int) -> None:
    ended = processes.run(arguments, seconds)
    if ended.code is None:
        raise ExportError("atc did not end within export.offline_seconds ({} seconds)".format(seconds))
    if ended.code:
        said = (ended.errors.strip() or ended.output.strip() or "it said nothing")[-500:]
        raise ExportError("atc ended with exit code {}: {}".format(ended.code, said))
