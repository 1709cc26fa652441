"""Checks of Luigi's command line: unknown commands and parameters of the wrong type end the program with one line."""

import difflib
import sys
from typing import Any, Callable, Dict, Optional

import luigi
import luigi.configuration
import luigi.retcodes
from luigi.cmdline_parser import CmdlineParser
from luigi.task_register import Register, TaskClassException

# What a type of parameter accepts, where Luigi's own message does not say it.
_ACCEPTED = {
    "IntParameter": "a whole number",
    "NumericalParameter": "a whole number from 1 to 64",
    "FloatParameter": "a number",
    "DateParameter": "a date such as 2026-11-23",
}


def require_known_command(show_help: Callable[[Any, Any], None], parser: Any, known_args: Any) -> None:
    """Show Luigi's help if it is asked for; exit the program if there is no such command."""
    show_help(parser, known_args)
    name = known_args.root_task
    if name and name not in Register.task_names():
        _exit(_unknown_command(name))


def checked_task(line: CmdlineParser, make_task: Callable[[CmdlineParser], luigi.Task]) -> luigi.Task:
    """Return the task of a command line; exit the program if a parameter's value is of the wrong type."""
    problem = _invalid_parameter(line.known_args)
    if problem:
        _exit(problem)
    return make_task(line)


def _exit(message: str) -> None:
    print(f"error: {message}", file=sys.stderr)
    raise SystemExit(luigi.retcodes.retcode().unhandled_exception)


def _unknown_command(name: str) -> str:
    """Return the error message for an unknown command, with similar commands or all commands."""
    commands = {command.lower(): command for command in [*sys.modules["pipeline"].__all__, "RangeDaily"]}
    similar = difflib.get_close_matches(name.lower(), commands, 3)
    similar = similar or [command for command in commands if name.lower() in command]
    if similar:
        return f"no command {name}; did you mean {' or '.join(commands[command] for command in similar)}?"
    return f"no command {name}; there are {', '.join(sorted(commands.values()))}"


def _invalid_parameter(known_args: Any) -> str:
    """Return the error message for a parameter of the wrong type, on the command line or in a `luigi.cfg`; '' if none is."""
    for family, _, name, parameter in Register.get_all_params():
        for origin, text in _given_values(known_args, family, name).items():
            if not text:
                continue
            try:
                parameter.parse(text)
            except TaskClassException:  # RangeDaily --of
                return f"{origin}: {_unknown_command(text)}"
            except (ValueError, TypeError, luigi.parameter.ParameterException) as error:
                accepted = _ACCEPTED.get(type(parameter).__name__)
                return f"{origin} {text}: {f'must be {accepted}' if accepted else error}"
    return ""


def _given_values(known_args: Any, family: str, name: str) -> Dict[str, Optional[str]]:
    """Return the values of a task's parameter by where they are given: `luigi.cfg` or an option."""
    option = name.replace("_", "-")
    values = {
        f"[{family}] {name} =": luigi.configuration.get_config().get(family, name, None),
        f"--{family}-{option}": getattr(known_args, f"{family}_{name}", None),
    }
    if family == known_args.root_task:
        values[f"--{option}"] = getattr(known_args, name, None)
    return values
