"""What nights must have in common to be compared, versions, device and host; the machine's health; the code's state."""

import hashlib
import json
import os
import platform
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Dict, Iterable, List, Tuple

from fse.errors import MACHINE
from fse.runtime import processes

# Of the versions that `fse doctor` knows.
_VERSIONS = ("python", "tensorflow", "npu_bridge", "cann", "driver", "firmware")

_COMMITS = 30

# It tries TensorFlow, and npu_bridge, each of which may take five minutes from a cold network disk.
_DOCTOR_SECONDS = 900.0

# Between two looks at a card that is in use.
_PAUSE_SECONDS = 30.0


def describe(devices: Iterable[str], versions: Dict[str, str]) -> Dict[str, str]:
    """Versions, device and host by name.

    Args:
      devices: what the runs compute on: cpu, gpu, npu.
      versions: as `fse doctor` has them.
    """
    found = {
        **{name: versions.get(name, "") for name in _VERSIONS},
        "device": ", ".join(sorted({*devices})),
        "machine": f"{platform.machine()} with {os.cpu_count()} processors",
        "host": socket.gethostname(),
    }
    return {name: value for name, value in found.items() if value}


def fingerprint(environment: Dict[str, str]) -> str:
    """A short name for an environment. It begins with `env-`: other programs take 16 bare digits for an output's key."""
    return "env-" + hashlib.sha256(json.dumps(environment, sort_keys=True).encode()).hexdigest()[:12]


def in_words(environment: Dict[str, str]) -> str:
    """An environment in one line."""
    return ", ".join(f"{name} {value}" for name, value in environment.items())


def commit(folder: Path) -> Tuple[str, bool]:
    """The commit of a checkout, and whether it is unchanged; ('', False) outside a checkout."""
    done = git(folder, "rev-parse", "HEAD")
    return done, bool(done) and not git(folder, "status", "--porcelain")


def commits(folder: Path, good: str, bad: str) -> List[str]:
    """The commits after `good` up to `bad`, newest first, one line each; none if git does not know them."""
    lines = git(folder, "log", "--format=%h %an: %s", "-n", str(_COMMITS), f"{good}..{bad}") if good and bad else ""
    return lines.splitlines()


def git(folder: Path, *arguments: str) -> str:
    """What git prints of a checkout; '' if it fails."""
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            check=True,
            timeout=60,
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.decode(errors="replace").strip()


def fit(config: str, overrides: str, root: Path, wait: float) -> Tuple[Dict[str, Any], str]:
    """Looks at the machine with `doctor`, again and again while nothing but a card or port in use is wrong.

    Args:
      config, overrides, root: as `doctor` has them.
      wait: seconds after which one that is in use still is a fault.

    Returns:
      as `doctor` does.
    """
    until, told = time.monotonic() + wait, False
    while True:
        found, ill = doctor(config, overrides, root)
        failed = [check for check in found.get("checks", ()) if check["status"] == "failed"]
        left = until - time.monotonic()
        if not failed or not all(check["busy"] for check in failed):
            return found, ill
        if left <= 0.0:
            return found, f"{ill}; waited {wait:.0f} seconds"
        if not told:
            print(f"waiting: {ill}", file=sys.stderr, flush=True)
            told = True
        time.sleep(min(_PAUSE_SECONDS, left))


def doctor(config: str, overrides: str, root: Path) -> Tuple[Dict[str, Any], str]:
    """Looks at the machine with `fse doctor`.

    Args:
      config, overrides: the experiment that it is to be fit for, as `--config` and `--set` take it.
      root: the workspace.

    Returns:
      what it found, as its JSON has it, {} if it did not get that far; and why the machine cannot be used, '' if it can.
    """
    command = [sys.executable, "-m", "fse", "doctor", "--json", "--set", overrides, "--workspace", str(root)]
    ended = processes.run([*command, *(["--config", config] if config else [])], _DOCTOR_SECONDS)
    try:
        found = dict(json.loads(ended.output))
    except ValueError:
        found = {}
    if ended.code == 0:
        return found, ""
    if ended.code is None:
        return found, f"fse doctor did not end within {_DOCTOR_SECONDS:.0f} seconds"
    failed = ["{name}: {found}".format(**check) for check in found.get("checks", ()) if check["status"] == "failed"]
    said = ended.errors.strip().splitlines() or [f"exit code {ended.code}"]
    return found, "fse doctor: " + ("; ".join(failed) if ended.code == MACHINE and failed else said[-1])
