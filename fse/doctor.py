"""`fse doctor`: is this machine fit for an experiment, and if not, what is wrong and how is it mended?

Looks at what `train.device` needs: Python and TensorFlow, on an NPU also npu_bridge, CANN, driver and cards; at what
`train.devices`, `train.hosts` and `train.rank_table` mean here; and at ports, disk and write access. Changes nothing, and
waits for nothing longer than a bound. TensorFlow and npu_bridge are tried in processes of their own.
"""

import fcntl
import json
import os
import platform
import re
import socket
import sys
import tempfile
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Tuple

from fse import __version__
from fse.ascend import npu_smi, rank_table
from fse.config import Config, Train
from fse.distributed import ranks
from fse.errors import ConfigError, DeviceError, MachineError
from fse.runtime import outputs, processes

# Of the JSON.
SCHEMA = 1

# Importing TensorFlow from a cold network disk takes a minute.
IMPORT_SECONDS = 300.0

# Below the first a run is bound to fail, below the second it may.
LEAST_GIGABYTES = 1.0
ENOUGH_GIGABYTES = 10.0
LEAST_FILES = 10_000

ASCEND = Path("/usr/local/Ascend")

# Where the TF Adapter finds what it may send to the NPU, below ASCEND_OPP_PATH: newer and older CANN.
SUPPORTED = tuple(
    folder + "/tensorflow/npu_supported_ops.json" for folder in ("built-in/framework", "framework/built-in")
)

# A card without a visible process that uses this share of its memory is somebody's, perhaps in another container.
SUSPICIOUS = 0.2

# HCCL listens on so many ports of the host from this one on (CANN: HCCL_IF_BASE_PORT).
HCCL_PORT = 60_000
HCCL_PORTS = 16

# What of a person's environment says which cards and which host a training has.
VARIABLES = {
    "cpu": ("RANK_SIZE", "FSE_HOST"),
    "gpu": ("RANK_SIZE", "FSE_HOST", "CUDA_VISIBLE_DEVICES"),
    "npu": ("RANK_SIZE", "FSE_HOST", "ASCEND_DEVICE_ID", "DEVICE_ID"),
}

_TRY_TENSORFLOW = """
from fse.tf1 import tf
with tf.Session(config=tf.ConfigProto(device_count={"GPU": 0})) as session:
    assert session.run(tf.constant(1.0) + 1.0) == 2.0
"""
_TRY_GPU = """
from fse import config, ranks
from fse.devices import gpu
gpu.find(config.Config(), ranks.Rank(0, 1))
"""
_TRY_NPU_BRIDGE = """
import npu_bridge.npu_init, hccl
"""


class Check(NamedTuple):
    """What was looked at. status: ok, warning (it may work) or failed. found: in words. mend: what to do, '' if ok.

    busy: it failed since somebody has it, and may be free later.
    """

    name: str
    status: str
    found: str
    mend: str = ""
    busy: bool = False


class Machine(NamedTuple):
    """The findings. versions: by name, '' where there is none. cards: of an NPU machine."""

    device: str
    checks: List[Check]
    versions: Dict[str, str]
    cards: List[npu_smi.Card]

    @property
    def fit(self) -> bool:
        """Whether nothing failed."""
        return all(check.status != "failed" for check in self.checks)


def doctor(config: Config, workspace: Path, as_json: bool = False) -> None:
    """Prints what `examine` finds, as a table or as one JSON object.

    Raises:
      MachineError: something failed.
    """
    machine = examine(config, workspace)
    print(json.dumps(as_dictionary(machine), indent=2) if as_json else in_words(machine), flush=True)
    failed = [check.name for check in machine.checks if check.status == "failed"]
    if failed:
        raise MachineError("this machine is not fit for train.device={}: {}".format(machine.device, ", ".join(failed)))


def examine(config: Config, workspace: Path) -> Machine:
    """Looks at the machine.

    Args:
      config: the experiment; `train.device` and the settings of ranks decide what is needed.
      workspace: where its outputs will be; need not exist.
    """
    device = config.train.device
    versions = installed()
    checks = [_python(device), _tensorflow(device, versions["tensorflow"])]
    cards: List[npu_smi.Card] = []
    if device == "gpu":
        checks.append(_import("gpu", _TRY_GPU, "TensorFlow sees a GPU", "install the NVIDIA driver and the gpu extra"))
    team, ranked = _ranks(config.train)
    if device == "npu":
        found, cards = _driver(versions)
        checks += [_cann(versions["cann"]), _npu_bridge(), found]
        checks += _cards(cards, [int(card) for card in team.devices] if team else []) if cards else []
    checks += ranked
    if team:
        checks += _hosts(team) + _host_ports(team, device)
        checks += _hccl_ports() if device == "npu" and team.size > 1 else []
    checks += [_disk(workspace), *_write_access(workspace)]
    return Machine(device, checks, versions, cards)


def as_dictionary(machine: Machine) -> Dict[str, Any]:
    """The findings as JSON values."""
    cards = [dict(card._asdict(), processes=[user._asdict() for user in card.processes]) for card in machine.cards]
    return {
        "schema": SCHEMA,
        "host": socket.gethostname(),
        "device": machine.device,
        "fit": machine.fit,
        "checks": [dict(check._asdict()) for check in machine.checks],
        "versions": machine.versions,
        "cards": cards,
    }


def in_words(machine: Machine) -> str:
    """The findings as a table, each fault followed by what to do."""
    lines = [f"{socket.gethostname()} for train.device={machine.device}"]
    for check in machine.checks:
        lines.append(f"  {check.status:<8} {check.name:<13} {check.found}")
        lines += ["{:25}→ {}".format("", check.mend)] if check.mend else []
    return "\n".join(lines)


def cann_version() -> str:
    """Version of the CANN whose environment is set; '' if none is."""
    for name in ("ASCEND_TOOLKIT_HOME", "ASCEND_HOME_PATH"):
        home = os.environ.get(name)
        if home:
            patterns = ("*-linux/ascend_*_install.info", "version.info", "*/version.info")
            files = [file for pattern in patterns for file in sorted(Path(home).glob(pattern))]
            return next(filter(None, map(_version_in, files)), "")
    return ""


def installed() -> Dict[str, str]:
    """Versions as packages and files have them, by name; '' where there is none. Of driver and firmware npu-smi knows more."""
    return {
        "fse": __version__,
        "python": platform.python_version(),
        "tensorflow": outputs.tensorflow_version(),
        "npu_bridge": outputs.version("npu-bridge"),
        "cann": cann_version(),
        "driver": _version_in(ASCEND / "driver" / "version.info"),
        "firmware": _version_in(ASCEND / "firmware" / "version.info"),
        "system": platform.platform(),
    }


def _version_in(path: Path) -> str:
    """The line `Version=…` of a file of the Ascend packages."""
    try:
        found = re.search(r"^version=(\S+)", path.read_text(), re.IGNORECASE | re.MULTILINE)
    except (OSError, ValueError):
        return ""
    return found.group(1) if found else ""


def _python(device: str) -> Check:
    version = sys.version_info[:3]
    found = platform.python_version()
    if device == "npu" and version[:2] != (3, 7):
        return Check("python", "failed", found, "CANN's TF Adapter needs Python 3.7.5 to 3.7.11")
    if device == "npu" and not (3, 7, 5) <= version <= (3, 7, 11):
        return Check("python", "warning", found, "CANN's manual names 3.7.5 to 3.7.11")
    return Check("python", "ok", found)


def _tensorflow(device: str, version: str) -> Check:
    if not version:
        return Check("tensorflow", "failed", "not installed", "install it: `pip install .` of this package does")
    if device == "npu" and not version.startswith("1.15."):
        return Check("tensorflow", "failed", version, "CANN's TF Adapter needs TensorFlow 1.15")
    return _import("tensorflow", _TRY_TENSORFLOW, version, "install it again, for this processor")


def _npu_bridge() -> Check:
    mend = "install CANN's TF Adapter (tfplugin) and source its set_env.sh"
    return _import("npu_bridge", _TRY_NPU_BRIDGE, "npu_bridge and hccl can be imported", mend)


def _import(name: str, code: str, found: str, mend: str) -> Check:
    """Runs a few lines of Python in a process of their own."""
    ended = processes.run([sys.executable, "-c", code], IMPORT_SECONDS)
    if ended.code is None:
        return Check(name, "failed", f"it did not answer within {IMPORT_SECONDS:.0f} seconds", mend)
    if ended.code:
        said = ended.errors.strip().splitlines() or [f"it ended with exit code {ended.code}"]
        return Check(name, "failed", said[-1], mend)
    return Check(name, "ok", found)


def _cann(version: str) -> Check:
    if not version:
        return Check(
            "cann",
            "failed",
            "no CANN whose environment is set (ASCEND_TOOLKIT_HOME, ASCEND_HOME_PATH)",
            f"source {ASCEND}/ascend-toolkit/set_env.sh, or {ASCEND}/cann/set_env.sh from CANN 9 on",
        )
    folder = Path(os.environ.get("ASCEND_OPP_PATH", ""))
    if not any((folder / name).is_file() for name in SUPPORTED):
        return Check(
            "cann",
            "warning",
            f"{version}, but ASCEND_OPP_PATH leads to no {SUPPORTED[0]}",
            "without it no operator goes to the NPU: install CANN's operator package and source set_env.sh",
        )
    return Check("cann", "ok", version)


def _driver(versions: Dict[str, str]) -> Tuple[Check, List[npu_smi.Card]]:
    """Asks npu-smi for the cards, and adds driver and firmware to the versions."""
    try:
        version, cards = npu_smi.overview()
        told = npu_smi.board(cards[0])
    except DeviceError as error:
        return Check("driver", "failed", str(error), "mend the driver until `npu-smi info` shows the cards"), []
    versions["driver"] = told.get("Software Version") or version or versions["driver"]
    versions["firmware"] = told.get("Firmware Version") or versions["firmware"]
    found = "driver {}, firmware {}".format(versions["driver"] or "?", versions["firmware"] or "?")
    return Check("driver", "ok", found), cards


def _cards(cards: List[npu_smi.Card], chosen: Sequence[int]) -> List[Check]:
    """The cards that training will have: health, and whether they are free."""
    missing = sorted(number for number in chosen if number >= len(cards))
    if missing:
        found = f"training wants card {missing[0]}, and there are {len(cards)}"
        mend = f"choose from 0 to {len(cards) - 1} by train.devices, train.rank_table or ASCEND_DEVICE_ID"
        return [Check("card", "failed", found, mend)]
    checks = []
    for number, card in enumerate(cards):
        name, found = f"card {number}", f"{card.name}, {card.health}"
        used = number in chosen
        if card.health not in ("OK", "Warning"):
            mend = f"`npu-smi info -t health -i {card.npu}` says more; until it is OK use other cards"
            checks.append(Check(name, "failed" if used else "warning", found, mend))
        elif used and card.processes:
            users = ", ".join(f"{user.name} ({user.pid})" for user in card.processes)
            mend = "wait for it or end it, or choose another card with ASCEND_DEVICE_ID"
            checks.append(Check(name, "failed", f"{found}, in use by {users}", mend, busy=True))
        elif used and card.hbm_used and card.hbm_total and card.hbm_used > SUSPICIOUS * card.hbm_total:
            found = f"{found}, {card.hbm_used} of {card.hbm_total} MB in use by a process not seen here"
            checks.append(Check(name, "warning", found, "look for it in other containers"))
        elif used and card.health == "Warning":
            checks.append(Check(name, "warning", found, f"`npu-smi info -t health -i {card.npu}` says why"))
        else:
            checks.append(Check(name, "ok", found if used else found + ", not needed"))
    return checks


def _ranks(train: Train) -> Tuple[Optional[ranks.Team], List[Check]]:
    """The ranks that training will have here, as it finds them itself; None if it will not."""
    try:
        team = ranks.team(train)
        if train.device == "npu" and team.size > 1 and not train.rank_table:
            rank_table.of_cards([int(card) for card in team.devices])
    except (ConfigError, DeviceError) as error:
        mend = (
            "change train.devices, train.hosts or train.rank_table, or what of {} the environment has; the format of a "
            "rank table is in HCCL's user guide"
        )
        return None, [Check("ranks", "failed", str(error), mend.format(", ".join(VARIABLES[train.device])))]
    checks = []
    if team.size > 1:
        found = "{} in all, here {} on {}".format(team.size, len(team.devices), ", ".join(team.devices))
        checks.append(Check("ranks", "ok", found))
    if train.device == "npu" and os.environ.get("RANK_TABLE_FILE") and not train.rank_table:
        found = "RANK_TABLE_FILE is set, but training goes by train.rank_table, which is not"
        checks.append(Check("rank table", "warning", found, "set train.rank_table to it, or unset it"))
    if train.device == "npu" and os.environ.get("CM_CHIEF_IP") and team.size > 1:
        found = "CM_CHIEF_IP is set, and HCCL takes that or a rank table, not both"
        checks.append(Check("rank table", "failed", found, "unset it"))
    return team, checks


def _hosts(team: ranks.Team) -> List[Check]:
    """Whether the hosts' names lead anywhere; whether somebody is there shows when training begins."""
    unknown = []
    for host in team.hosts:
        try:
            socket.getaddrinfo(host.rpartition(":")[0], None)
        except OSError as error:
            unknown.append(f"{host}: {error.strerror}")
    if unknown:
        return [
            Check("hosts", "failed", "; ".join(unknown), "add it to /etc/hosts, or give its address in train.hosts")
        ]
    return [Check("hosts", "ok", f"this is {team.hosts[team.here]}")] if team.hosts else []


def _host_ports(team: ranks.Team, device: str) -> List[Check]:
    """The ports after train.hosts: the first host's own, at which it waits for the others, and each rank's but on NPUs."""
    if not team.hosts:
        return []
    first = int(team.hosts[team.here].rpartition(":")[2])
    needed = [first] if team.here == 0 else []
    needed += [] if device == "npu" else range(first + 1, first + 1 + len(team.devices))
    busy = [port for port in needed if not _is_free(port)]
    if busy:
        found = "{} is in use".format(", ".join(map(str, busy)))
        return [Check("host ports", "failed", found, "name another port in train.hosts, on all hosts", busy=True)]
    return [Check("host ports", "ok", "{} are free".format(", ".join(map(str, needed)) or "none needed"))]


def _hccl_ports() -> List[Check]:
    """HCCL's ports on the host."""
    text = os.environ.get("HCCL_IF_BASE_PORT") or str(HCCL_PORT)
    if not (text.isdigit() and 1024 <= int(text) <= 65_520):
        return [Check("HCCL ports", "failed", f"HCCL_IF_BASE_PORT is {text!r}", "it must be from 1024 to 65520")]
    first = int(text)
    last = first + HCCL_PORTS - 1
    busy = [port for port in range(first, last + 1) if not _is_free(port)]
    span = f"{first}-{last}"
    if busy:
        found = "HCCL needs {}, but {} is in use".format(span, ", ".join(map(str, busy)))
        return [
            Check(
                "HCCL ports",
                "failed",
                found,
                f"set HCCL_IF_BASE_PORT to the first of {HCCL_PORTS} free ones",
                busy=True,
            )
        ]
    if not _is_reserved(first, last):
        mend = f"`sysctl -w net.ipv4.ip_local_reserved_ports={span}`, as CANN's manual asks"
        return [Check("HCCL ports", "warning", f"{span} are free, but the system may give them away", mend)]
    return [Check("HCCL ports", "ok", f"{span} are free")]


def _is_free(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("", port))
        except OSError:
            return False
    return True


def _is_reserved(first: int, last: int) -> bool:
    """Whether the system keeps these ports out of those that it gives to outgoing connections."""
    try:
        low, high = map(int, Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split())
        spans = re.findall(r"(\d+)(?:-(\d+))?", Path("/proc/sys/net/ipv4/ip_local_reserved_ports").read_text())
    except (OSError, ValueError):
        return True
    reserved = [range(int(one), int(other or one) + 1) for one, other in spans]
    given = range(max(low, first), min(high, last) + 1)
    return all(any(port in span for span in reserved) for port in given)


def _disk(workspace: Path) -> Check:
    folder = _existing(workspace)
    state = os.statvfs(str(folder))
    free = state.f_bavail * state.f_frsize / 1e9
    found = f"{free:.1f} GB free at {folder}"
    mend = "free some, or use another --workspace; `luigi --module pipeline Clean` lists what nothing leads to"
    if free < LEAST_GIGABYTES:
        return Check("disk", "failed", found, mend)
    if state.f_files and state.f_favail < LEAST_FILES:
        return Check("disk", "failed", f"{found}, but room for only {state.f_favail} more files", mend)
    return Check("disk", "warning" if free < ENOUGH_GIGABYTES else "ok", found, mend if free < ENOUGH_GIGABYTES else "")


def _write_access(workspace: Path) -> List[Check]:
    """Whether files can be made, locked and renamed in the workspace and in the folder of the devices' locks."""
    locks = Path(os.environ.get("FSE_LOCKS", "/tmp"))
    return [_writable("workspace", _existing(workspace)), _writable("locks", locks)]


def _writable(name: str, folder: Path) -> Check:
    try:
        with tempfile.NamedTemporaryFile(dir=str(folder), prefix=".fse-doctor-") as probe:
            probe.write(b"fse doctor")
            probe.flush()
            os.fsync(probe.fileno())
            fcntl.flock(probe, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        mend = "make it writable for this user, or name another folder with {}"
        option = "--workspace" if name == "workspace" else "FSE_LOCKS"
        return Check(name, "failed", f"{folder}: {error.strerror}", mend.format(option))
    return Check(name, "ok", f"{folder} can be written and locked")


def _existing(path: Path) -> Path:
    """The nearest folder above a path, or itself, that is there."""
    path = path.absolute()
    return next(folder for folder in [path, *path.parents] if folder.is_dir())
