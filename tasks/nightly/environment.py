"""The environment of a night: versions, device and host. Only nights of the same environment are compared."""

import hashlib
import json
import os
import platform
import socket
from typing import Dict, Iterable

# The versions that are part of the environment, by their names in `fse doctor`.
_VERSIONS = ("python", "tensorflow", "npu_bridge", "cann", "driver", "firmware")


def describe(devices: Iterable[str], versions: Dict[str, str]) -> Dict[str, str]:
    """Return versions, device and host by name.

    Args:
      devices: the runs' values of `train.device`: cpu, gpu, npu.
      versions: the versions that `fse doctor` reports.
    """
    environment = {
        **{name: versions.get(name, "") for name in _VERSIONS},
        "device": ", ".join(sorted({*devices})),
        # Names and values are part of the fingerprint: another wording would separate the nights before and after.
        "machine": f"{platform.machine()} with {os.cpu_count()} processors",
        "host": socket.gethostname(),
    }
    return {name: value for name, value in environment.items() if value}


def fingerprint(environment: Dict[str, str]) -> str:
    """Return a short identifier of an environment.

    It does not look like an output's key, 16 hexadecimal digits, which Clean searches for in the history.
    """
    return "env-" + hashlib.sha256(json.dumps(environment, sort_keys=True).encode()).hexdigest()[:12]


def in_words(environment: Dict[str, str]) -> str:
    """Return the description of an environment in one line."""
    return ", ".join(f"{name} {value}" for name, value in environment.items())
