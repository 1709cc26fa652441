"""The child process of a stage: its command line, the files it reads, and its progress on the scheduler's page."""

import contextlib
import re
import sys
import time
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional

import luigi
from luigi.rpc import RPCError

from fse.config import Config, redact_config
from fse.runtime.files import write_json
from fse.stages import option_of
from tasks.caching.publishing import config_path, manifest_extra_path

# The scheduler's page gets the progress at most this often.
_REPORT_SECONDS = 1.0


def prepare(
    verb: str,
    config: Config,
    inputs: Dict[str, Optional[Path]],
    output: Path,
    manifest_extra: Dict[str, Any],
    share: bool,
) -> List[str]:
    """Write the files that the child process reads, and return its command line.

    Args:
      verb: the stage's name in `fse.stages.STAGES`.
      config: the experiment. The file gets it without secrets.
      inputs: folders of the inputs by role.
      output: the folder to make.
      manifest_extra: entries for the output's manifest.
      share: whether to make only a share of the shards, beside other processes.

    Raises:
      OSError: a file cannot be written.
    """
    write_json(config_path(output), redact_config(config))
    write_json(manifest_extra_path(output), manifest_extra)
    command = [sys.executable, "-m", "fse", verb, "--config", str(config_path(output))]
    for role, folder in inputs.items():
        command += ["--" + option_of(role), str(folder)]
    command += ["--output", str(output), "--manifest-extra", str(manifest_extra_path(output))]
    return [*command, "--share" if share else "--replace"]


def progress_reporter(task: luigi.Task, log: Path) -> Callable[[str], None]:
    """Show the log on the scheduler's page; return a function that shows the progress in a line of the child's output."""
    _set(task.set_tracking_url, log.as_uri())
    last_report = 0.0

    def report(line: str) -> None:
        nonlocal last_report
        percentage = re.search(r"(\d+)%\|", line)  # a progress bar
        if percentage and time.monotonic() - last_report >= _REPORT_SECONDS:
            last_report = time.monotonic()
            _set(task.set_progress_percentage, int(percentage.group(1)))
            _set(task.set_status_message, line)

    return report


def _set(setter: Optional[Callable[[Any], None]], value: Any) -> None:
    """Call a setter of the scheduler's page.

    Luigi provides the setters only while it runs a task, and they fail while the central scheduler is unreachable.
    """
    if setter is not None:
        with contextlib.suppress(RPCError):
            setter(value)
