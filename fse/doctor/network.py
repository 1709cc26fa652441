"""Checks of the ranks of a training: cards, hosts and ports."""

import os
import re
import socket
from pathlib import Path
from typing import List, Optional, Tuple

from fse.ascend import rank_table
from fse.config import Train
from fse.distributed import ranks
from fse.doctor.check import Check
from fse.errors import ConfigError, DeviceError

# HCCL listens on this many ports of the host, by default from HCCL_PORT on (CANN: HCCL_IF_BASE_PORT).
HCCL_PORT = 60_000
HCCL_PORT_COUNT = 16

# The user's environment variables that select cards and host.
_VARIABLES = {
    "cpu": ("RANK_SIZE", "FSE_HOST"),
    "gpu": ("RANK_SIZE", "FSE_HOST", "CUDA_VISIBLE_DEVICES"),
    "npu": ("RANK_SIZE", "FSE_HOST", "ASCEND_DEVICE_ID", "DEVICE_ID"),
}


def check_ranks(train: Train) -> Tuple[Optional[ranks.Topology], List[Check]]:
    """Determine the ranks on this host as training will.

    Returns:
      The ranks, None if they cannot be determined; and the checks.
    """
    try:
        topology = ranks.topology(train)
        if train.device == "npu" and topology.size > 1 and not train.rank_table:
            rank_table.create([int(card) for card in topology.devices])
    except (ConfigError, DeviceError) as error:
        fix = (
            f"change train.devices, train.hosts or train.rank_table, or {', '.join(_VARIABLES[train.device])} in the "
            "environment; HCCL's user guide describes the format of a rank table"
        )
        return None, [Check("ranks", "failed", str(error), fix)]
    checks = []
    if topology.size > 1:
        found = f"{topology.size} in all, here {len(topology.devices)} on {', '.join(topology.devices)}"
        checks.append(Check("ranks", "ok", found))
    if train.device == "npu" and os.environ.get("RANK_TABLE_FILE") and not train.rank_table:
        found = "RANK_TABLE_FILE is set, but training reads train.rank_table, which is not set"
        checks.append(
            Check("rank table", "warning", found, "set train.rank_table to the file, or unset RANK_TABLE_FILE")
        )
    if train.device == "npu" and os.environ.get("CM_CHIEF_IP") and topology.size > 1:
        found = "CM_CHIEF_IP is set, but HCCL takes either that or a rank table"
        checks.append(Check("rank table", "failed", found, "unset CM_CHIEF_IP"))
    return topology, checks


def check_hosts(topology: ranks.Topology) -> List[Check]:
    """Check that the names of the hosts can be resolved. Whether they answer shows when training starts."""
    unknown = []
    for host in topology.hosts:
        try:
            socket.getaddrinfo(host.rpartition(":")[0], None)
        except OSError as error:
            unknown.append(f"{host}: {error.strerror}")
    if unknown:
        fix = "add the name to /etc/hosts, or use the IP address in train.hosts"
        return [Check("hosts", "failed", "; ".join(unknown), fix)]
    return [Check("hosts", "ok", f"this is {topology.hosts[topology.host_index]}")] if topology.hosts else []


def check_host_ports(topology: ranks.Topology, device: str) -> List[Check]:
    """Check that the ports of `train.hosts` are free.

    The first host waits for the others at its own port. Each rank, except on NPUs, uses one of the ports after its host's.
    """
    if not topology.hosts:
        return []
    first = int(topology.hosts[topology.host_index].rpartition(":")[2])
    needed = [first] if topology.host_index == 0 else []
    needed += [] if device == "npu" else range(first + 1, first + 1 + len(topology.devices))
    busy = [str(port) for port in needed if not _is_free(port)]
    if busy:
        fix = "choose another port in train.hosts, on all hosts"
        return [Check("host ports", "failed", f"{', '.join(busy)} is in use", fix, busy=True)]
    return [Check("host ports", "ok", f"{', '.join(map(str, needed)) or 'none needed'} are free")]


def check_hccl_ports() -> List[Check]:
    """Check that HCCL's ports on this host are free, and reserved so that they stay free."""
    text = os.environ.get("HCCL_IF_BASE_PORT") or str(HCCL_PORT)
    if not (text.isdigit() and 1024 <= int(text) <= 65_520):
        return [Check("HCCL ports", "failed", f"HCCL_IF_BASE_PORT is {text!r}", "it must be from 1024 to 65520")]
    first = int(text)
    last = first + HCCL_PORT_COUNT - 1
    span = f"{first}-{last}"
    busy = [str(port) for port in range(first, last + 1) if not _is_free(port)]
    if busy:
        found = f"HCCL needs {span}, but {', '.join(busy)} is in use"
        fix = f"set HCCL_IF_BASE_PORT to the first of {HCCL_PORT_COUNT} free ones"
        return [Check("HCCL ports", "failed", found, fix, busy=True)]
    if not _is_reserved(first, last):
        fix = f"`sysctl -w net.ipv4.ip_local_reserved_ports={span}`, as CANN's manual asks"
        found = f"{span} are free, but the system may give them to outgoing connections"
        return [Check("HCCL ports", "warning", found, fix)]
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
    """Return whether the system never gives these ports to outgoing connections."""
    try:
        low, high = map(int, Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split())
        spans = re.findall(r"(\d+)(?:-(\d+))?", Path("/proc/sys/net/ipv4/ip_local_reserved_ports").read_text())
    except (OSError, ValueError):
        return True
    reserved = [range(int(start), int(end or start) + 1) for start, end in spans]
    ephemeral = range(max(low, first), min(high, last) + 1)
    return all(any(port in span for span in reserved) for port in ephemeral)
