"""All checks of a machine, as a table or as JSON.

The checks depend on the experiment: `train.device` needs Python and TensorFlow, and an NPU also npu_bridge, CANN, driver
and cards. `train.devices`, `train.hosts` and `train.rank_table` define ranks, hosts and ports. Disk and write access count
for every device. The checks change nothing, and every wait has a time limit.
"""

import dataclasses
import json
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, List

from fse.ascend import npu_smi
from fse.config import Config
from fse.doctor import ascend, network, software, storage
from fse.doctor.check import Check
from fse.errors import MachineError

# The version of the JSON's format.
SCHEMA = 2


@dataclass(frozen=True)
class Machine:
    """The results of all checks."""

    device: str
    checks: List[Check]
    versions: Dict[str, str]  # by name; '' for software that is missing
    cards: List[npu_smi.Card]  # of an NPU machine

    @property
    def fit(self) -> bool:
        """Whether no check failed."""
        return all(check.status != "failed" for check in self.checks)


def report(config: Config, workspace: Path, as_json: bool = False) -> None:
    """Print the results of all checks, as a table or as a JSON object.

    Raises:
      MachineError: a check failed.
    """
    machine = examine(config, workspace)
    print(json.dumps(as_dictionary(machine), indent=2) if as_json else as_table(machine), flush=True)
    failed = [check.name for check in machine.checks if check.status == "failed"]
    if failed:
        raise MachineError(f"this machine is not fit for train.device={machine.device}: {', '.join(failed)}")


def examine(config: Config, workspace: Path) -> Machine:
    """Run the checks that an experiment needs.

    Args:
      config: the experiment.
      workspace: the folder for its outputs; need not exist.
    """
    device = config.train.device
    versions = software.installed()
    checks = [software.check_python(device), software.check_tensorflow(device, versions["tensorflow"])]
    cards: List[npu_smi.Card] = []
    if device == "gpu":
        checks.append(software.check_gpu())
    topology, rank_checks = network.check_ranks(config.train)
    if device == "npu":
        driver, cards = ascend.check_driver(versions)
        checks += [ascend.check_cann(versions["cann"]), ascend.check_npu_bridge(), driver]
        if cards:
            checks += ascend.check_cards(cards, [int(card) for card in topology.devices] if topology else [])
    checks += rank_checks
    if topology:
        checks += network.check_hosts(topology) + network.check_host_ports(topology, device)
        if device == "npu" and topology.size > 1:
            checks += network.check_hccl_ports()
    checks += [storage.check_disk(workspace), *storage.check_write_access(workspace)]
    return Machine(device, checks, versions, cards)


def as_dictionary(machine: Machine) -> Dict[str, Any]:
    """Return the results as JSON values."""
    return {
        "schema": SCHEMA,
        "host": socket.gethostname(),
        "device": machine.device,
        "fit": machine.fit,
        "checks": [dataclasses.asdict(check) for check in machine.checks],
        "versions": machine.versions,
        "cards": [dataclasses.asdict(card) for card in machine.cards],
    }


def as_table(machine: Machine) -> str:
    """Return the results as a table, with what to do below each failed check."""
    lines = [f"{socket.gethostname()} for train.device={machine.device}"]
    for check in machine.checks:
        lines.append(f"  {check.status:<8} {check.name:<13} {check.found}")
        if check.fix:
            lines.append(f"{'':25}→ {check.fix}")
    return "\n".join(lines)
