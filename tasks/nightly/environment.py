"""What nights must have in common to be compared: versions, device and host; and the state of the code."""

import hashlib
import json
import os
import platform
import re
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict, List, Tuple

from fse.outputs import tensorflow_version

# CANN's own: what is installed where.
_CANN = ("ASCEND_HOME_PATH", "ASCEND_TOOLKIT_HOME")
_INSTALLED = Path("/usr/local/Ascend")

_COMMITS = 30


def describe(devices: List[str], installed: Path = _INSTALLED) -> Dict[str, str]:
    """Versions, device and host by name.

    Args:
      devices: what the runs compute on: cpu, gpu, npu.
      installed: where Ascend's driver, firmware and CANN are; without them their versions are left out.
    """
    home = next(
        (Path(os.environ[name]) for name in _CANN if os.environ.get(name)), installed / "ascend-toolkit" / "latest"
    )
    found = {
        "python": platform.python_version(),
        "tensorflow": tensorflow_version(),
        "cann": _version(sorted([*home.glob("version.*"), *home.glob("*-linux/*_install.info")])),
        "driver": _version([installed / "driver" / "version.info"]),
        "firmware": _version([installed / "firmware" / "version.info"]),
        "device": ", ".join(sorted({*devices})),
        "machine": "{} with {} processors".format(platform.machine(), os.cpu_count()),
        "host": socket.gethostname(),
    }
    return {name: value for name, value in found.items() if value}


def fingerprint(environment: Dict[str, str]) -> str:
    """A short name for an environment. It begins with `env-`: other programs take 16 bare digits for an output's key."""
    return "env-" + hashlib.sha256(json.dumps(environment, sort_keys=True).encode()).hexdigest()[:12]


def in_words(environment: Dict[str, str]) -> str:
    """An environment in one line."""
    return ", ".join("{} {}".format(name, value) for name, value in environment.items())


def commit(folder: Path) -> Tuple[str, bool]:
    """The commit of a checkout, and whether it is unchanged; ('', False) outside a checkout."""
    done = git(folder, "rev-parse", "HEAD")
    return done, bool(done) and not git(folder, "status", "--porcelain")


def commits(folder: Path, good: str, bad: str) -> List[str]:
    """The commits after `good` up to `bad`, newest first, one line each; none if git does not know them."""
    lines = (
        git(folder, "log", "--format=%h %an: %s", "-n", str(_COMMITS), "{}..{}".format(good, bad))
        if good and bad
        else ""
    )
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


def doctor(root: Path) -> Tuple[Any, str]:
    """What `fse doctor` says of this machine, and why it cannot be used; '' if it can."""
    command = [sys.executable, "-m", "fse", "doctor", "--json"]
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=600, cwd=str(root))
    except (OSError, subprocess.SubprocessError) as error:
        return None, "fse doctor: {}".format(error)
    said = done.stdout.decode(errors="replace")
    try:
        found = json.loads(said)
    except ValueError:
        found = said.strip()
    if done.returncode == 0:
        return found, ""
    lines = (done.stderr.decode(errors="replace").strip() or said.strip()).splitlines()
    return found, "fse doctor ended with exit code {}: {}".format(
        done.returncode, lines[-1] if lines else "it said nothing"
    )


def _version(files: List[Path]) -> str:
    """The version that the first readable of some files names, as `Version=7.0.0` or `version: 7.0.0`."""
    for file in files:
        try:
            found = re.search(r"(?im)^\s*(?:\w*_)?version\s*[=:]\s*\[?([\w.\-+:]+)", file.read_text(errors="replace"))
        except OSError:
            continue
        if found:
            return found.group(1)
    return ""
