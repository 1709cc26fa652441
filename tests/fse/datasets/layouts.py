"""Small copies of the known data sets, with the names and formats of the real files."""

import dataclasses
import hashlib
import io
import tarfile
import zipfile
from pathlib import Path
from typing import Dict, List

import numpy as np
from PIL import Image

from fse import config
from fse.datasets import registry, split_file
from fse.datasets.spec import KnownDataset, SourceFile


def image(number: int, width: int = 178, height: int = 218, kind: str = "JPEG") -> bytes:
    """Return an encoded image of one color."""
    stream = io.BytesIO()
    Image.new("RGB", (width, height), (number % 256, 80, 160)).save(stream, kind)
    return stream.getvalue()


def zipped(path: Path, contents: Dict[str, bytes]) -> None:
    """Write a zip archive."""
    with zipfile.ZipFile(path, "w") as package:
        for name, data in contents.items():
            package.writestr(name, data)


def celeba(folder: Path, count: int = 12) -> List[np.ndarray]:
    """Write CelebA and MAFL: 8 train, 2 validation, 2 test; MAFL trains on 3, 10 and 12, and tests on 2 and 9.

    Returns:
      The landmarks [5, 2] of each image, as they are in the file.
    """
    random = np.random.RandomState(0)
    names = [f"{number:06d}.jpg" for number in range(1, count + 1)]
    points = [random.randint(60, 110, (5, 2)) for _ in names]
    header = "lefteye_x lefteye_y righteye_x righteye_y nose_x nose_y leftmouth_x leftmouth_y rightmouth_x rightmouth_y"
    rows = [f"{name} {'  '.join(map(str, place.ravel()))}" for name, place in zip(names, points)]
    for kind in ("list_landmarks_align_celeba.txt", "list_landmarks_celeba.txt"):
        (folder / kind).write_bytes("\r\n".join([str(count), header, *rows, ""]).encode())
    boxes = [f"{name}    {number}  71 226 313" for number, name in enumerate(names)]
    (folder / "list_bbox_celeba.txt").write_bytes(
        "\r\n".join([str(count), "image_id x_1 y_1 width height", *boxes, ""]).encode()
    )
    parts = [f"{name} {0 if place < 8 else 1 if place < 10 else 2}" for place, name in enumerate(names)]
    (folder / "list_eval_partition.txt").write_bytes(("\r\n".join(parts) + "\r\n").encode())
    (folder / "training.txt").write_text("000010.jpg\n000003.jpg\n000012.jpg")
    (folder / "testing.txt").write_text("000009.jpg\n000002.jpg")
    images = {"img_align_celeba/" + name: image(place) for place, name in enumerate(names)}
    zipped(folder / "img_align_celeba.zip", images)
    (folder / "img_celeba").mkdir()
    for place, name in enumerate(names):
        (folder / "img_celeba" / name).write_bytes(image(place, 300, 400))
    return points


def aflw(folder: Path, train: int = 3, test: int = 2) -> np.ndarray:
    """Write AFLW as in DVE's archive; return the points [n, 5, 2] as in the files, training images first."""
    points: np.ndarray = np.random.RandomState(1).uniform(20, 130, (train + test, 5, 2)).round(2)
    rows = ["image_file,crop_file,set,face_id,ex1,ey1,ex2,ey2,nx,ny,mx1,my1,mx2,my2"]
    contents: Dict[str, bytes] = {}
    for number in range(train):
        values = ",".join(map(str, points[number].ravel()))
        rows.append(f"photo{number}.jpg,crops/{number}.png,1,{number},{values}")
        contents[f"aflw_cropped/crops/{number}.png"] = image(number, 150, 150, "PNG")
    rows.append("photo90.jpg,crops/90.png,2,90," + ",".join(["1"] * 10))
    contents["aflw_cropped/facedata_cropped.csv"] = "\n".join(rows).encode()
    lines = [" lfw_5590\\Someone_0001.jpg " + " ".join(["1"] * 10) + " 1 2 2 3"]
    for number in range(test):
        name = f"{number + 1:04d}-photo{90 + number}.jpg"
        values = " ".join(map(str, points[train + number].T.ravel()))
        lines.append(f" AFLW\\{name} {values} 1 1 2 3")
        contents["MTFL/AFLW/" + name] = image(number, 150, 150)
    contents["MTFL/testing.txt"] = ("\r\n".join([*lines, " "])).encode()
    contents["MTFL/net_7876/other.jpg"] = image(1)
    with tarfile.open(folder / "aflw-mtfl.tar.gz", "w:gz") as package:
        for name, data in contents.items():
            info = tarfile.TarInfo("aflw-mtfl/" + name)
            info.size = len(data)
            package.addfile(info, io.BytesIO(data))
    return points


def w300(folder: Path) -> np.ndarray:
    """Write 300-W: two images each of AFW and HELEN train, one of LFPW test and IBUG; return points as in the files."""
    names = ["afw/1_1", "afw/2_1", "helen/trainset/3_1", "helen/trainset/4_1", "lfpw/testset/image_1", "ibug/image_2"]
    points: np.ndarray = np.random.RandomState(2).uniform(10, 90, (len(names), 68, 2)).round(4)
    archives: Dict[str, Dict[str, bytes]] = {"afw": {}, "helen": {}, "lfpw": {}, "ibug": {}}
    for number, name in enumerate(names):
        kind = "png" if name.startswith("lfpw") else "jpg"
        rows = "\n".join(f"{x:.6f} {y:.6f}" for x, y in points[number])
        contents = archives[name.split("/")[0]]
        contents[f"{name}.{kind}"] = image(number, 100, 100, "PNG" if kind == "png" else "JPEG")
        contents[name + ".pts"] = f"version: 1\nn_points:  68\n{{\n{rows}\n}}\n".encode()
    archives["ibug"].update({"ibug/4_Other.jpg": b"", "ibug/4_Other.pts": b""})
    for name, contents in archives.items():
        zipped(folder / (name + ".zip"), contents)
    return points


def cats(folder: Path, count: int = 8) -> np.ndarray:
    """Write CAT: half of the images in each archive, one without annotation; return points [n, 9, 2] as in the files."""
    points = np.random.RandomState(3).randint(10, 90, (count, 9, 2))
    halves: List[Dict[str, bytes]] = [{"CAT_00/99.jpg": image(0)}, {}]
    for number, place in enumerate(points):
        name = f"CAT_0{2 * number // count}/{number:08d}_000.jpg"
        contents = halves[2 * number // count]
        contents[name] = image(number, 100, 100)
        contents[name + ".cat"] = f"9 {' '.join(map(str, place.ravel()))} ".encode()
    for name, contents in zip(("CAT_DATASET_01.zip", "CAT_DATASET_02.zip"), halves):
        zipped(folder / name, contents)
    return points


def shoes(folder: Path, count: int = 20) -> None:
    """Write UT Zappos50K, packed on macOS, which adds hidden files."""
    names = [f"Shoes/Boat Shoes/A.B. & Co./{number:04d}.1.jpg" for number in range(count)]
    root = "ut-zap50k-images-square/"
    contents = {root + name: image(1, 136, 136) for name in names}
    contents["__MACOSX/" + root + "Shoes/Boat Shoes/A.B. & Co./._0000.1.jpg"] = b"Mac OS X"
    zipped(folder / "ut-zap50k-images-square.zip", contents)


def fitted(known: KnownDataset, folder: Path, parts: Dict[str, Dict[str, int]]) -> KnownDataset:
    """Return the data set with the sizes and hashes of the files in a folder, and with other numbers of images."""

    def measured(file: SourceFile) -> SourceFile:
        data = b"".join(volume.read_bytes() for volume in split_file.volumes(folder / file.name) if volume.is_file())
        return dataclasses.replace(file, size=len(data), hash=hashlib.sha256(data).hexdigest() if data else "")

    return dataclasses.replace(known, files=tuple(map(measured, known.files)), parts=parts)


def known_settings(name: str, data_path: Path, part: str = "") -> config.Config:
    """Return the configuration of a known data set whose files are below a folder."""
    eyes = registry.KNOWN[name].eyes or ("left_eye", "right_eye")
    tables = {
        "dataset": {"name": name, "part": part},
        "download": {"data_path": str(data_path)},
        "evaluate": {"eyes": list(eyes)},
    }
    return config.from_tables(tables)


def points_of(row: Dict[str, str]) -> np.ndarray:
    """Return the coordinates in a row of an annotation file, [2 L]."""
    columns = [name for name in row if name.endswith(("_x", "_y")) and not name.startswith("box_")]
    return np.array([float(row[name]) for name in columns])


def box_of(row: Dict[str, str]) -> List[float]:
    """Return x, y, width and height of the box in a row of an annotation file."""
    return [float(row["box_" + name]) for name in ("x", "y", "width", "height")]
