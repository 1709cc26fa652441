"""`fse inspect`: its summaries and contact sheets, and its errors for untrusted files."""

import io
import struct
import tarfile
import zipfile
from pathlib import Path
from typing import Dict, Sequence, Tuple

import numpy as np
import pytest
from PIL import Image

from fse import cli
from fse.datasets import annotations
from fse.inputs import records
from fse.report import drawing
from fse.tf1 import tf
from tests.fse.crops import write_crops


def encoded(size: Tuple[int, int] = (30, 20), kind: str = "PNG") -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", size, (200, 0, 0)).save(stream, kind)
    return stream.getvalue()


def summary_of(capsys: pytest.CaptureFixture[str], *arguments: object) -> Dict[str, str]:
    """Return the lines that `fse inspect` prints, by their first column."""
    assert cli.main(["inspect", *map(str, arguments)]) == 0
    lines = (line.partition("  ") for line in capsys.readouterr().out.splitlines())
    return {what: value.strip() for what, _, value in lines}


def error_of(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """Return the one line on standard error of an `fse inspect` that fails."""
    assert cli.main(["inspect", *map(str, arguments)]) in (1, 2)
    error = [line for line in capsys.readouterr().err.splitlines() if line and "%|" not in line]
    assert len(error) == 1
    assert error[0].startswith("error: ")
    return error[0]


def color_at(image: Image.Image, tile: int, x: float, y: float) -> np.ndarray:
    """Return the color at a point (x, y) in [-1, 1] of a tile of 160 x 160 pixels in the first row."""
    return np.array(image.getpixel((round(164 * tile + 80 * (x + 1)), round(80 * (y + 1)))))


def assert_points_are_drawn(sheet: Path, landmarks: Sequence[np.ndarray]) -> None:
    """Check for rings in the landmarks' colors around the points [L, 2] of the images in a sheet's first row."""
    with Image.open(sheet) as image:
        drawn = image.convert("RGB")
    checked = 0
    for tile, points in enumerate(landmarks):
        for number, (x, y) in enumerate(points):
            radius = 0.045 * 2  # of the ring, in half-widths of the tile
            at = (x + radius, y) if x < 0.8 else (x - radius, y)
            others = np.delete(points, number, axis=0)
            if np.abs(others - [x, y]).max() > 0.4:  # no other ring overlaps
                checked += 1
                assert np.abs(color_at(drawn, tile, *at) - drawing.colors(2)[number]).max() < 60
    assert checked


def test_a_shard_and_its_contact_sheet(capsys: pytest.CaptureFixture[str], few_shards: Path, tmp_path: Path) -> None:
    path = few_shards / "test-00000-of-00002.tfrecord"
    sheet = tmp_path / "sheet.png"
    summary = summary_of(capsys, path, "--sheet", sheet)
    assert summary["records in test-00000-of-00002.tfrecord"].startswith("2, ")
    assert summary["feature image/encoded"] == "1 bytes"
    assert summary["feature landmarks"] == "4 float"
    assert summary["feature image/width"] == "1 int64"
    assert summary["sizes"].startswith("20")
    with Image.open(sheet) as image:
        assert image.size == (2 * 164 - 4, 160)
    examples = list(records.examples(path))
    landmarks = [np.reshape(example.features.feature["landmarks"].float_list.value, (2, 2)) for example in examples]
    assert_points_are_drawn(sheet, landmarks)


def test_all_shards_of_a_folder(capsys: pytest.CaptureFixture[str], few_shards: Path, tmp_path: Path) -> None:
    summary = summary_of(capsys, few_shards, "--sheet", tmp_path / "sheet.png")
    assert summary["images"] == "13"
    with Image.open(tmp_path / "sheet.png") as image:
        assert image.size == (8 * 164 - 4, 2 * 164 - 4)


def pack(path: Path, files: Dict[str, bytes]) -> Path:
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w") as package:
            for name, content in files.items():
                package.writestr(name, content)
    else:
        with tarfile.open(path, "w:gz") if path.suffix == ".tgz" else tarfile.open(path, "w") as tar:
            for name, content in files.items():
                info = tarfile.TarInfo(name)
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
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
    pairs = (line.partition("  ") for line in text.splitlines() if "  " in line)
    lines = {name.strip(): value.strip() for name, _, value in pairs}
    assert (lines["files"], lines["images"]) == ("4", "3")
    assert lines["images in set/images"] == "3"
    assert lines["other files"] == "set/landmarks.csv"
    assert "contact sheet of 2 images" in text
    assert "1 left out: not a JPEG" in text
    with Image.open(tmp_path / "sheet.png") as image:
        assert image.size == (2 * 164 - 4, 160)
        assert image.getpixel((80, 80)) == (200, 0, 0)
        assert image.getpixel((80, 10)) == (255, 255, 255)  # wider than high


def test_the_output_of_align_crop(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    crops = write_crops(tmp_path / "crops", 3, 2)
    summary = summary_of(capsys, crops, "--sheet", tmp_path / "sheet.png")
    assert summary["image files"] == "5"
    assert summary["splits"] == "test 2, train 3"
    assert summary["landmarks"] == "left_eye, right_eye"
    assert_points_are_drawn(tmp_path / "sheet.png", list(annotations.read(crops / "landmarks.csv").points))


def test_landmarks_in_pixels_are_drawn_at_their_pixels(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a.png").write_bytes(encoded((40, 20)))
    (tmp_path / "landmarks.csv").write_text("file,eye_x,eye_y\na.png,30,5\n")
    summary_of(capsys, tmp_path, "--sheet", tmp_path / "sheet.png")
    with Image.open(tmp_path / "sheet.png") as image:
        differs: np.ndarray = np.abs(np.asarray(image, int) - [200, 0, 0]).max(axis=2)[40:120]
    rows, columns = np.nonzero(differs > 40)
    middle = (np.min(columns) + np.max(columns) + 1) / 2, (np.min(rows) + np.max(rows) + 1) / 2
    assert middle == pytest.approx((30 * 4, 5 * 4), abs=1.0)


def test_other_files_and_folders_are_refused(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    text = tmp_path / "text"
    for content in (b"", b"hello, this is a text and nothing else", b"\xff" * 100):
        text.write_bytes(content)
        assert "text: neither a TFRecord file nor a zip or tar archive" in error_of(capsys, text)
    assert "nowhere: no such file or folder" in error_of(capsys, tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    assert "empty: contains neither images nor TFRecord files" in error_of(capsys, tmp_path / "empty")
    assert "no such folder" in error_of(capsys, text, "--sheet", tmp_path / "nowhere" / "a.png")
    assert "a folder; name the file" in error_of(capsys, text, "--sheet", tmp_path)
    assert not list(tmp_path.glob("*.p*"))


def test_a_shard_is_refused_wherever_it_is_damaged(
    capsys: pytest.CaptureFixture[str], few_shards: Path, tmp_path: Path
) -> None:
    whole = (few_shards / "test-00000-of-00002.tfrecord").read_bytes()
    path = tmp_path / "bad.tfrecord"
    second = 16 + struct.unpack("<Q", whole[:8])[0]  # a file that ends here has one record and is valid
    for place in set(np.linspace(0, len(whole) - 1, 25).astype(int)) - {second}:
        path.write_bytes(whole[:place])
        error_of(capsys, path)
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x55]) + whole[place + 1 :])
        error_of(capsys, path)
    path.write_bytes(whole + struct.pack("<Q", 1 << 62) + whole)
    assert "truncated or corrupt after 2 records" in error_of(capsys, path)


def write_records(path: Path, *values: bytes) -> Path:
    with tf.python_io.TFRecordWriter(str(path)) as writer:
        for value in values:
            writer.write(value)
    return path


def test_records_of_another_format(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = write_records(tmp_path / "a.tfrecord", b"\xff\xff not a message")
    assert "corrupt after 0 records (not a tf.train.Example)" in error_of(capsys, path)
    feature = tf.train.Feature(int64_list=tf.train.Int64List(value=[1, 2]))
    example = tf.train.Example(
        features=tf.train.Features(feature={"la\x1b[31mbel": feature, "none": tf.train.Feature()})
    )
    path = write_records(tmp_path / "b.tfrecord", example.SerializeToString())
    summary = summary_of(capsys, path)
    assert summary["feature la\\x1b[31mbel"] == "2 int64"
    assert summary["feature none"] == "empty"
    assert summary["images"] == "0, 1 records without"
    assert "no image in it for a contact sheet" in error_of(capsys, path, "--sheet", tmp_path / "sheet.png")


def test_truncated_archives_and_paths_outside_the_archive_are_refused(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path = pack(tmp_path / "a.zip", FILES)
    content = path.read_bytes()
    for length in np.linspace(5, len(content) - 1, 10).astype(int):
        path.write_bytes(content[:length])
        assert "truncated or corrupt" in error_of(capsys, path)
    assert "leaves the archive's folder" in error_of(capsys, pack(tmp_path / "b.zip", {"../a.png": b""}))


def test_names_in_an_archive_cannot_control_the_terminal(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = pack(tmp_path / "a.zip", {"evil\x1b[2J\n.txt": b"", "b\u202e.csv": b""})
    assert cli.main(["inspect", str(path)]) == 0
    text = capsys.readouterr().out
    assert "\\x1b[2J\\n.txt" in text
    assert "\\u202e" in text
    assert all(char.isprintable() or char == "\n" for char in text)
