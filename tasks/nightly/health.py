"""The health check before a night: `fse doctor` in a child process, repeated while a device is busy."""

import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, List

from fse.errors import EXIT_MACHINE
from fse.runtime import processes

# `fse doctor` imports TensorFlow and npu_bridge. Each can take five minutes from a cold network disk.
_DOCTOR_SECONDS = 900.0

# Pause between two checks while a device is busy.
_PAUSE_SECONDS = 30.0


@dataclass(frozen=True)
class Health:
    """The result of a health check."""

    report: Dict[str, Any]  # the JSON output of `fse doctor`; {} if it printed none
    problem: str  # why the machine cannot be used; '' if it is healthy

    def failed_checks(self) -> List[Dict[str, Any]]:
        """Return the failed checks of the report."""
        return _failed_checks(self.report)


def wait_until_healthy(config: str, overrides: str, workspace: Path, timeout: float) -> Health:
    """Check the machine with `check_machine`; repeat while the only problem is a card or port that is in use.

    Args:
      config: the experiment, in the syntax of `--config`.
      overrides: settings, in the syntax of `--set`.
      workspace: folder of all outputs.
      timeout: seconds to wait for a busy device.
    """
    deadline, announced = time.monotonic() + timeout, False
    while True:
        health = check_machine(config, overrides, workspace)
        failed = health.failed_checks()
        remaining = deadline - time.monotonic()
        if not failed or not all(check["busy"] for check in failed):
            return health
        if remaining <= 0.0:
            return Health(health.report, f"{health.problem}; waited {timeout:.0f} seconds")
        if not announced:
            print(f"waiting: {health.problem}", file=sys.stderr, flush=True)
            announced = True
        time.sleep(min(_PAUSE_SECONDS, remaining))


def check_machine(config: str, overrides: str, workspace: Path) -> Health:
    """Run `fse doctor` for an experiment. The arguments are those of `wait_until_healthy`."""
    command = [sys.executable, "-m", "fse", "doctor", "--json", "--set", overrides, "--workspace", str(workspace)]
    ended = processes.run([*command, *(["--config", config] if config else [])], _DOCTOR_SECONDS)
    try:
        report = dict(json.loads(ended.output))
    except ValueError:
        report = {}
    if ended.code == 0:
        return Health(report, "")
    if ended.code is None:
        return Health(report, f"fse doctor did not end within {_DOCTOR_SECONDS:.0f} seconds")
    failed = _failed_checks(report)
    if ended.code == EXIT_MACHINE and failed:
        problem = "; ".join(f"{check['name']}: {check['found']}" for check in failed)
    else:
        problem = (ended.errors.strip().splitlines() or [f"exit code {ended.code}"])[-1]
    return Health(report, f"fse doctor: {problem}")


def _failed_checks(report: Dict[str, Any]) -> List[Dict[str, Any]]:
    return [check for check in report.get("checks", ()) if check["status"] == "failed"]
