"""Redaction: URLs and texts without the credentials that they may hold."""

import re
import urllib.parse

# A URL's query or fragment inside a longer text; group 1 is the part to keep.
_QUERY = re.compile(r"(https?://[^\s?#\"',\]]*)[?#][^\s\"',\]]*", re.IGNORECASE)


def redact_url(url: str) -> str:
    """Return a URL without user, password, query and fragment; return a path unchanged."""
    if "://" not in url:
        return url
    parts = urllib.parse.urlsplit(url)
    return urllib.parse.urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def redact_text(text: str) -> str:
    """Return a text, for example `--set` overrides, with `?…` instead of the query of each URL in it."""
    return _QUERY.sub(r"\1?…", text)
