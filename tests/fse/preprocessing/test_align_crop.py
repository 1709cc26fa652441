import dataclasses
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, List

import numpy as np
import pytest
from PIL import Image

from fse import config, geometry
from fse.datasets import download
from fse.errors import DataError, StageError
from fse.preprocessing import align_crop, crop_image
from tests.fse.preprocessing.dotted import (
    FACE,
    NAMES,
    DatasetRow,
    dot_near,
    dotted,
    exact_dot_near,
    image_of,
    points_of,
    read_table,
    rotation,
    settings,
    write_dataset,
    write_faces,
)

FACES = Path(__file__).resolve().parents[4] / "shared" / "data" / "faces.zip"


@pytest.mark.parametrize(
    "values",
    [
        {"mode": "center", "scale": 0.9, "shift": [0.02, -0.03]},
        {"mode": "center", "margins": [3, 8, 0, 1]},
        {"mode": "squash"},
        {"mode": "squash", "margins": [11, 0, 7, 5], "scale": 1.1},
        {"mode": "box", "scale": 1.3, "box_side": "width", "shift": [0.0, -0.02]},
        {"mode": "landmarks", "eye_distance": 0.35},
    ],
    ids=lambda values: f"{values['mode']}-{len(values)}",
)
def test_landmarks_of_every_protocol_are_exact_to_a_hundredth_of_a_pixel(tmp_path: Path, values: Any) -> None:
    size, random = (290, 240), np.random.RandomState(3)
    rows: List[DatasetRow] = []
    for number in range(3):
        angle = random.uniform(-0.2, 0.2)
        points = np.round(FACE @ (80.0 * rotation(angle)).T + [145.0, 90.0] + random.uniform(-4.0, 4.0, 2), 3)
        box = [*points.min(0) - 40.0, 170.0, 150.0]
        image = dotted(size, points, radius=9.0)
        rows.append((f"{number}.png", image, ["train", *box, *points.ravel()]))
    columns = "file,split,box_x,box_y,box_width,box_height," + ",".join(
        name + axis for name in NAMES for axis in ("_x", "_y")
    )
    align_crop.align_crop(
        settings(format="png", **dict(values, size=100)),
        write_dataset(tmp_path / "data", rows, columns),
        tmp_path / "out",
    )
    crops = read_table(tmp_path / "out")
    assert len(crops) == 3
    for row in crops:
        for expected in geometry.to_pixels(points_of(row), (100, 100)):
            actual = exact_dot_near(image_of(tmp_path / "out", row), expected, 4.5)
            assert np.abs(actual - expected).max() < 0.01


def test_overhang_permits_landmarks_outside_the_image(tmp_path: Path) -> None:
    dataset = write_dataset(tmp_path / "data", [("a.png", GOOD, ["train", -5.0, 20, 40, 20, 30, 40])])
    align_crop.align_crop(settings(overhang=0.1), dataset, tmp_path / "out")
    assert len(read_table(tmp_path / "out")) == 1
    with pytest.raises(DataError, match="no usable image"):
        align_crop.align_crop(settings(overhang=0.05), dataset, tmp_path / "out2")


def test_mode_center(tmp_path: Path) -> None:
    dataset, points = write_faces(tmp_path / "data")
    align_crop.align_crop(settings(scale=0.9), dataset, tmp_path / "out")
    rows = read_table(tmp_path / "out")
    assert [row["source"] for row in rows] == [f"{number}.png" for number in range(6)]
    assert [row["split"] for row in rows] == ["train", "train", "test"] * 2
    for row, face in zip(rows, points):
        expected = (face - [60.0, 50.0]) / 45.0
        assert np.allclose(points_of(row), expected, atol=1e-6)
        image = image_of(tmp_path / "out", row)
        assert image.shape == (50, 50, 3)
        for point in geometry.to_pixels(expected, (50, 50)):
            assert np.abs(dot_near(image, point, 4.0) - point).max() < 0.1
    assert json.loads((tmp_path / "out" / "crop.json").read_text()) == {
        "images": 6,
        "skipped": 0,
        "splits": {"train": 4, "test": 2},
        "landmarks": NAMES,
        "size": 50,
        "mode": "center",
        "reads_test_annotations": False,
    }
    assert (tmp_path / "out" / "skipped.csv").read_text() == "source,reason\n"
    assert (tmp_path / "out" / "landmarks.csv").read_text().startswith("file,source,split,left_eye_x,left_eye_y,")


def test_mode_landmarks_maps_every_face_to_the_mean_shape(tmp_path: Path) -> None:
    dataset, _ = write_faces(tmp_path / "data")
    align_crop.align_crop(settings(mode="landmarks", eye_distance=0.4), dataset, tmp_path / "out")
    expected = 0.8 * (FACE - FACE.mean(0))
    for row in read_table(tmp_path / "out"):
        assert np.allclose(points_of(row), expected, atol=1e-3)
        for point in geometry.to_pixels(points_of(row), (50, 50)):
            assert np.abs(dot_near(image_of(tmp_path / "out", row), point, 5.0) - point).max() < 0.1
    assert json.loads((tmp_path / "out" / "crop.json").read_text())["reads_test_annotations"] is True


def test_the_mean_shape_is_of_training_images_only(tmp_path: Path) -> None:
    dataset, _ = write_faces(tmp_path / "data")
    align_crop.align_crop(settings(mode="landmarks"), dataset, tmp_path / "out")
    text = (dataset / "landmarks.csv").read_text().splitlines()
    text[3] = "2.png,test,40,40,60,40,41,90"  # another shape
    (dataset / "landmarks.csv").write_text("\n".join(text))
    align_crop.align_crop(settings(mode="landmarks"), dataset, tmp_path / "out2")
    before, after = read_table(tmp_path / "out"), read_table(tmp_path / "out2")
    assert [a == b for a, b in zip(before, after)] == [True, True, False, True, True, True]


def test_mode_box(tmp_path: Path) -> None:
    image = dotted((100, 80), [30.0, 40.0])
    columns = "file,nose_x,nose_y,box_x,box_y,box_width,box_height"
    rows = [("a.png", image, [30, 40, 20, 30, 20, 40]), ("b.png", image, [30, 40, -10, 0, 50, 40])]
    align_crop.align_crop(
        settings(mode="box", scale=1.5), write_dataset(tmp_path / "data", rows, columns), tmp_path / "out"
    )
    first, second = read_table(tmp_path / "out")
    assert np.allclose(points_of(first, ["nose"]), [[0.0, -10.0 / 30.0]], atol=1e-6)
    assert np.allclose(points_of(second, ["nose"]), [[15.0 / 37.5, 20.0 / 37.5]], atol=1e-6)
    for row in (first, second):
        point = geometry.to_pixels(points_of(row, ["nose"]), (50, 50))[0]
        assert np.abs(dot_near(image_of(tmp_path / "out", row), point, 6.0) - point).max() < 0.1


def test_landmarks_refer_to_the_image_after_exif_orientation(tmp_path: Path) -> None:
    upright = dotted((60, 90), [15.0, 30.0])
    dataset = write_dataset(tmp_path / "data", [("a.png", None, [60, 90, 15, 30])], "file,width,height,nose_x,nose_y")
    exif = Image.Exif()
    exif[0x0112] = 6  # to be rotated clockwise
    Image.fromarray(np.ascontiguousarray(np.rot90(upright))).save(dataset / "images" / "a.png", exif=exif)
    align_crop.align_crop(settings(size=60), dataset, tmp_path / "out")
    (row,) = read_table(tmp_path / "out")
    assert np.allclose(geometry.to_pixels(points_of(row, ["nose"]), (60, 60)), [[15.0, 15.0]], atol=1e-4)
    assert np.abs(dot_near(image_of(tmp_path / "out", row), [15.0, 15.0], 6.0) - 15.0).max() < 0.1


@pytest.mark.parametrize("orientation", [1, 2, 3, 6, 8])
@pytest.mark.parametrize("size", [(1600, 1200), (1603, 1205)])
def test_large_photographs_are_decoded_coarsely_and_stay_exact(tmp_path: Path, size: Any, orientation: int) -> None:
    """Dots appear at their landmarks, within the accuracy of 8 bits per pixel."""
    turned = Image.fromarray(dotted(size, [0.4 * size[0], 0.6 * size[1]], radius=40.0))
    place = {1: (0.4, 0.6), 2: (0.6, 0.6), 3: (0.6, 0.4), 6: (0.4, 0.4), 8: (0.6, 0.6)}[orientation]
    upright = np.array(size if orientation < 5 else size[::-1], float)
    point = upright * place
    cells = [*upright.astype(int), *point]
    dataset = write_dataset(tmp_path / "data", [("a.jpg", None, cells)], "file,width,height,nose_x,nose_y")
    exif = Image.Exif()
    exif[0x0112] = orientation
    turned.save(dataset / "images" / "a.jpg", exif=exif, quality=100, subsampling=0)
    align_crop.align_crop(settings(size=100), dataset, tmp_path / "out")
    (row,) = read_table(tmp_path / "out")
    expected = geometry.to_pixels(points_of(row, ["nose"]), (100, 100))[0]
    assert np.allclose(expected, (point - upright / 2.0) * 100.0 / 1200.0 + 50.0, atol=0.1 if size[0] % 8 else 1e-3)
    assert np.abs(dot_near(image_of(tmp_path / "out", row), expected, 15.0) - expected).max() < 0.02


def test_without_annotations(tmp_path: Path) -> None:
    dataset = write_dataset(tmp_path / "data", [("a.png", dotted((40, 30), [9, 9]), None)], "")
    align_crop.align_crop(settings(), dataset, tmp_path / "out")
    assert (tmp_path / "out" / "landmarks.csv").read_text() == "file,source,split\na.png,a.png,train\n"
    assert json.loads((tmp_path / "out" / "crop.json").read_text())["landmarks"] == []


GOOD = dotted((60, 50), [[20, 20], [40, 20], [30, 40]])
PLACE = ["train", 20, 20, 40, 20, 30, 40]


@pytest.mark.parametrize(
    ("image", "cells", "values", "reason"),
    [
        (b"no image", PLACE, {}, "not a JPEG"),
        (b"", PLACE, {}, "the file is empty"),
        (None, PLACE, {}, "no such file"),
        (GOOD, None, {}, "no annotation"),
        (GOOD, ["train", "", 20, 40, 20, 30, 40], {}, "a landmark without coordinates"),
        (GOOD, ["train", "inf", 20, 40, 20, 30, 40], {}, "a landmark without coordinates"),
        (GOOD, ["train", 20, 20, 40, 20, 30, 50.5], {}, "a landmark outside the image"),
        (GOOD, ["train", -0.5, 20, 40, 20, 30, 40], {}, "a landmark outside the image"),
        (GOOD, ["train", 30, 20, 30, 20, 30, 20], {"mode": "landmarks"}, "landmarks that coincide"),
        (dotted((61, 50), [20, 20]), PLACE, {"max_pixels": 3000}, "61 x 50 pixels, more than 3000"),
    ],
)
def test_unusable_images_are_skipped_with_a_reason(
    tmp_path: Path, image: Any, cells: Any, values: Any, reason: str
) -> None:
    dataset = write_dataset(
        tmp_path / "data", [("bad.png", image, cells)] + [(f"{i}.png", GOOD, PLACE) for i in range(3)]
    )
    align_crop.align_crop(settings(max_skipped=0.25, **values), dataset, tmp_path / "out")
    assert [row["source"] for row in read_table(tmp_path / "out")] == ["0.png", "1.png", "2.png"]
    (skipped,) = read_table(tmp_path / "out", "skipped.csv")
    assert skipped["source"] == "bad.png"
    assert reason in skipped["reason"]
    assert json.loads((tmp_path / "out" / "crop.json").read_text())["skipped"] == 1
    assert sorted(path.name for path in (tmp_path / "out" / "images").iterdir()) == ["0.png", "1.png", "2.png"]
    with pytest.raises(DataError, match=r"1 of 4 images .* crop.max_skipped = 0.2 permits: bad.png: ") as caught:
        align_crop.align_crop(settings(max_skipped=0.2, **values), dataset, tmp_path / "out2")
    assert reason in str(caught.value)


@pytest.mark.parametrize(
    ("columns", "cells", "values", "reason"),
    [
        ("file,width,height", [60, 51], {}, "60 x 50 pixels, but annotated as 60 x 51"),
        ("file,box_x,box_y,box_width,box_height", [1, 1, 0, 5], {"mode": "box"}, "a box without extent"),
        ("file,box_x,box_y,box_width,box_height", [1, 1, "", 5], {"mode": "box"}, "a box without extent"),
        ("file,box_x,box_y,box_width,box_height", [99, 1, 5, 5], {"mode": "box"}, "a crop frame outside the image"),
        ("file,box_x,box_y,box_width,box_height", [1, 1, 1e9, 5], {"mode": "box"}, "a crop frame of 1e+09 pixels"),
    ],
)
def test_images_with_a_wrong_size_or_box_are_skipped(
    tmp_path: Path, columns: str, cells: Any, values: Any, reason: str
) -> None:
    good = [60, 50] if "width" in columns.split(",") else [10, 10, 20, 20]
    dataset = write_dataset(tmp_path / "data", [("bad.png", GOOD, cells), ("good.png", GOOD, good)], columns)
    align_crop.align_crop(settings(max_skipped=0.5, **values), dataset, tmp_path / "out")
    assert [row["source"] for row in read_table(tmp_path / "out")] == ["good.png"]
    assert read_table(tmp_path / "out", "skipped.csv") == [{"source": "bad.png", "reason": reason}] or reason in str(
        read_table(tmp_path / "out", "skipped.csv")
    )


@pytest.mark.parametrize(
    ("columns", "values", "message"),
    [
        ("file", {"mode": "box"}, "crop.mode box: .*no columns box_x"),
        ("", {"mode": "box"}, "crop.mode box: .*no columns box_x"),
        ("", {"mode": "landmarks"}, r"evaluate.eyes names left_eye, right_eye, but .* has no landmarks"),
        ("file,nose_x,nose_y", {"mode": "landmarks"}, r"evaluate.eyes names left_eye, right_eye, but .* has nose"),
    ],
)
def test_a_mode_without_its_annotations_is_rejected(tmp_path: Path, columns: str, values: Any, message: str) -> None:
    cells = [1] * columns.count(",") if columns else None
    dataset = write_dataset(tmp_path / "data", [("a.png", GOOD, cells)], columns)
    with pytest.raises(DataError, match=message):
        align_crop.align_crop(settings(**values), dataset, tmp_path / "out")


def test_a_data_set_without_a_usable_image_is_rejected(tmp_path: Path) -> None:
    dataset = write_dataset(tmp_path / "data", [("a.png", b"", PLACE)])
    with pytest.raises(DataError, match=r"no usable image among 1\. a.png: the file is empty"):
        align_crop.align_crop(settings(max_skipped=1.0), dataset, tmp_path / "out")
    with pytest.raises(DataError, match="no usable image among 0"):
        align_crop.align_crop(settings(), write_dataset(tmp_path / "none", [], ""), tmp_path / "out2")


def test_an_unwritable_output_is_an_error(tmp_path: Path) -> None:
    dataset, _ = write_faces(tmp_path / "data", 1)
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StageError, match="cannot be written to"):
        align_crop.align_crop(settings(), dataset, tmp_path / "file" / "out")


def test_images_in_subfolders_get_flat_names(tmp_path: Path) -> None:
    rows = [(name, GOOD, None) for name in ("a/1.png", "b/1.png", "a_1.png")]
    align_crop.align_crop(settings(), write_dataset(tmp_path / "data", rows, ""), tmp_path / "out")
    written = read_table(tmp_path / "out")
    assert [row["source"] for row in written] == ["a/1.png", "a_1.png", "b/1.png"]
    assert sorted(row["file"] for row in written) == sorted(
        path.name for path in (tmp_path / "out" / "images").iterdir()
    )


def test_crops_as_jpeg(tmp_path: Path) -> None:
    """JPEG crops are named and stored as JPEG, show the same, and contain none of the image's metadata."""
    dataset, _ = write_faces(tmp_path / "data", 3)
    marked = Image.fromarray(dotted((120, 100), [60, 50]))
    marked.save(dataset / "images" / "0.png", icc_profile=b"a profile")
    align_crop.align_crop(settings(), dataset, tmp_path / "png")
    align_crop.align_crop(settings(format="jpeg", quality=90), dataset, tmp_path / "jpeg")
    for exact, row in zip(read_table(tmp_path / "png"), read_table(tmp_path / "jpeg")):
        assert row == dict(exact, file=exact["file"].replace(".png", ".jpeg"))
        with Image.open(tmp_path / "jpeg" / "images" / row["file"]) as stored:
            assert stored.format == "JPEG"
            assert np.abs(np.asarray(stored).astype(int) - image_of(tmp_path / "png", exact)).mean() < 2.0
            assert "icc_profile" not in stored.info
        with Image.open(tmp_path / "png" / "images" / exact["file"]) as stored:
            assert "icc_profile" not in stored.info


def test_the_number_of_processes_does_not_change_the_output(tmp_path: Path) -> None:
    dataset, _ = write_faces(tmp_path / "data", 70)
    (dataset / "images" / "33.png").write_bytes(b"broken")
    for count in (1, 2):
        align_crop.align_crop(settings(processes=count, max_skipped=0.1), dataset, tmp_path / str(count))
    names = sorted(str(path.relative_to(tmp_path / "1")) for path in (tmp_path / "1").rglob("*.*"))
    assert len(names) == 69 + 3
    for name in names:
        assert (tmp_path / "1" / name).read_bytes() == (tmp_path / "2" / name).read_bytes()


def test_an_interrupted_stage_resumes_after_the_last_finished_shard(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_faces(tmp_path / "data", 9)
    (tmp_path / "data" / "images" / "4.png").write_bytes(b"broken")
    experiment = settings(mode="landmarks", size=32, max_skipped=0.5)
    align_crop.align_crop(experiment, tmp_path / "data", tmp_path / "uninterrupted")
    monkeypatch.setattr(align_crop, "_IMAGES_PER_SHARD", 2)
    cropped, crop = [], crop_image.crop_image

    def interrupted_at_the_sixth(chosen: Any, mean: Any, job: Any) -> Any:
        cropped.append(job)
        if len(cropped) == 6:
            raise KeyboardInterrupt
        return crop(chosen, mean, job)

    monkeypatch.setattr(crop_image, "crop_image", interrupted_at_the_sixth)
    with pytest.raises(KeyboardInterrupt):
        align_crop.align_crop(experiment, tmp_path / "data", tmp_path / "resumed")
    align_crop.align_crop(experiment, tmp_path / "data", tmp_path / "resumed")
    assert len(cropped) == 6 + 5  # two shards of two were finished; of the third, one of two
    names = sorted(path.name for path in (tmp_path / "uninterrupted").rglob("*"))
    assert names == sorted(path.name for path in (tmp_path / "resumed").rglob("*"))
    for path in (tmp_path / "uninterrupted").rglob("*.*"):
        assert (tmp_path / "resumed" / path.relative_to(tmp_path / "uninterrupted")).read_bytes() == path.read_bytes()


SHARE = """
import json, logging, sys
from pathlib import Path
from fse import config
from fse.preprocessing import align_crop, crop_image
logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
align_crop._IMAGES_PER_SHARD = 3
save = crop_image.Image.Image.save
def slow(*arguments, **options):
    __import__("time").sleep(0.03)
    save(*arguments, **options)
crop_image.Image.Image.save = slow
print("ready", flush=True)
sys.stdin.readline()
align_crop.share(config.from_tables(json.loads(sys.argv[1])), Path(sys.argv[2]), Path(sys.argv[3]))
"""


def test_processes_share_the_shards_and_take_over_those_of_a_killed_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_faces(tmp_path / "data", 40)
    experiment = settings(size=32, processes=1)
    align_crop.align_crop(experiment, tmp_path / "data", tmp_path / "alone")
    output = tmp_path / "shared"
    (output / "claims").mkdir(parents=True)
    command = [
        sys.executable,
        "-c",
        SHARE,
        json.dumps(config.as_tables(experiment)),
        os.fspath(tmp_path / "data"),
        os.fspath(output),
    ]
    environment = dict(os.environ, PYTHONPATH=os.pathsep.join(sys.path))
    children = [
        subprocess.Popen(
            command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, universal_newlines=True
        )
        for _ in range(3)
    ]
    for child in children:
        assert child.stdout and child.stdout.readline() == "ready\n"
    for child in children:
        assert child.stdin
        child.stdin.write("\n")
        child.stdin.flush()
    killed, *others = children
    while killed.poll() is None and not any((output / "claims").iterdir()):
        time.sleep(0.01)
    killed.kill()
    killed.communicate()
    shares = [int(child.communicate()[0].split()[1]) for child in others]
    finished = len(list((output / "finished").glob("*.json")))
    assert 0 < sum(shares) <= finished <= 14
    assert all(shares)
    monkeypatch.setattr(align_crop, "_IMAGES_PER_SHARD", 3)
    align_crop.align_crop(experiment, tmp_path / "data", output)
    shutil.rmtree(output / "claims")
    names = sorted(str(path.relative_to(output)) for path in output.rglob("*"))
    assert names == sorted(str(path.relative_to(tmp_path / "alone")) for path in (tmp_path / "alone").rglob("*"))
    for name in names:
        if (output / name).is_file():
            assert (output / name).read_bytes() == (tmp_path / "alone" / name).read_bytes()


@pytest.mark.skipif(not FACES.is_file(), reason="no ../shared/data/faces.zip beside the repository")
def test_real_faces_align(tmp_path: Path) -> None:
    """Landmarks of faces that were aligned with the mean shape vary less than those of centered crops."""
    tables = {"dataset": {"name": "faces", "archive": str(FACES)}, "crop": {"size": 60}, "network": {"view": 50}}
    experiment = config.from_tables(tables)
    download.download(experiment, tmp_path / "data")
    rows = (tmp_path / "data" / "landmarks.csv").read_text().splitlines()[:121]
    (tmp_path / "data" / "landmarks.csv").write_text("\n".join(rows))
    spread = {}
    for mode in ("center", "landmarks"):
        crop = dataclasses.replace(experiment.crop, mode=mode, max_skipped=1.0)
        align_crop.align_crop(dataclasses.replace(experiment, crop=crop), tmp_path / "data", tmp_path / mode)
        points = [points_of(row, ["left_eye", "right_eye", "nose"]) for row in read_table(tmp_path / mode)]
        assert len(points) == 120
        spread[mode] = np.std(points, axis=0).mean()
    assert spread["landmarks"] < 0.6 * spread["center"]
