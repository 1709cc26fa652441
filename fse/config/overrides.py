"""The overrides of a configuration: the text of `--set`."""

import re
import sys
from typing import Any, Dict, Iterator

from fse.config.tables import flatten
from fse.errors import ConfigError
from fse.redaction import redact_text

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

# `section.key=value`; the section may have two parts.
_OVERRIDE = re.compile(r"\s*([A-Za-z_]\w*(?:\.[A-Za-z_]\w*)?)\.([A-Za-z_]\w*)\s*=(.*)\Z", re.DOTALL)

# A value that is taken as a string although it has no quotes.
_BARE_WORD = re.compile(r"[A-Za-z./~][^\"'\[\]{}\n]*\Z")


def parse_overrides(text: str) -> Dict[str, Dict[str, Any]]:
    """Parse `section.key=value,section.key=value` into dictionaries by section.

    Raises:
      ConfigError: a part is not `section.key=value`, or its value is neither TOML nor a bare word.
    """
    tables: Dict[str, Dict[str, Any]] = {}
    for part in _split(text):
        match = _OVERRIDE.match(part)
        if not match:
            raise ConfigError(
                f"--set {redact_text(part)!r}: wanted section.key=value, for example train.learning_rate=3e-4"
            )
        section, key, value = match.groups()
        tables.setdefault(section, {})[key] = _parse_value(value.strip(), part)
    return flatten(tables)


def _split(text: str) -> Iterator[str]:
    """Yield the parts between commas; commas inside quotes and brackets do not count."""
    part, depth, quote, escaped = "", 0, "", False
    for character in text:
        if escaped:
            escaped = False
        elif quote:
            escaped = character == "\\" and quote == '"'
            quote = "" if character == quote else quote
        elif character in "\"'":
            quote = character
        elif character in "[{":
            depth += 1
        elif character in "]}":
            depth -= 1
        if character == "," and not depth and not quote:
            yield part
            part = ""
        else:
            part += character
    if part.strip():
        yield part


def _parse_value(text: str, part: str) -> Any:
    """Return the value in a text: TOML, or a bare word as a string. `part`: the whole override, for the error."""
    try:
        return tomllib.loads("value = " + text)["value"]
    except tomllib.TOMLDecodeError:
        if _BARE_WORD.match(text):
            return text
        raise ConfigError(
            f"--set {redact_text(part)!r}: {redact_text(text)!r} is not a TOML value; put strings into quotes"
        ) from None
