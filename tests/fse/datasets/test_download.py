"""The Download stage with data sets of the user's own; for the known ones see `test_known_download.py`."""

import hashlib
import io
import json
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any, Dict, List, Optional

import pytest
from PIL import Image

from fse import cli, config
from fse.datasets import download
from fse.errors import EXIT_MACHINE, DataError, StageError
from tests.fse.datasets.web_server import PAYLOAD, Server

FACES = Path(__file__).resolve().parents[4] / "shared" / "data" / "faces.zip"


def image() -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (20, 20)).save(stream, "PNG")
    return stream.getvalue()


def files(wrap: str = "") -> Dict[str, bytes]:
    """Return the files of a small data set; `wrap` is a folder around all of them."""
    table = "file,split,nose_x,nose_y\na.png,train,1,2\nsub/b.PNG,test,3,4\nmissing.png,train,1,1\n"
    return {
        wrap + "images/a.png": image(),
        wrap + "images/sub/b.PNG": image(),
        wrap + "images/c.png": image(),
        wrap + "images/notes.txt": b"not an image",
        wrap + "landmarks.csv": table.encode(),
        wrap + "README": b"read me",
    }


def write(folder: Path, contents: Dict[str, bytes]) -> Path:
    for name, data in contents.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


def zipped(contents: Dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", compression) as package:
        for name, data in contents.items():
            package.writestr(name, data)
    return stream.getvalue()


def settings(archive: object, **values: Any) -> config.Config:
    return config.from_tables({"dataset": dict({"name": "mine", "archive": str(archive)}, **values)})


def contents(folder: Path) -> List[str]:
    return sorted(str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file())


EXPECTED = ["dataset.json", "images/a.png", "images/c.png", "images/sub/b.PNG", "landmarks.csv"]


@pytest.mark.parametrize("wrap", ["", "wrapper/"])
@pytest.mark.parametrize("kind", ["zip", "folder"])
def test_archive_or_folder(tmp_path: Path, wrap: str, kind: str) -> None:
    if kind == "zip":
        path = tmp_path / "set.zip"
        path.write_bytes(zipped(files(wrap)))
    else:
        path = write(tmp_path / "set", files(wrap))
    download.download(settings(path), tmp_path / "work" / "out")
    assert contents(tmp_path / "work") == ["out/" + name for name in EXPECTED]
    assert json.loads((tmp_path / "work" / "out" / "dataset.json").read_text()) == {
        "name": "mine",
        "images": 3,
        "splits": {"train": 1, "test": 1},
        "landmarks": ["nose"],
        "source": path.name,
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest() if kind == "zip" else None,
    }


def test_download_over_http_leaves_no_other_files(server: Server, tmp_path: Path) -> None:
    server.data = zipped(files())
    url = server.url + "?token=secret"
    download.download(settings(url), tmp_path / "work" / "out")
    assert contents(tmp_path / "work") == ["out/" + name for name in EXPECTED]
    assert json.loads((tmp_path / "work" / "out" / "dataset.json").read_text())["source"] == server.url


def test_later_attempt_reuses_the_download(server: Server, tmp_path: Path) -> None:
    server.data = zipped(files())
    with pytest.raises(DataError, match=r"no images .* below folder 'faces'; .*folders: \., images, images/sub"):
        download.download(settings(server.url, images="faces"), tmp_path / "out1", tmp_path / "cache")
    download.download(settings(server.url), tmp_path / "out2", tmp_path / "cache")
    assert len(server.requests) == 1
    with pytest.raises(DataError, match="more than 2 entries"):
        download.download(settings(server.url + "2", max_files=2), tmp_path / "out3", tmp_path / "cache")
    download.download(settings(server.url + "2"), tmp_path / "out4", tmp_path / "cache")
    assert len(server.requests) == 2
    server.data = server.data[:-30]
    for number in (5, 6):
        with pytest.raises(DataError, match="truncated or corrupt"):
            download.download(settings(server.url), tmp_path / f"out{number}", tmp_path / "cache")
    assert len(server.requests) == 4


def test_images_without_annotations(tmp_path: Path) -> None:
    path = write(tmp_path / "set", {"images/a.png": image()})
    download.download(settings(path), tmp_path / "out")
    assert contents(tmp_path / "out") == ["dataset.json", "images/a.png"]
    summary = json.loads((tmp_path / "out" / "dataset.json").read_text())
    assert summary["splits"] == {"train": 1, "test": 0}
    assert summary["landmarks"] == []
    with pytest.raises(DataError, match=r"no annotation file 'points\.csv'"):
        download.download(settings(path, annotations="points.csv"), tmp_path / "out2")


def test_other_names_of_images_and_annotations(tmp_path: Path) -> None:
    table = b"file,nose_x,nose_y\na.png,1,2\n"
    path = write(tmp_path / "set", {"img/celeb/a.png": image(), "img/b.png": b"", "list/points.csv": table})
    download.download(settings(path, images="img/celeb", annotations="list/points.csv"), tmp_path / "out")
    assert contents(tmp_path / "out") == ["dataset.json", "images/a.png", "landmarks.csv"]
    (tmp_path / "a.zip").write_bytes(zipped({"a.png": image(), "landmarks.csv": table}))
    download.download(settings(tmp_path / "a.zip", images="."), tmp_path / "out2")
    assert contents(tmp_path / "out2") == ["dataset.json", "images/a.png", "landmarks.csv"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"landmarks.csv": b"file,nose_x\na.png,1\n"}, "column 'nose_x' has no column 'nose_y'"),
        ({"landmarks.csv": b"file\nimages/a.png\n"}, "none of the files it names is below 'images': images/a.png"),
        ({"images/a.png": None, "images/c.png": None, "images/sub/b.PNG": None}, "no images"),
    ],
)
@pytest.mark.parametrize("kind", ["zip", "folder"])
def test_invalid_data_sets(tmp_path: Path, change: Dict[str, Optional[bytes]], message: str, kind: str) -> None:
    changed = {name: data for name, data in {**files(), **change}.items() if data is not None}
    path = tmp_path / "set"
    if kind == "zip":
        path.write_bytes(zipped(changed))
    else:
        write(path, changed)
    with pytest.raises(DataError, match=message):
        download.download(settings(path), tmp_path / "out")


def test_output_that_cannot_be_written(tmp_path: Path) -> None:
    path = write(tmp_path / "set", files())
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StageError, match="cannot be written to"):
        download.download(settings(path), tmp_path / "file" / "out")


def test_synthetic_data_is_rendered(tmp_path: Path) -> None:
    tables = {"dataset": {"train": 3, "test": 2, "size": 32}}
    download.download(config.from_tables(tables), tmp_path / "out")
    summary = json.loads((tmp_path / "out" / "dataset.json").read_text())
    assert (summary["images"], summary["splits"]) == (5, {"train": 3, "test": 2})
    assert (summary["source"], summary["sha256"]) == ("synthetic", None)
    assert "left_eye" in summary["landmarks"]


@pytest.mark.skipif(not FACES.is_file(), reason="no ../shared/data/faces.zip beside the repository")
def test_real_faces(tmp_path: Path) -> None:
    digest = FACES.with_suffix(".zip.sha256").read_text().split()[0]
    download.download(settings(FACES, sha256=digest), tmp_path / "out")
    summary = json.loads((tmp_path / "out" / "dataset.json").read_text())
    assert summary["splits"] == {"train": 3716, "test": 991}
    shutil.rmtree(tmp_path / "out")


# A full disk -----------------------------------------------------------------------------------------------------------


LIMITED = """
import resource, signal, sys
from fse import cli
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, resource.RLIM_INFINITY))
sys.exit(cli.main(sys.argv[1:]))
"""


def test_full_disk_during_the_download_keeps_the_received_bytes(server: Server, tmp_path: Path) -> None:
    """The limit of a file's length stands for a full disk."""
    server.data = zipped(dict(files(), **{"images/large.png": PAYLOAD}))
    settings = f"dataset.name=mine,dataset.archive={server.url}"
    command = ["download", "--set", settings, "--output", str(tmp_path / "out")]
    done = subprocess.run([sys.executable, "-c", LIMITED, *command], stderr=subprocess.PIPE, text=True, timeout=100)
    assert done.returncode == EXIT_MACHINE, done.stderr
    assert "Traceback" not in done.stderr
    assert f"set.zip: cannot be written into {tmp_path}: File too large; 1,000,000 of 3,00" in done.stderr
    assert "bytes were received and are kept; run again to resume" in done.stderr
    assert cli.main(command) == 0
    assert server.ranges == [None, "bytes=1000000-"]
    assert (tmp_path / "out" / "images" / "large.png").read_bytes() == PAYLOAD
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out"]


def test_full_disk_while_unpacking_keeps_the_download(server: Server, tmp_path: Path) -> None:
    server.data = zipped(dict(files(), **{"images/large.png": bytes(3_000_000)}), zipfile.ZIP_DEFLATED)
    settings = f"dataset.name=mine,dataset.archive={server.url}"
    command = ["download", "--set", settings, "--output", str(tmp_path / "out")]
    done = subprocess.run([sys.executable, "-c", LIMITED, *command], stderr=subprocess.PIPE, text=True, timeout=100)
    assert done.returncode == EXIT_MACHINE, done.stderr
    assert re.search(r"archive: cannot be unpacked into .*: File too large", done.stderr)
    assert not (tmp_path / "out").exists()
    assert cli.main(command) == 0
    assert len(server.requests) == 1
    assert (tmp_path / "out" / "images" / "large.png").stat().st_size == 3_000_000
