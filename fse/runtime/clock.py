"""The current time in UTC."""

import datetime


def utc_now() -> datetime.datetime:
    """Return the current time, with UTC as its time zone."""
    return datetime.datetime.now(datetime.timezone.utc)


def utc_timestamp() -> str:
    """Return the current UTC time in ISO 8601 format, to the second."""
    return utc_now().replace(microsecond=0).isoformat()
