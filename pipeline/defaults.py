"""Luigi settings that this pipeline relies on: exit codes, completeness checks, the local scheduler, messages."""

import functools
import logging
import os
import sys
from typing import Any, Callable, Dict, List

import luigi.configuration
import luigi.interface
from luigi.cmdline_parser import CmdlineParser

from fse.errors import FseError
from fse.runtime import processes
from pipeline import command_line
from tasks.exit_codes import recorded_exit_code

# By default Luigi exits with 0 even after a failure, does not check that a task made its output, and connects to a
# central scheduler.
DEFAULTS: Dict[str, Dict[str, str]] = {
    "retcode": {
        "already_running": "10",
        "missing_data": "20",
        "not_run": "25",
        "task_failed": "30",
        "scheduling_error": "35",
        "unhandled_exception": "40",
    },
    # The stages check their inputs themselves, and say what is wrong with them.
    "worker": {"check_complete_on_run": "true", "check_unfulfilled_deps": "false"},
    "scheduler": {"stable_done_cooldown_secs": "0"},
    # The stages report what they do; `--log-level INFO` adds Luigi's own messages.
    # Without no_lock, Luigi refuses a command line that is already running, even in another folder. Here locks on
    # outputs make the second run wait where it must.
    "core": {"log_level": "WARNING", "autoload_range": "false", "no_lock": "true"},
}

# The exit code that shells use for a program that Ctrl-C ended.
INTERRUPTED = 130


def install() -> None:
    """Set every default that no `luigi.cfg` sets, and adapt Luigi's command line and log.

    It may run more than once in a process.
    """
    parent = os.environ.get("FSE_PARENT")  # set if a nightly or a bisection started this process
    if parent:
        processes.die_with_parent(int(parent))
    parser = luigi.configuration.get_config()
    # A nightly sends its own notifications, when something changed. Luigi would send mail every night.
    if (parent or "NightlyRegression" in sys.argv) and not _is_set("worker", "send_failure_email"):
        parser.set("worker", "send_failure_email", "false")
    for section, values in DEFAULTS.items():
        for name, value in values.items():
            if not _is_set(section, name):
                parser.set(section, name, value)
    if not _uses_central_scheduler():
        parser.set("core", "local_scheduler", "true")
    _patch_luigi()
    logger = logging.getLogger("luigi-interface")
    if _remove_traceback not in logger.filters:
        logger.addFilter(_remove_traceback)


def _patch_luigi() -> None:
    """Wrap Luigi's functions that read the command line and run it; Luigi has no hooks for either."""
    if isinstance(luigi.interface._run, functools.partial):
        return  # wrapped already
    luigi.interface._run = functools.partial(_run, luigi.interface._run)
    CmdlineParser.get_task_obj = functools.partialmethod(command_line.checked_task, CmdlineParser.get_task_obj)
    # The last step of Luigi before it looks up the command.
    show_help = CmdlineParser._possibly_exit_with_help
    wrapped = functools.partial(command_line.require_known_command, show_help)
    CmdlineParser._possibly_exit_with_help = staticmethod(wrapped)


def _run(luigi_run: Callable[[List[str]], Any], arguments: List[str]) -> Any:
    """Run Luigi's own function from the command line to the end of the run; exit if a failed task recorded a code."""
    try:
        result = luigi_run(arguments)
    except KeyboardInterrupt:
        print("interrupted; run the same command again to resume", file=sys.stderr)
        raise SystemExit(INTERRUPTED) from None
    if recorded_exit_code():
        raise SystemExit(recorded_exit_code())
    return result


def _uses_central_scheduler() -> bool:
    """Return whether the command line or a `luigi.cfg` names a scheduler."""
    if any(argument.startswith(("--scheduler-host", "--scheduler-url", "--scheduler-port")) for argument in sys.argv):
        return True
    names = ("default_scheduler_host", "default_scheduler_url", "scheduler_host", "scheduler_url", "local_scheduler")
    return any(_is_set("core", name) for name in names)


def _is_set(section: str, name: str) -> bool:
    parser = luigi.configuration.get_config()
    return any(parser.get(section, spelling, None) is not None for spelling in (name, name.replace("_", "-")))


def _remove_traceback(record: logging.LogRecord) -> bool:
    """Replace the traceback of an `FseError` by its message, which says what is wrong; keep every record."""
    error = record.exc_info[1] if record.exc_info else None
    if isinstance(error, FseError):
        record.msg = f"{record.getMessage()}\n  {type(error).__name__}: {error}"
        record.args, record.exc_info, record.exc_text = (), None, None
    return True
