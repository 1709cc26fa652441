"""HTTP response headers that resuming and retrying a download depend on."""

import contextlib
import email.utils
import re
import time
from typing import Optional, Tuple

import requests


def content_length(response: requests.Response) -> Optional[int]:
    """Return the length of the body in bytes; None if it is missing or not a number."""
    value = response.headers.get("Content-Length", "")
    return int(value) if re.match(r"[0-9]{1,18}\Z", value) else None


def content_range(response: requests.Response) -> Tuple[Optional[int], Optional[int]]:
    """Return the offset of the first byte and the length of the full file; None for what Content-Range does not say."""
    value = response.headers.get("Content-Range", "")
    match = re.match(r"bytes (?:(\d{1,18})-\d+|\*)/(\d{1,18}|\*)\Z", value)
    if not match:
        return None, None
    start, total = match.groups()
    return int(start) if start else None, int(total) if total != "*" else None


def validator(response: requests.Response) -> str:
    """Return the ETag or else Last-Modified, which identify a version of the file; '' if there is neither.

    If-Range must not send a weak ETag (RFC 9110, section 13.1.5), so that a weak one is skipped.
    """
    etag = response.headers.get("ETag", "")
    return etag if etag.startswith('"') else response.headers.get("Last-Modified", "")


def retry_after(response: requests.Response) -> float:
    """Return the seconds that the server asks to wait, which it may send as a date; 0 if it does not ask."""
    value = response.headers.get("Retry-After", "")
    if re.match(r"[0-9]+\Z", value):
        return float(value)
    with contextlib.suppress(TypeError, ValueError, IndexError, OverflowError):
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    return 0.0
