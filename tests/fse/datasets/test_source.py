import hashlib
import http.server
import io
import json
import os
import shutil
import threading
import zipfile
from pathlib import Path

import filelock
import pytest
from PIL import Image

from fse import config, datasets
from fse.datasets import source
from fse.errors import DataError, DownloadError, StageError

PAYLOAD = os.urandom(3_000_000)
DIGEST = hashlib.sha256(PAYLOAD).hexdigest()
FACES = Path(__file__).resolve().parents[4] / "shared" / "data" / "faces.zip"


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves `server.data` as `server.script`, a list of functions, says: one per request, then `serve_well`."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.server.requests.append(dict(self.headers))
        script = self.server.script
        (script.pop(0) if script else serve_well)(self)

    def answer(self, status, headers, body):
        self.send_response(status)
        for name, value in dict({"Content-Length": len(body)}, **headers).items():
            self.send_header(name, str(value))
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)
        self.close_connection = True

    def log_message(self, *arguments):
        pass


def serve_well(handler, end=None, etag='"one"', ranges=True):
    """A server that knows ranges; `end` cuts the connection after that byte of the file."""
    data, start = handler.server.data, 0
    headers = {"ETag": etag, "Last-Modified": "Mon, 23 Nov 2026 00:00:00 GMT"}
    wanted = handler.headers.get("Range")
    if ranges and wanted and handler.headers.get("If-Range") in (etag, headers["Last-Modified"]):
        start = int(wanted[len("bytes=") : -1])
        if start >= len(data):
            return handler.answer(416, {"Content-Range": "bytes */{}".format(len(data))}, b"")
        headers["Content-Range"] = "bytes {}-{}/{}".format(start, len(data) - 1, len(data))
    headers["Content-Length"] = len(data) - start
    return handler.answer(206 if start else 200, headers, data[start:end])


def cut(end, **options):
    return lambda handler: serve_well(handler, end, **options)


def status(code, body=b""):
    return lambda handler: handler.answer(code, {}, body)


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr(source, "PAUSE", 0.001)
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    running = http.server.HTTPServer(("127.0.0.1", 0), Handler)
    running.data, running.script, running.requests = PAYLOAD, [], []
    running.url = "http://127.0.0.1:{}/a/set.zip".format(running.server_port)
    thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield running
    running.shutdown()
    running.server_close()
    thread.join(10)
    assert not thread.is_alive()


def ranges(server):
    return [headers.get("Range") for headers in server.requests]


def test_a_plain_download(server, tmp_path):
    path, digest = source.fetch(server.url, DIGEST.upper(), tmp_path)
    assert path.read_bytes() == PAYLOAD
    assert digest == DIGEST
    assert path.name == hashlib.sha256(server.url.encode()).hexdigest() + ".archive"
    source.fetch(server.url, "", tmp_path)
    assert len(server.requests) == 1  # the second time it was there
    source.discard(server.url, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_cut_download_goes_on_where_it_was(server, tmp_path):
    server.script = [cut(1_000_000), cut(2_500_000)]
    assert source.fetch(server.url, DIGEST, tmp_path)[1] == DIGEST
    assert ranges(server) == [None, "bytes=1000000-", "bytes=2500000-"]
    assert server.requests[1]["If-Range"] == '"one"'


def test_it_goes_on_in_a_later_run(server, tmp_path):
    server.script = [cut(1_000_000)] + [status(503)] * (source.ATTEMPTS - 1)
    with pytest.raises(DownloadError, match=r"503 .*5 times in a row; what came is kept"):
        source.fetch(server.url, DIGEST, tmp_path)
    server.requests.clear()
    assert source.fetch(server.url, DIGEST, tmp_path)[1] == DIGEST
    assert ranges(server) == ["bytes=1000000-"]


def test_attempts_that_bring_something_do_not_count(server, tmp_path):
    server.data = os.urandom(12_000_000)
    server.script = [cut(end) for end in range(1_500_000, 12_000_000, 1_500_000)]
    path, _ = source.fetch(server.url, "", tmp_path)
    assert path.read_bytes() == server.data
    assert len(server.requests) == 8


def test_a_server_without_ranges_begins_anew(server, tmp_path):
    server.script = [cut(1_000_000), cut(None, ranges=False)]
    assert source.fetch(server.url, DIGEST, tmp_path)[1] == DIGEST
    assert ranges(server) == [None, "bytes=1000000-"]


def test_another_file_since_then_begins_anew(server, tmp_path):
    server.script = [cut(1_000_000), cut(None, etag='"two"')]
    assert source.fetch(server.url, DIGEST, tmp_path)[1] == DIGEST


@pytest.mark.parametrize("etag", ['W/"weak"', ""])
def test_weak_tags_give_way_to_the_date(server, tmp_path, etag):
    server.script = [cut(1_000_000, etag=etag)]
    assert source.fetch(server.url, DIGEST, tmp_path)[1] == DIGEST
    assert server.requests[1]["If-Range"] == "Mon, 23 Nov 2026 00:00:00 GMT"


def test_without_a_validator_nothing_is_joined(server, tmp_path):
    server.script = [lambda handler: handler.answer(200, {"Content-Length": len(PAYLOAD)}, PAYLOAD[:1000])]
    assert source.fetch(server.url, DIGEST, tmp_path)[1] == DIGEST
    assert ranges(server) == [None, None]


def test_cut_at_the_very_end(server, tmp_path):
    """The server's 416 tells that nothing is missing."""
    server.script = [cut(1_000_000)] + [status(503)] * (source.ATTEMPTS - 1)
    with pytest.raises(DownloadError):
        source.fetch(server.url, DIGEST, tmp_path)
    (part,) = tmp_path.glob("*.part")
    part.write_bytes(PAYLOAD)
    server.requests.clear()
    assert source.fetch(server.url, DIGEST, tmp_path)[1] == DIGEST
    assert ranges(server) == ["bytes=3000000-"]


@pytest.mark.parametrize(
    "second",
    [
        lambda handler: handler.answer(416, {"Content-Range": "bytes */7"}, b""),
        lambda handler: handler.answer(206, {"Content-Range": "bytes 5-9/3000000"}, PAYLOAD[5:10]),
        lambda handler: handler.answer(206, {}, PAYLOAD[5:10]),
    ],
)
def test_wrong_ranges_begin_anew(server, tmp_path, second):
    server.script = [cut(1_000_000), second]
    assert source.fetch(server.url, DIGEST, tmp_path)[1] == DIGEST
    assert ranges(server) == [None, "bytes=1000000-", None]


def test_a_length_that_nobody_told(server, tmp_path):
    def chunked(handler):
        handler.send_response(200)
        handler.send_header("Transfer-Encoding", "chunked")
        handler.send_header("Connection", "close")
        handler.end_headers()
        handler.wfile.write(b"%x\r\n%s\r\n0\r\n\r\n" % (len(PAYLOAD), PAYLOAD))
        handler.close_connection = True

    server.script = [chunked]
    assert source.fetch(server.url, DIGEST, tmp_path)[1] == DIGEST


def test_what_the_server_says_it_compressed_is_kept_as_it_came(server, tmp_path):
    server.script = [lambda handler: handler.answer(200, {"Content-Encoding": "gzip"}, PAYLOAD)]
    assert source.fetch(server.url, DIGEST, tmp_path)[1] == DIGEST


def test_a_wrong_checksum_names_both_and_deletes(server, tmp_path):
    with pytest.raises(DownloadError, match="the download was deleted") as caught:
        source.fetch(server.url, "0" * 64, tmp_path)
    assert DIGEST in str(caught.value)
    assert "0" * 64 in str(caught.value)
    assert not list(tmp_path.glob("*.archive")) + list(tmp_path.glob("*.part"))


def test_an_answer_of_no(server, tmp_path):
    server.script = [status(404)]
    with pytest.raises(DownloadError, match=r"set\.zip: the server answered 404 .*dataset\.archive"):
        source.fetch(server.url, "", tmp_path)
    assert len(server.requests) == 1


def test_server_errors_are_tried_again(server, tmp_path):
    server.script = [status(500), status(503), status(429), status(200)]
    assert source.fetch(server.url, DIGEST, tmp_path)[1] == DIGEST
    assert len(server.requests) == 5


@pytest.mark.parametrize(
    "body", [b"<!DOCTYPE html><title>Quota  &amp; more</title>", b"\n <html>", b"<?xml version='1.0'?>"]
)
def test_a_web_page_is_no_archive(server, tmp_path, body):
    server.script = [cut(1_000_000), status(200, body)]
    with pytest.raises(DownloadError, match=r"a web page.*instead of an archive") as caught:
        source.fetch(server.url, "", tmp_path)
    assert ("Quota  & more" in str(caught.value)) == (b"Quota" in body)
    assert [file.stat().st_size for file in tmp_path.glob("*.part")] == [1_000_000]  # what had come is not lost


def test_nobody_answers(tmp_path, server):
    server.server_close()
    with pytest.raises(DownloadError, match=r"Connection refused.*5 times") as caught:
        source.fetch(server.url.replace("://", "://me:secret@") + "?token=secret", "", tmp_path)
    assert "secret" not in str(caught.value)
    with pytest.raises(DownloadError, match="not a valid address"):
        source.fetch("http://:99999/", "", tmp_path)


def test_a_server_that_falls_asleep(tmp_path, server, monkeypatch):
    monkeypatch.setattr(source, "TIMEOUT", (1.0, 0.05))
    awake = threading.Event()
    server.script = [lambda handler: awake.wait(10)]
    monkeypatch.setattr(source, "ATTEMPTS", 1)
    with pytest.raises(DownloadError, match="no answer within 1 seconds"):
        source.fetch(server.url, "", tmp_path)
    awake.set()


def test_two_at_once(tmp_path, server, monkeypatch):
    real = filelock.FileLock
    monkeypatch.setattr(filelock, "FileLock", lambda path, timeout: real(path, timeout=0.05))
    with real(str(source._stem(server.url, tmp_path)) + ".lock"), pytest.raises(StageError, match="another process"):
        source.fetch(server.url, "", tmp_path)


def test_paths_are_used_where_they_are(tmp_path):
    path = tmp_path / "a set.zip"
    path.write_bytes(PAYLOAD)
    for address in (str(path), "file://" + str(path).replace(" ", "%20"), path.as_uri()):
        assert source.fetch(address, DIGEST, tmp_path) == (path, DIGEST)
    assert source.fetch(str(tmp_path), "", tmp_path) == (tmp_path, None)
    with pytest.raises(DownloadError, match=DIGEST):
        source.fetch(str(path), "1" * 64, tmp_path)
    assert path.exists()


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("/no/such/set.zip", r"/no/such/set\.zip: no such file or folder; dataset\.archive"),
        ("file:///no/such/set.zip", r"/no/such/set\.zip: no such file"),
        ("file://relative/set.zip", "three slashes"),
        ("s3://me:secret@bucket/set.zip", "dataset.archive s3://bucket/set.zip: s3:// is not supported"),
    ],
)
def test_addresses_that_lead_nowhere(tmp_path, address, message):
    with pytest.raises(DataError, match=message):
        source.fetch(address, "", tmp_path)


def test_a_folder_has_no_checksum(tmp_path):
    with pytest.raises(DataError, match="no checksum"):
        source.fetch(str(tmp_path), DIGEST, tmp_path)


# The Download stage ----------------------------------------------------------------------------------------------------


def picture():
    stream = io.BytesIO()
    Image.new("RGB", (20, 20)).save(stream, "PNG")
    return stream.getvalue()


def files(wrap=""):
    table = "file,split,nose_x,nose_y\na.png,train,1,2\nsub/b.PNG,test,3,4\nmissing.png,train,1,1\n"
    return {
        wrap + "images/a.png": picture(),
        wrap + "images/sub/b.PNG": picture(),
        wrap + "images/c.png": picture(),
        wrap + "images/notes.txt": b"not a picture",
        wrap + "landmarks.csv": table.encode(),
        wrap + "README": b"read me",
    }


def write(folder, contents):
    for name, data in contents.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


def zipped(contents):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as package:
        for name, data in contents.items():
            package.writestr(name, data)
    return stream.getvalue()


def settings(archive, **values):
    return config.from_tables({"dataset": dict({"name": "mine", "archive": str(archive)}, **values)})


def contents(folder):
    return sorted(str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file())


WANTED = ["dataset.json", "images/a.png", "images/c.png", "images/sub/b.PNG", "landmarks.csv"]


@pytest.mark.parametrize("wrap", ["", "wrapper/"])
@pytest.mark.parametrize("kind", ["zip", "folder"])
def test_download_of_an_archive_or_a_folder(tmp_path, wrap, kind):
    if kind == "zip":
        path = tmp_path / "set.zip"
        path.write_bytes(zipped(files(wrap)))
    else:
        path = write(tmp_path / "set", files(wrap))
    datasets.download(settings(path), tmp_path / "work" / "out")
    assert contents(tmp_path / "work") == ["out/" + name for name in WANTED]
    assert json.loads((tmp_path / "work" / "out" / "dataset.json").read_text()) == {
        "name": "mine",
        "pictures": 3,
        "splits": {"train": 1, "test": 1},
        "landmarks": ["nose"],
        "source": path.name,
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest() if kind == "zip" else None,
    }


def test_download_over_http_leaves_nothing_else(server, tmp_path):
    server.data = zipped(files())
    url = server.url + "?token=secret"
    datasets.download(settings(url), tmp_path / "work" / "out")
    assert contents(tmp_path / "work") == ["out/" + name for name in WANTED]
    assert json.loads((tmp_path / "work" / "out" / "dataset.json").read_text())["source"] == server.url


def test_download_keeps_what_a_later_attempt_can_use(server, tmp_path):
    server.data = zipped(files())
    with pytest.raises(DataError, match=r"no pictures .* below folder 'faces'; .*folders: \., images, images/sub"):
        datasets.download(settings(server.url, images="faces"), tmp_path / "out1", tmp_path / "cache")
    datasets.download(settings(server.url), tmp_path / "out2", tmp_path / "cache")
    assert len(server.requests) == 1
    server.data = server.data[:-30]
    for number in (3, 4):
        with pytest.raises(DataError, match="truncated or corrupt"):
            datasets.download(settings(server.url), tmp_path / "out{}".format(number), tmp_path / "cache")
    assert len(server.requests) == 3


def test_download_without_annotations(tmp_path):
    path = write(tmp_path / "set", {"images/a.png": picture()})
    datasets.download(settings(path), tmp_path / "out")
    assert contents(tmp_path / "out") == ["dataset.json", "images/a.png"]
    summary = json.loads((tmp_path / "out" / "dataset.json").read_text())
    assert summary["splits"] == {"train": 1, "test": 0}
    assert summary["landmarks"] == []
    with pytest.raises(DataError, match=r"no annotation file 'points\.csv'"):
        datasets.download(settings(path, annotations="points.csv"), tmp_path / "out2")


def test_download_of_other_names(tmp_path):
    table = b"file,nose_x,nose_y\na.png,1,2\n"
    path = write(tmp_path / "set", {"img/celeb/a.png": picture(), "img/b.png": b"", "list/points.csv": table})
    datasets.download(settings(path, images="img/celeb", annotations="list/points.csv"), tmp_path / "out")
    assert contents(tmp_path / "out") == ["dataset.json", "images/a.png", "landmarks.csv"]
    (tmp_path / "a.zip").write_bytes(zipped({"a.png": picture(), "landmarks.csv": table}))
    datasets.download(settings(tmp_path / "a.zip", images="."), tmp_path / "out2")
    assert contents(tmp_path / "out2") == ["dataset.json", "images/a.png", "landmarks.csv"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"landmarks.csv": b"file,nose_x\na.png,1\n"}, "'nose_x' wants a column"),
        ({"landmarks.csv": b"file\nimages/a.png\n"}, "none of the files it names is below 'images': images/a.png"),
        ({"images/a.png": None, "images/c.png": None, "images/sub/b.PNG": None}, "no pictures"),
    ],
)
@pytest.mark.parametrize("kind", ["zip", "folder"])
def test_download_of_data_sets_that_are_none(tmp_path, change, message, kind):
    changed = {name: data for name, data in dict(files(), **change).items() if data is not None}
    path = tmp_path / "set"
    if kind == "zip":
        path.write_bytes(zipped(changed))
    else:
        write(path, changed)
    with pytest.raises(DataError, match=message):
        datasets.download(settings(path), tmp_path / "out")


def test_download_into_a_place_that_cannot_be_written(tmp_path):
    path = write(tmp_path / "set", files())
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StageError, match="cannot be written to"):
        datasets.download(settings(path), tmp_path / "file" / "out")


def test_download_renders_the_synthetic_data(tmp_path):
    tables = {"dataset": {"train": 3, "test": 2, "size": 32}}
    datasets.download(config.from_tables(tables), tmp_path / "out")
    summary = json.loads((tmp_path / "out" / "dataset.json").read_text())
    assert (summary["pictures"], summary["splits"]) == (5, {"train": 3, "test": 2})
    assert (summary["source"], summary["sha256"]) == ("synthetic", None)
    assert "left_eye" in summary["landmarks"]


@pytest.mark.skipif(not FACES.is_file(), reason="no ../shared/data/faces.zip beside the repository")
def test_download_of_real_faces(tmp_path):
    digest = FACES.with_suffix(".zip.sha256").read_text().split()[0]
    datasets.download(settings(FACES, sha256=digest), tmp_path / "out")
    summary = json.loads((tmp_path / "out" / "dataset.json").read_text())
    assert summary["splits"] == {"train": 3716, "test": 991}
    shutil.rmtree(str(tmp_path / "out"))
