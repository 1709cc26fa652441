"""Checks of an Ascend host: CANN, the TF Adapter, the driver and the cards."""

import os
import re
from pathlib import Path
from typing import Dict, List, Sequence, Tuple

from fse.ascend import npu_smi
from fse.doctor.check import Check, check_code
from fse.errors import DeviceError

ASCEND = Path("/usr/local/Ascend")

# The TF Adapter's list of the ops supported on the NPU, below ASCEND_OPP_PATH, in newer and in older versions of CANN.
_SUPPORTED_OPS = tuple(
    f"{folder}/tensorflow/npu_supported_ops.json" for folder in ("built-in/framework", "framework/built-in")
)

# If a card without a visible process uses a larger share of its memory, a process in another container may use it.
_SUSPICIOUS_MEMORY_SHARE = 0.2

_TRY_NPU_BRIDGE = """
import npu_bridge.npu_init, hccl
"""


def cann_version() -> str:
    """Return the version of the CANN whose environment is set; '' if none is."""
    for variable in ("ASCEND_TOOLKIT_HOME", "ASCEND_HOME_PATH"):
        home = os.environ.get(variable)
        if home:
            patterns = ("*-linux/ascend_*_install.info", "version.info", "*/version.info")
            files = [file for pattern in patterns for file in sorted(Path(home).glob(pattern))]
            return next(filter(None, map(version_in, files)), "")
    return ""


def version_in(path: Path) -> str:
    """Return the value of the line `Version=…` in a file of the Ascend packages; '' if there is none."""
    try:
        line = re.search(r"^version=(\S+)", path.read_text(), re.IGNORECASE | re.MULTILINE)
    except (OSError, ValueError):
        return ""
    return line.group(1) if line else ""


def check_npu_bridge() -> Check:
    """Check whether CANN's TF Adapter can be imported."""
    fix = "install CANN's TF Adapter (tfplugin) and source its set_env.sh"
    return check_code("npu_bridge", _TRY_NPU_BRIDGE, "npu_bridge and hccl can be imported", fix)


def check_cann(version: str) -> Check:
    """Check whether the environment of CANN is set and its operators are installed."""
    if not version:
        return Check(
            "cann",
            "failed",
            "the environment of CANN is not set (ASCEND_TOOLKIT_HOME, ASCEND_HOME_PATH)",
            f"source {ASCEND}/ascend-toolkit/set_env.sh, or {ASCEND}/cann/set_env.sh from CANN 9 on",
        )
    folder = Path(os.environ.get("ASCEND_OPP_PATH", ""))
    if not any((folder / name).is_file() for name in _SUPPORTED_OPS):
        return Check(
            "cann",
            "warning",
            f"{version}, but ASCEND_OPP_PATH has no {_SUPPORTED_OPS[0]}",
            "without it no op runs on the NPU: install CANN's operator package and source set_env.sh",
        )
    return Check("cann", "ok", version)


def check_driver(versions: Dict[str, str]) -> Tuple[Check, List[npu_smi.Card]]:
    """Ask npu-smi for the cards, and update the versions of driver and firmware.

    Returns:
      The check, and the cards; no cards if it failed.
    """
    try:
        version, cards = npu_smi.overview()
        board = npu_smi.board(cards[0])
    except DeviceError as error:
        return Check("driver", "failed", str(error), "fix the driver; `npu-smi info` must list the cards"), []
    versions["driver"] = board.get("Software Version") or version or versions["driver"]
    versions["firmware"] = board.get("Firmware Version") or versions["firmware"]
    found = f"driver {versions['driver'] or '?'}, firmware {versions['firmware'] or '?'}"
    return Check("driver", "ok", found), cards


def check_cards(cards: List[npu_smi.Card], chosen: Sequence[int]) -> List[Check]:
    """Check the health of all cards, and whether the chosen ones are free.

    Args:
      cards: the cards of this host.
      chosen: the numbers of the cards that training will use.
    """
    missing = sorted(number for number in chosen if number >= len(cards))
    if missing:
        found = f"training wants card {missing[0]}, but this host has {len(cards)}"
        fix = f"choose from 0 to {len(cards) - 1} by train.devices, train.rank_table or ASCEND_DEVICE_ID"
        return [Check("card", "failed", found, fix)]
    return [_check_card(number, card, number in chosen) for number, card in enumerate(cards)]


def _check_card(number: int, card: npu_smi.Card, chosen: bool) -> Check:
    name, found = f"card {number}", f"{card.name}, {card.health}"
    ask_health = f"`npu-smi info -t health -i {card.npu}`"
    if card.health not in ("OK", "Warning"):
        fix = f"{ask_health} gives the reason; use other cards until the health is OK"
        return Check(name, "failed" if chosen else "warning", found, fix)
    if not chosen:
        return Check(name, "ok", f"{found}, not needed")
    if card.processes:
        users = ", ".join(f"{process.name} ({process.pid})" for process in card.processes)
        fix = "wait for it or end it, or choose another card with ASCEND_DEVICE_ID"
        return Check(name, "failed", f"{found}, in use by {users}", fix, busy=True)
    if card.hbm_used and card.hbm_total and card.hbm_used > _SUSPICIOUS_MEMORY_SHARE * card.hbm_total:
        found = f"{found}, {card.hbm_used} of {card.hbm_total} MB in use by a process not seen here"
        return Check(name, "warning", found, "look for it in other containers")
    if card.health == "Warning":
        return Check(name, "warning", found, f"{ask_health} gives the reason")
    return Check(name, "ok", found)
