import threading
import time
from pathlib import Path
from typing import Any, Dict, List

import pytest

from fse import config
from fse.datasets import celeba, celeba_wild, source
from fse.datasets.spec import SourceFile
from fse.errors import DataError, DownloadError
from tests.fse.datasets.web_server import (
    DIGEST,
    PAYLOAD,
    QUOTA_PAGE,
    Handler,
    Server,
    body_until_close,
    fetch,
    serve_ranges,
    status,
    trickle,
)

FILE = SourceFile("set.zip", len(PAYLOAD), DIGEST, folder="set")


def obtain(server: Server, tmp_path: Path, file: SourceFile = FILE, **settings: Any) -> Path:
    """Obtain a file of a known data set from the test server as a mirror."""
    options: Dict[str, Any] = {"mirrors": (server.root + "/a",), **settings}
    return source.obtain_file(file, config.Download(**options), tmp_path, "https://page", 10**9)


# `dataset.archive` -----------------------------------------------------------------------------------------------------


def test_local_paths_are_used_where_they_are(tmp_path: Path) -> None:
    path = tmp_path / "a set.zip"
    path.write_bytes(PAYLOAD)
    for archive in (str(path), "file://" + str(path).replace(" ", "%20"), path.as_uri()):
        assert fetch(archive, DIGEST, tmp_path) == (path, DIGEST)
    assert fetch(str(tmp_path), "", tmp_path) == (tmp_path, None)
    with pytest.raises(DownloadError, match=DIGEST):
        fetch(str(path), "1" * 64, tmp_path)
    assert path.exists()


@pytest.mark.parametrize(
    ("archive", "message"),
    [
        ("/no/such/set.zip", r"/no/such/set\.zip: no such file or folder; correct dataset\.archive"),
        ("file:///no/such/set.zip", r"/no/such/set\.zip: no such file"),
        ("file://relative/set.zip", "three slashes"),
        ("s3://me:secret@bucket/set.zip", "dataset.archive s3://bucket/set.zip: s3:// is not supported"),
    ],
)
def test_unusable_archive_settings(tmp_path: Path, archive: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        fetch(archive, "", tmp_path)


def test_folder_has_no_checksum(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no checksum"):
        fetch(str(tmp_path), DIGEST, tmp_path)


def test_wrong_checksum_deletes_the_download(server: Server, tmp_path: Path) -> None:
    with pytest.raises(DownloadError, match="the download was deleted") as caught:
        fetch(server.url, "0" * 64, tmp_path)
    assert DIGEST in str(caught.value)
    assert "0" * 64 in str(caught.value)
    assert not list(tmp_path.glob("*.archive")) + list(tmp_path.glob("*.part"))


# Files of known data sets ----------------------------------------------------------------------------------------------


def test_known_file_is_downloaded_once(server: Server, tmp_path: Path) -> None:
    path = obtain(server, tmp_path)
    assert path.read_bytes() == PAYLOAD
    assert path.name == "set.zip"
    assert obtain(server, tmp_path) == path
    assert len(server.requests) == 1


def test_next_mirror_is_tried_after_a_failure(server: Server, tmp_path: Path) -> None:
    server.script = [status(404)]
    obtain(server, tmp_path, mirrors=(server.root + "/one/?key=1", server.root + "/two"))
    assert server.paths == ["/one/set.zip?key=1", "/two/set.zip"]
    (tmp_path / "downloads" / "set.zip").unlink()
    file = SourceFile("set.zip", len(PAYLOAD), DIGEST, urls=(server.url,), folder="set")
    server.script = [status(200, PAYLOAD[:-1] + b"!"), status(200, QUOTA_PAGE.encode())]
    obtain(server, tmp_path, file, mirrors=(server.root + "/one", server.root + "/two"))
    assert server.paths[-1] == "/a/set.zip"


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (PAYLOAD[:-1] + b"!", "its sha256 is .*, expected " + DIGEST),
        (PAYLOAD[:-1], "the server has a file of 2,999,999 bytes, expected 3,000,000"),
        (PAYLOAD + b"!", "the server has a file of 3,000,001 bytes, expected 3,000,000"),
        (QUOTA_PAGE.encode(), "a web page .*Quota exceeded"),
    ],
    ids=["hash", "short", "long", "page"],
)
def test_file_that_differs_is_not_kept(server: Server, tmp_path: Path, body: bytes, message: str) -> None:
    server.script = [status(200, body)]
    with pytest.raises(DownloadError, match=r"set\.zip, http.*" + message):
        obtain(server, tmp_path)
    assert not [path for path in (tmp_path / "downloads").iterdir() if path.suffix in (".archive", ".part", ".zip")]


def test_longer_file_than_known_is_not_read_to_its_end(server: Server, tmp_path: Path) -> None:
    server.script = [body_until_close(PAYLOAD + b"more", {})]
    with pytest.raises(DownloadError, match="more than 3,000,000 bytes; expected 3,000,000"):
        obtain(server, tmp_path)


def test_known_length_resumes_a_response_without_length(server: Server, tmp_path: Path) -> None:
    server.script = [body_until_close(PAYLOAD[:1_000_000], {"ETag": '"one"'})]
    assert obtain(server, tmp_path).read_bytes() == PAYLOAD
    assert server.ranges == [None, "bytes=1000000-"]


def test_timeout_is_for_all_mirrors_together(server: Server, tmp_path: Path) -> None:
    server.script = [trickle] * 3
    began = time.monotonic()
    with pytest.raises(DownloadError, match="has expired.*has expired.*has expired"):
        obtain(server, tmp_path, mirrors=tuple(f"{server.root}/{number}" for number in range(3)), timeout=1.0)
    assert time.monotonic() - began < 5


def test_concurrent_download_waits_and_reuses_the_result(tmp_path: Path, server: Server) -> None:
    proceed = threading.Event()

    def slow(handler: Handler) -> None:
        proceed.wait(10)
        serve_ranges(handler)

    server.script = [slow]
    paths: List[Path] = []
    first, second = (threading.Thread(target=lambda: paths.append(obtain(server, tmp_path))) for _ in range(2))
    first.start()
    while not server.requests:
        time.sleep(0.01)
    second.start()
    time.sleep(0.2)
    proceed.set()
    for thread in (first, second):
        thread.join(10)
    assert paths == [tmp_path / "downloads" / "set.zip"] * 2
    assert len(server.requests) == 1


def test_local_file_with_the_right_size_and_another_content(tmp_path: Path) -> None:
    (tmp_path / "testing.txt").write_text("000009.jpg\n000002.jpg")
    file = SourceFile("testing.txt", size=21, hash="0" * 64)
    with pytest.raises(DataError, match="its sha256 is .*, expected 0000"):
        source.obtain_file(file, config.Download(str(tmp_path)), tmp_path, "page", 0)


# Split 7z archives, of which only the unpacked folder is used ----------------------------------------------------------


def instructions(tmp_path: Path) -> str:
    return source.manual_instructions(
        [celeba_wild.IMAGES], config.Download(str(tmp_path)), celeba.HOMEPAGE, celeba.TERMS
    )


def test_missing_7z_archive(tmp_path: Path) -> None:
    assert source.unavailable_files([celeba_wild.IMAGES], config.Download(str(tmp_path))) == [celeba_wild.IMAGES]
    assert instructions(tmp_path) == (
        f"img_celeba.7z.001 and all volumes after it: download by hand from {celeba.HOMEPAGE} ({celeba.TERMS}) and put into "
        f"{tmp_path}; unpack it there with `7z x img_celeba.7z.001`, which makes the folder 'img_celeba'"
    )


def test_incomplete_7z_archive(tmp_path: Path) -> None:
    assert celeba_wild.IMAGES.size == 10_191_072_466
    for number in (1, 2, 4):
        (tmp_path / f"img_celeba.7z.00{number}").write_bytes(b"1234567")
    message = (
        "img_celeba.7z.001: 14 bytes in 2 volumes, expected 10,191,072,466; download all of img_celeba.7z.001 from "
    )
    assert message in instructions(tmp_path)


def test_complete_7z_archive_has_to_be_unpacked(tmp_path: Path) -> None:
    (tmp_path / "Img").mkdir()
    with open(tmp_path / "Img" / "img_celeba.7z.001", "wb") as stream:
        stream.truncate(celeba_wild.IMAGES.size)
    settings = config.Download(str(tmp_path))
    assert source.find_local(celeba_wild.IMAGES, str(tmp_path)) is None
    assert source.unavailable_files([celeba_wild.IMAGES], settings) == [celeba_wild.IMAGES]
    assert instructions(tmp_path).endswith(
        f"unpack it with `7z x -o{tmp_path}/Img {tmp_path}/Img/img_celeba.7z.001`, which makes the folder 'img_celeba'"
    )


def test_unpacked_folder_replaces_the_7z_archive(tmp_path: Path) -> None:
    (tmp_path / "img_celeba.7z.001").write_bytes(b"7z")
    (tmp_path / "Img" / "img_celeba").mkdir(parents=True)
    settings = config.Download(str(tmp_path))
    assert source.find_local(celeba_wild.IMAGES, str(tmp_path)) == tmp_path / "Img" / "img_celeba"
    assert source.unavailable_files([celeba_wild.IMAGES], settings) == []
    folder = source.obtain_file(celeba_wild.IMAGES, settings, tmp_path, "page", 0)
    assert folder == tmp_path / "Img" / "img_celeba"
