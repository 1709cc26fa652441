"""Settings of Luigi without which its answers mislead: exit codes, checks, the local scheduler, messages."""

import difflib
import functools
import logging
import os
import sys
from typing import Any, Callable, Dict, List

import luigi.configuration
import luigi.interface
import luigi.retcodes
from luigi.cmdline_parser import CmdlineParser
from luigi.task_register import Register, TaskClassException

from fse.errors import FseError
from fse.runtime import processes
from tasks.stages.stage_task import failure_code

# Stock Luigi exits with 0 whatever happens, believes that a task which ran also wrote its output, and asks for a
# scheduler that nobody started.
DEFAULTS: Dict[str, Dict[str, str]] = {
    "retcode": {
        "already_running": "10",
        "missing_data": "20",
        "not_run": "25",
        "task_failed": "30",
        "scheduling_error": "35",
        "unhandled_exception": "40",
    },
    # The stages look at their inputs themselves, and say what is wrong with them.
    "worker": {"check_complete_on_run": "true", "check_unfulfilled_deps": "false"},
    "scheduler": {"stable_done_cooldown_secs": "0"},
    # The stages say themselves what they do; `--log-level INFO` adds what Luigi does.
    # Luigi refuses a command line that runs already, be it in another folder; here the second one waits where it must.
    "core": {"log_level": "WARNING", "autoload_range": "false", "no_lock": "true"},
}

# What a parameter wants, where Luigi's own words do not say it.
_WANTED = {
    "IntParameter": "a whole number",
    "NumericalParameter": "a whole number from 1 to 64",
    "FloatParameter": "a number",
    "DateParameter": "a date as 2026-11-23",
}

# What shells have for a program that Ctrl-C ended.
INTERRUPTED = 130


def install() -> None:
    """Sets what no `luigi.cfg` sets, and keeps tracebacks of users' mistakes out of Luigi's log."""
    parent = os.environ.get("FSE_PARENT")  # a nightly or a bisection, if one started us
    if parent:
        processes.die_with_parent(int(parent))
    parser = luigi.configuration.get_config()
    # A nightly tells of what has changed; Luigi would write every night, of the night and of its stages.
    if (parent or "NightlyRegression" in sys.argv) and not _is_set("worker", "send_failure_email"):
        parser.set("worker", "send_failure_email", "false")
    for section, values in DEFAULTS.items():
        for name, value in values.items():
            if not _is_set(section, name):
                parser.set(section, name, value)
    if not _central_scheduler():
        parser.set("core", "local_scheduler", "true")
    if not isinstance(luigi.interface._run, functools.partial):
        luigi.interface._run = functools.partial(_run, luigi.interface._run)
        CmdlineParser.get_task_obj = functools.partialmethod(_task, CmdlineParser.get_task_obj)
        # The last that Luigi does before it looks for the command.
        known = functools.partial(_known, CmdlineParser._possibly_exit_with_help)
        CmdlineParser._possibly_exit_with_help = staticmethod(known)
    logger = logging.getLogger("luigi-interface")
    if _without_traceback not in logger.filters:
        logger.addFilter(_without_traceback)


def _run(run: Callable[[List[str]], Any], arguments: List[str]) -> Any:
    """Luigi's own way from the command line to the end of the run; then exits if a task's failure has its own code."""
    try:
        result = run(arguments)
    except KeyboardInterrupt:
        print("interrupted; the next run goes on", file=sys.stderr)
        raise SystemExit(INTERRUPTED) from None
    if failure_code():
        raise SystemExit(failure_code())
    return result


def _known(help_: Callable[[Any, Any], None], parser: Any, line: Any) -> None:
    """Luigi's own way to show help if that is asked for; but exits if there is no such command."""
    help_(parser, line)
    name = line.root_task
    if name and name not in Register.task_names():
        print(f"error: {_no_such_command(name)}", file=sys.stderr)
        raise SystemExit(luigi.retcodes.retcode().unhandled_exception)


def _no_such_command(name: str) -> str:
    """What to say of it: commands of nearly that name, or all."""
    commands = {command.lower(): command for command in [*sys.modules["pipeline"].__all__, "RangeDaily"]}
    near = difflib.get_close_matches(name.lower(), commands, 3) or [
        known for known in commands if name.lower() in known
    ]
    words = "did you mean {}?".format(" or ".join(commands[command] for command in near))
    return "no command {}; {}".format(name, words if near else "there are " + ", ".join(sorted(commands.values())))


def _task(line: CmdlineParser, make: Callable[[CmdlineParser], luigi.Task]) -> luigi.Task:
    """Luigi's own way from the command line to its task; but exits if a parameter's value is of the wrong type."""
    mistake = _mistake(line.known_args)
    if mistake:
        print(f"error: {mistake}", file=sys.stderr)
        raise SystemExit(luigi.retcodes.retcode().unhandled_exception)
    return make(line)


def _mistake(line: Any) -> str:
    """A parameter whose value is of the wrong type, on the command line or in a `luigi.cfg`, in words; '' if none is."""
    settings = luigi.configuration.get_config()
    for family, _, name, parameter in Register.get_all_params():
        given = {
            f"[{family}] {name} =": settings.get(family, name, None),
            "--{}-{}".format(family, name.replace("_", "-")): getattr(line, f"{family}_{name}", None),
        }
        if family == line.root_task:
            given["--" + name.replace("_", "-")] = getattr(line, name, None)
        for what, text in given.items():
            try:
                if text:
                    parameter.parse(text)
            except TaskClassException:  # RangeDaily --of
                return f"{what}: {_no_such_command(text)}"
            except (ValueError, TypeError, luigi.parameter.ParameterException) as error:
                wanted = _WANTED.get(type(parameter).__name__)
                return "{} {}: {}".format(what, text, f"wanted {wanted}" if wanted else error)
    return ""


def _central_scheduler() -> bool:
    """Whether a scheduler was named, on the command line or in a `luigi.cfg`."""
    if any(argument.startswith(("--scheduler-host", "--scheduler-url", "--scheduler-port")) for argument in sys.argv):
        return True
    names = ("default_scheduler_host", "default_scheduler_url", "scheduler_host", "scheduler_url", "local_scheduler")
    return any(_is_set("core", name) for name in names)


def _is_set(section: str, name: str) -> bool:
    parser = luigi.configuration.get_config()
    return any(parser.get(section, spelling, None) is not None for spelling in (name, name.replace("_", "-")))


def _without_traceback(record: logging.LogRecord) -> bool:
    """A log filter: an error of ours says what is wrong, where in the code it was noticed is no help."""
    error = record.exc_info[1] if record.exc_info else None
    if isinstance(error, FseError):
        record.msg = f"{record.getMessage()}\n  {type(error).__name__}: {error}"
        record.args, record.exc_info, record.exc_text = (), None, None
    return True
