"""Files on Google Drive: their download URL, and the page that asks for a confirmation.

Google Drive does not scan large files for viruses. It may answer a request for one with a page that asks whether to
download the file anyway. gdown implements the same, but its last version for Python 3.7 (4.7.3) does not recognize
today's confirmation page, and it has no timeout there.
"""

import html
import re
import urllib.parse
from typing import Dict

DOWNLOAD_URL = "https://drive.usercontent.google.com/download"

_HOSTS = ("drive.google.com", "docs.google.com")


def download_url(url: str) -> str:
    """Return the download URL for `drive:ID` or for the URL of a file's page on Google Drive; '' for other URLs."""
    file = _file_query(url)
    # `confirm=t` asks for the file even though it was not scanned. If Drive still sends the confirmation page, see
    # `confirmed_url`.
    return f"{DOWNLOAD_URL}?{urllib.parse.urlencode(dict(file, export='download', confirm='t'))}" if file else ""


def is_download_url(url: str) -> bool:
    """Return whether `download_url` made this URL."""
    return url.startswith(DOWNLOAD_URL + "?")


def confirmed_url(page: bytes) -> str:
    """Return the URL that a confirmation page leads to; '' for any other page.

    The page has a form `download-form` with hidden fields, among them `confirm` and `uuid`.
    """
    text = page.decode("utf-8", "replace")
    form = re.search(r"<form\b[^>]*\bdownload-form\b.*?</form>", text, re.IGNORECASE | re.DOTALL)
    if not form:
        return ""
    # Each tag's attributes by name; the first tag is the form itself.
    tags = [dict(re.findall(r"([\w-]+)=[\"']([^\"']*)", tag)) for tag in re.findall(r"<[^>]*>", form.group())]
    fields = [(tag["name"], html.unescape(tag.get("value", ""))) for tag in tags if "name" in tag]
    if not fields:
        return ""
    return f"{html.unescape(tags[0].get('action', ''))}?{urllib.parse.urlencode(fields)}"


def _file_query(url: str) -> Dict[str, str]:
    """Return the query parameters `id` and, if given, `resourcekey` of a file on Google Drive; {} for other URLs."""
    if url.lower().startswith("drive:"):
        return {"id": url[len("drive:") :]}
    parts = urllib.parse.urlsplit(url)
    query = dict(urllib.parse.parse_qsl(parts.query))
    page = re.match(r"/file/(?:u/\d+/)?d/([\w-]+)", parts.path)
    if parts.hostname not in _HOSTS or not (page or "id" in query):
        return {}
    file = {"id": page.group(1) if page else query["id"], "resourcekey": query.get("resourcekey", "")}
    return {name: value for name, value in file.items() if value}
