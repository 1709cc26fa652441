"""One section of a configuration: its settings checked against the types, ranges and choices of a dataclass."""

import dataclasses
import difflib
import math
from typing import Any, Dict, Iterable, Sequence

from fse.config import renamed
from fse.config.schema import SECTIONS
from fse.errors import ConfigError

# Names of the types in error messages.
_TYPES = {int: "an integer", float: "a number", bool: "true or false", str: "a string"}
_LIST_TYPES = {int: "a list of integers", float: "a list of numbers", str: "a list of strings"}


def parse_section(section_class: Any, section: str, values: Dict[str, Any], source: str) -> Any:
    """Return a section as an instance of its dataclass; settings that are left out keep their defaults.

    Args:
      section_class: a dataclass whose fields are made by `fse.config.setting`.
      section: name of the section, for error messages.
      values: the settings as a TOML or JSON parser returns them.
      source: where the settings come from, for error messages.

    Raises:
      ConfigError: a setting is unknown, or its value has a wrong type or is out of range.
    """
    fields = {item.name: item for item in dataclasses.fields(section_class)}
    parsed = {}
    for name, value in values.items():
        if name not in fields:
            raise ConfigError(f"{source}: {_unknown(section, name, fields)}")
        parsed[name] = _parse_value(fields[name], section, value, source)
    return section_class(**parsed)


def suggestion(name: str, known: Iterable[str], section: str = "") -> str:
    """Return `; did you mean …?` with the most similar name, for the end of an error message.

    Args:
      name: the unknown name.
      known: the known names; settings of `section` if that is given.
      section: section of the settings; '' for names that are not settings.
    """
    known = list(known)
    similar = difflib.get_close_matches(name, known, n=1)
    if similar:
        return f"; did you mean {section}.{similar[0]}?" if section else f"; did you mean {similar[0]}?"
    # Reversed, so that the first of several sections with such a setting wins.
    elsewhere = {
        item.name: f"{other}.{item.name}"
        for other, section_class in reversed(list(SECTIONS.items()))
        for item in dataclasses.fields(section_class)
    }
    similar = difflib.get_close_matches(name, elsewhere, n=1)
    if similar:
        return f"; did you mean {elsewhere[similar[0]]}?"
    return f"; known: {', '.join(known)}"


def _unknown(section: str, name: str, known: Iterable[str]) -> str:
    """Return the error message for an unknown setting."""
    new = renamed.new_setting(section, name)
    if new:
        return f"{section}.{name} was renamed; write {section}.{new}"
    return f"unknown key {section}.{name}{suggestion(name, known, section)}"


def _parse_value(item: "dataclasses.Field[Any]", section: str, value: Any, source: str) -> Any:
    """Return the value of a setting, converted to the type of its default and checked."""
    name, is_list = f"{source}: {section}.{item.name}", isinstance(item.default, tuple)
    entry_type = _entry_type(item.default)
    entries = value if is_list else [value]
    if entry_type is float and isinstance(entries, (list, tuple)):
        entries = [float(entry) if type(entry) is int else entry for entry in entries]
    help = item.metadata["help"]
    if not isinstance(entries, (list, tuple)) or any(type(entry) is not entry_type for entry in entries):
        wanted = (_LIST_TYPES if is_list else _TYPES)[entry_type]
        raise ConfigError(f"{name} must be {wanted} ({help}), got {value!r}")
    _check_range(item, name, entries)
    choices = item.metadata["choices"]
    if choices and value not in choices:
        new = renamed.new_value(section, item.name, value)
        if new:
            raise ConfigError(f'{name}: the value {value!r} was renamed; write "{new}"')
        raise ConfigError(f"{name} must be one of {', '.join(choices)}, got {value!r}{suggestion(value, choices)}")
    return tuple(entries) if is_list else entries[0]


def _entry_type(default: Any) -> type:
    """Return the type of a setting, or of the entries of a list."""
    if not isinstance(default, tuple):
        return type(default)
    return type(default[0]) if default else str


def _check_range(item: "dataclasses.Field[Any]", name: str, entries: Sequence[Any]) -> None:
    """Check numbers against the limits of a setting.

    Raises:
      ConfigError: a number is NaN or out of range.
    """
    if any(isinstance(entry, float) and math.isnan(entry) for entry in entries):
        raise ConfigError(f"{name} is not a number")
    low, high = item.metadata["low"], item.metadata["high"]
    if any((low is not None and entry < low) or (high is not None and entry > high) for entry in entries):
        limits = f"at least {low}" if high is None else f"between {low} and {high}"
        shown = list(entries) if isinstance(item.default, tuple) else entries[0]
        raise ConfigError(f"{name} must be {limits} ({item.metadata['help']}), got {shown!r}")
