from pathlib import Path
from typing import List

import pytest

from fse.datasets import google_drive
from fse.errors import DownloadError
from tests.fse.datasets.web_server import DIGEST, QUOTA_PAGE, Answer, Server, cut, fetch, status

CONFIRMATION_PAGE = """<!DOCTYPE html><html><head><title>Google Drive - Virus scan warning</title></head><body>
<p class="uc-warning-subcaption"><a href="/open?id=ID">set.zip</a> (1.3G) is too large for Google to scan for viruses.</p>
<form id="download-form" action="{}" method="get"><input type="submit" id="uc-download-link" value="Download anyway"/>
<input type="hidden" name="id" value="ID"><input type="hidden" name="export" value="download"><input type="hidden"
name="authuser" value="0"><input type="hidden" name="confirm" value="t"><input type="hidden" name="uuid" value="a-1&amp;b">
</form></body></html>"""


@pytest.fixture
def drive(server: Server, monkeypatch: pytest.MonkeyPatch) -> Server:
    """Let the test server stand for Google Drive."""
    monkeypatch.setattr(google_drive, "DOWNLOAD_URL", server.root + "/a/download")
    return server


def confirmation_page() -> Answer:
    return status(200, CONFIRMATION_PAGE.format(google_drive.DOWNLOAD_URL).encode())


@pytest.mark.parametrize(
    ("url", "query"),
    [
        ("drive:ID", "id=ID"),
        ("https://drive.google.com/file/d/ID/view?usp=sharing", "id=ID"),
        ("https://drive.google.com/file/u/0/d/ID/view?usp=sharing&resourcekey=0-k", "id=ID&resourcekey=0-k"),
        ("https://drive.google.com/open?id=ID", "id=ID"),
        ("https://docs.google.com/uc?export=download&id=ID", "id=ID"),
    ],
)
def test_files_are_requested_from_the_download_url(drive: Server, tmp_path: Path, url: str, query: str) -> None:
    assert fetch(url, DIGEST, tmp_path)[1] == DIGEST
    assert drive.paths == ["/a/download?" + query + "&export=download&confirm=t"]


def test_each_request_of_a_large_file_is_confirmed(drive: Server, tmp_path: Path) -> None:
    drive.script = [confirmation_page(), cut(1_000_000), confirmation_page()]
    assert fetch("drive:ID", DIGEST, tmp_path)[1] == DIGEST
    assert drive.paths[1::2] == ["/a/download?id=ID&export=download&authuser=0&confirm=t&uuid=a-1%26b"] * 2
    assert drive.ranges[2:] == ["bytes=1000000-"] * 2


@pytest.mark.parametrize("script", [[QUOTA_PAGE], [CONFIRMATION_PAGE, QUOTA_PAGE]])
def test_quota_page_is_an_error(drive: Server, tmp_path: Path, script: List[str]) -> None:
    drive.script = [cut(1_000_000)]
    drive.script += [status(200, page.format(google_drive.DOWNLOAD_URL).encode()) for page in script]
    message = r"drive:ID: the server sent a web page \('Google Drive - Quota exceeded'\)"
    with pytest.raises(DownloadError, match=message):
        fetch("drive:ID", DIGEST, tmp_path)
    assert [file.stat().st_size for file in tmp_path.glob("*.part")] == [1_000_000]


def test_second_confirmation_page_is_an_error(drive: Server, tmp_path: Path) -> None:
    drive.script = [confirmation_page()] * 5
    with pytest.raises(DownloadError, match="a web page .*Virus scan warning"):
        fetch("drive:ID", DIGEST, tmp_path)
    assert len(drive.requests) == 2


@pytest.mark.parametrize(
    "page",
    ["<form id=download-form", "<form id='download-form'></form>", CONFIRMATION_PAGE.format("file:///x")],
    ids=["truncated", "empty", "file"],
)
def test_unusual_pages_are_errors(drive: Server, tmp_path: Path, page: str) -> None:
    drive.script = [status(200, page.encode())]
    with pytest.raises(DownloadError):
        fetch("drive:ID", DIGEST, tmp_path)


def test_forms_of_other_servers_are_not_sent(server: Server, tmp_path: Path) -> None:
    server.script = [status(200, CONFIRMATION_PAGE.format(server.url).encode())]
    with pytest.raises(DownloadError, match="a web page"):
        fetch(server.url, DIGEST, tmp_path)
    assert len(server.requests) == 1
