"""Numbers, amounts and durations as text. A missing number becomes a dash."""

import math
from typing import Any

DASH = "\N{EN DASH}"
_SPACE = "\N{NO-BREAK SPACE}"  # between a number and its unit


def is_missing(value: Any) -> bool:
    """Return whether a number is None, infinite or NaN."""
    return value is None or (isinstance(value, float) and not math.isfinite(value))


def format_number(value: Any, digits: int = 1, unit: str = "") -> str:
    """Return a number with a fixed number of decimals and its unit, or a dash."""
    if is_missing(value):
        return DASH
    return f"{value:,.{digits}f}" + (_SPACE + unit if unit else "")


def format_signed(value: float, digits: int, unit: str = "") -> str:
    """Return a number like `format_number`, with a plus or minus sign."""
    return ("\N{MINUS SIGN}" if value < 0.0 else "+") + format_number(abs(value), digits, unit)


def format_count(value: Any, noun: str) -> str:
    """Return an amount with its noun in the singular or plural: `1 step`, `2,400 steps`."""
    amount = "an unknown number of" if is_missing(value) else format_number(value, 0)
    return amount + _SPACE + noun + ("" if value == 1 else "s")


def format_duration(seconds: Any) -> str:
    """Return a duration in its two largest units: `4.2 s`, `3 min 20 s`, `5 h 12 min`."""
    if is_missing(seconds):
        return "not recorded"
    if seconds < 59.95:  # rounds to less than 60.0 s
        return format_number(seconds, 1, "s")
    minutes, rest_seconds = divmod(round(seconds), 60)
    hours, rest_minutes = divmod(minutes, 60)
    pairs = ((hours, "h"), (rest_minutes, "min")) if hours else ((minutes, "min"), (rest_seconds, "s"))
    return " ".join(f"{amount}{_SPACE}{unit}" for amount, unit in pairs)
