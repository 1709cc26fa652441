"""`fse inspect`: what it prints of each kind, and what it does with things that nobody has vouched for."""

import io
import json
import os
import struct
import tarfile
import zipfile
from pathlib import Path
from typing import Any, Dict

import numpy as np
import pytest
from conftest import write_crops
from PIL import Image

from fse import cli
from fse.inputs import records
from fse.report import drawing
from fse.runtime import outputs
from fse.tf1 import tf


def encoded(size: Any = (30, 20), kind: Any = "PNG") -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", size, (200, 0, 0)).save(stream, kind)
    return stream.getvalue()


def shown(capsys: pytest.CaptureFixture[str], *arguments: object) -> Dict[str, str]:
    """The lines that `fse inspect` prints, by what they are about."""
    assert cli.main(["inspect", *map(str, arguments)]) == 0
    lines = (line.partition("  ") for line in capsys.readouterr().out.splitlines())
    return {what: value.strip() for what, _, value in lines}


def refused(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """The one line on standard error of a `fse inspect` that fails."""
    assert cli.main(["inspect", *map(str, arguments)]) in (1, 2)
    error = [line for line in capsys.readouterr().err.splitlines() if line and "%|" not in line]
    assert len(error) == 1
    assert error[0].startswith("error: ")
    return error[0]


def color_at(image: Image.Image, tile: int, x: float, y: float) -> np.ndarray:
    """The color at a point (x, y) in [-1, 1] of a tile in the first row, whose side is 160."""
    return np.array(image.getpixel((round(164 * tile + 80 * (x + 1)), round(80 * (y + 1)))))


def test_a_shard_and_its_contact_sheet(capsys: pytest.CaptureFixture[str], few_shards: Path, tmp_path: Path) -> None:
    path = few_shards / "test-00000-of-00002.tfrecord"
    sheet = tmp_path / "sheet.png"
    found = shown(capsys, path, "--sheet", sheet)
    assert found["records in test-00000-of-00002.tfrecord"].startswith("2, ")
    assert found["feature image/encoded"] == "1 bytes"
    assert found["feature landmarks"] == "4 float"
    assert found["feature image/width"] == "1 int64"
    assert found["sizes"].startswith("20")
    with Image.open(str(sheet)) as image:
        assert image.size == (2 * 164 - 4, 160)
        drawn = image.convert("RGB")
    looked_at = 0
    for tile, example in enumerate(records.examples(path)):
        points = np.reshape(example.features.feature["landmarks"].float_list.value, (2, 2))
        for number, (x, y) in enumerate(points):
            radius = 0.045 * 2  # of the ring, in half-widths of the tile
            at = (x + radius, y) if x < 0.8 else (x - radius, y)
            others = np.delete(points, number, axis=0)
            if np.abs(others - [x, y]).max() > 0.4:
                looked_at += 1
                assert np.abs(color_at(drawn, tile, *at) - drawing.colors(2)[number]).max() < 60
    assert looked_at


def test_all_shards_of_a_folder(capsys: pytest.CaptureFixture[str], few_shards: Path, tmp_path: Path) -> None:
    found = shown(capsys, few_shards, "--sheet", tmp_path / "sheet.png")
    assert found["images"] == "13"
    with Image.open(str(tmp_path / "sheet.png")) as image:
        assert image.size == (8 * 164 - 4, 2 * 164 - 4)


def pack(path: Path, files: Dict[str, bytes]) -> Path:
    if path.suffix == ".zip":
        with zipfile.ZipFile(str(path), "w") as package:
            for name, content in files.items():
                package.writestr(name, content)
    else:
        with tarfile.open(str(path), "w:" + ("gz" if path.suffix == ".tgz" else "")) as package:
            for name, content in files.items():
                info = tarfile.TarInfo(name)
                info.size = len(content)
                package.addfile(info, io.BytesIO(content))
    return path


FILES = {
    "set/images/a.png": encoded(),
    "set/images/b.jpg": encoded(kind="JPEG"),
    "set/images/broken.jpg": b"no image",
    "set/landmarks.csv": b"file\na.png\n",
}


@pytest.mark.parametrize("name", ["set.zip", "set.tar", "set.tgz"])
def test_an_archive_and_its_contact_sheet(capsys: pytest.CaptureFixture[str], tmp_path: Path, name: str) -> None:
    path = pack(tmp_path / name, FILES)
    assert cli.main(["inspect", str(path), "--sheet", str(tmp_path / "sheet.png")]) == 0
    text = capsys.readouterr().out
    lines = dict((part.strip() for part in line.split("  ", 1)) for line in text.splitlines() if "  " in line)
    assert (lines["files"], lines["images"]) == ("4", "3")
    assert lines["images in set/images"] == "3"
    assert lines["other files"] == "set/landmarks.csv"
    assert "contact sheet of 2 images" in text
    assert "1 left out: not a JPEG" in text
    with Image.open(str(tmp_path / "sheet.png")) as image:
        assert image.size == (2 * 164 - 4, 160)
        assert image.getpixel((80, 80)) == (200, 0, 0)
        assert image.getpixel((80, 10)) == (255, 255, 255)  # wider than high


def made(folder: Path, stage: str, **facts: object) -> Path:
    """An output of a stage, as far as its manifest goes."""
    folder.mkdir(parents=True, exist_ok=True)
    about: Dict[str, object] = {"content": "", "listing": ""}
    about.update(schema=outputs.SCHEMA, stage=stage, key=folder.name, started="2026", seconds=61.0, bytes=2_000_000)
    about.update({name: {} for name in ("inputs", "covers", "files", "folders")})
    (folder / "manifest.json").write_text(json.dumps(dict(about, **facts)))
    return folder


def test_an_output_with_images(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    crops = write_crops(tmp_path / "crops", 3, 2)
    made(crops, "align-crop", inputs={"download": {}}, counts={"images": 5}, metrics={"share": 0.25}, why="never run")
    found = shown(capsys, crops, "--sheet", tmp_path / "sheet.png")
    assert found["output of"] == "align-crop"
    assert found["made of"] == "download"
    assert (found["took"], found["size"], found["why it ran"]) == ("1 min 1 s", "2.0 MB", "never run")
    assert (found["images"], found["share"], found["image files"]) == ("5", "0.25", "5")
    assert found["splits"] == "test 2, train 3"
    assert found["landmarks"] == "left_eye, right_eye"
    assert (tmp_path / "sheet.png").is_file()


def test_landmarks_in_pixels_are_drawn_where_they_are(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a.png").write_bytes(encoded((40, 20)))
    (tmp_path / "landmarks.csv").write_text("file,eye_x,eye_y\na.png,30,5\n")
    shown(capsys, tmp_path, "--sheet", tmp_path / "sheet.png")
    with Image.open(str(tmp_path / "sheet.png")) as image:
        differs = np.abs(np.asarray(image, int) - [200, 0, 0]).max(axis=2)[40:120]
    rows, columns = np.nonzero(differs > 40)
    middle = (columns.min() + columns.max() + 1) / 2, (rows.min() + rows.max() + 1) / 2
    assert middle == pytest.approx((30 * 4, 5 * 4), abs=1.0)


def test_a_workspace(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    late = made(tmp_path / "artifacts" / "AlignCrop" / "aa", "align-crop", started="2026-02")
    early = made(tmp_path / "artifacts" / "Download" / "bb", "download", started="2026-01")
    (tmp_path / "artifacts" / "Train" / "cc.building").mkdir(parents=True)
    links = tmp_path / "faces" / "stages"
    links.mkdir(parents=True)
    for folder in (late, early, tmp_path / "artifacts" / "Train" / "gone"):
        os.symlink(str(folder), str(links / folder.parent.name))
    found = shown(capsys, tmp_path)
    assert found["experiment faces"] == "2 stages: Download, AlignCrop; lost: Train"
    assert list(found)[2:] == ["Download bb", "AlignCrop aa", "Train cc"]
    assert found["AlignCrop aa"] == "2026-02, 1 min 1 s, 2.0 MB"
    assert found["Train cc"] == "unfinished"
    assert "no image in it" in refused(capsys, tmp_path, "--sheet", tmp_path / "sheet.png")


def test_what_is_none_of_these_is_refused(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    text = tmp_path / "text"
    for content in (b"", b"hello, this is a text and nothing else", b"\xff" * 100):
        text.write_bytes(content)
        assert "text: neither a TFRecord file nor a zip, tar or 7z archive" in refused(capsys, text)
    assert "nowhere: no such file or folder" in refused(capsys, tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    assert "empty: not a workspace" in refused(capsys, tmp_path / "empty")
    assert "no such folder" in refused(capsys, text, "--sheet", tmp_path / "nowhere" / "a.png")
    assert "a folder; name the file" in refused(capsys, text, "--sheet", tmp_path)
    assert not list(tmp_path.glob("*.p*"))


def test_a_damaged_shard_is_refused_wherever_it_is_damaged(
    capsys: pytest.CaptureFixture[str], few_shards: Path, tmp_path: Path
) -> None:
    whole = (few_shards / "test-00000-of-00002.tfrecord").read_bytes()
    path = tmp_path / "bad.tfrecord"
    second = 16 + struct.unpack("<Q", whole[:8])[0]  # a file that ends here is whole
    for place in set(np.linspace(0, len(whole) - 1, 25).astype(int)) - {second}:
        path.write_bytes(whole[:place])
        refused(capsys, path)
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x55]) + whole[place + 1 :])
        refused(capsys, path)
    path.write_bytes(whole + struct.pack("<Q", 1 << 62) + whole)
    assert "truncated or corrupt after 2 records" in refused(capsys, path)


def write_records(path: Path, *values: bytes) -> Path:
    with tf.python_io.TFRecordWriter(str(path)) as writer:
        for value in values:
            writer.write(value)
    return path


def test_records_of_something_else(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = write_records(tmp_path / "a.tfrecord", b"\xff\xff not a message")
    assert "corrupt after 0 records (not a tf.train.Example)" in refused(capsys, path)
    feature = tf.train.Feature(int64_list=tf.train.Int64List(value=[1, 2]))
    example = tf.train.Example(
        features=tf.train.Features(feature={"la\x1b[31mbel": feature, "none": tf.train.Feature()})
    )
    path = write_records(tmp_path / "b.tfrecord", example.SerializeToString())
    found = shown(capsys, path)
    assert found["feature la\\x1b[31mbel"] == "2 int64"
    assert found["feature none"] == "empty"
    assert found["images"] == "0, 1 records without"
    assert "no image in it for a contact sheet" in refused(capsys, path, "--sheet", tmp_path / "sheet.png")


def test_archives_that_are_not_whole_or_leave_their_folder(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = pack(tmp_path / "a.zip", FILES)
    content = path.read_bytes()
    for length in np.linspace(5, len(content) - 1, 10).astype(int):
        path.write_bytes(content[:length])
        assert "truncated or corrupt" in refused(capsys, path)
    assert "leaves the archive's folder" in refused(capsys, pack(tmp_path / "b.zip", {"../a.png": b""}))


def test_names_in_an_archive_cannot_steer_the_terminal(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = pack(tmp_path / "a.zip", {"evil\x1b[2J\n.txt": b"", "b\u202e.csv": b""})
    assert cli.main(["inspect", str(path)]) == 0
    text = capsys.readouterr().out
    assert "\\x1b[2J\\n.txt" in text
    assert "\\u202e" in text
    assert all(one.isprintable() or one == "\n" for one in text)


@pytest.mark.parametrize(
    "content",
    [
        {"bytes": [1], "counts": [], "metrics": {"a": None, "b": True, "c": "\x1b[2J"}, "host": "\x1b[2J"},
        {"bytes": 10**400, "counts": {"\x1b": 10**400}, "inputs": {"\n": {}}, "why": {}, "seconds": float("inf")},
    ],
)
def test_a_manifest_with_odd_values_is_shown_as_it_is(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, content: dict
) -> None:
    made(tmp_path / "out", "train", **content)
    assert cli.main(["inspect", str(tmp_path / "out")]) == 0
    text = capsys.readouterr().out
    assert "unknown" in text
    assert all(one.isprintable() or one == "\n" for one in text)


@pytest.mark.parametrize("content", ["", "[]", "{", '{"schema": 1}'])
def test_a_manifest_that_cannot_be_read_is_said_so(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, content: str
) -> None:
    folder = write_crops(tmp_path / "artifacts" / "AlignCrop" / "aa", 2, 1)
    (folder / "manifest.json").write_text(content)
    found = shown(capsys, folder)
    assert found["output"].startswith("its manifest cannot be read")
    assert found["image files"] == "3"
    assert shown(capsys, tmp_path)["AlignCrop aa"].startswith("its manifest cannot be read")


def test_a_manifest_that_is_nested_without_end(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (made(tmp_path / "out", "train") / "manifest.json").write_text("[" * 200_000)
    assert cli.main(["inspect", str(tmp_path / "out")]) in (0, 1)
    assert "Traceback" not in capsys.readouterr().err
