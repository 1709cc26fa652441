import tracemalloc
from pathlib import Path
from typing import Callable

import numpy as np
import pytest

from fse.datasets import annotations
from fse.errors import DataError

Read = Callable[..., annotations.Annotations]


@pytest.fixture
def read(tmp_path: Path) -> Read:
    """Return a function that reads a text as an annotation file."""

    def reader(text: str, encoding: str = "utf-8") -> annotations.Annotations:
        (tmp_path / "landmarks.csv").write_bytes(text.encode(encoding))
        return annotations.read(tmp_path / "landmarks.csv")

    return reader


def test_all_columns(read: Read) -> None:
    table = read(
        "file,width,height,split,left_eye_x,left_eye_y,nose_x,nose_y,box_x,box_y,box_width,box_height,mood\n"
        "a/1.jpg,320,200,train,1,2.5,3,4,0,0,10,20,glad\n"
        "./b.jpg,100,100,test,5,6,7,8e1,1,2,3,4,\n"
    )
    assert table.files == ["a/1.jpg", "b.jpg"]
    assert table.splits == ["train", "test"]
    assert table.landmarks == ["left_eye", "nose"]
    assert table.points.dtype == np.float64
    assert table.points.tolist() == [[[1, 2.5], [3, 4]], [[5, 6], [7, 80]]]
    assert table.sizes is not None
    assert table.boxes is not None
    assert table.sizes.tolist() == [[320, 200], [100, 100]]
    assert table.boxes.tolist() == [[0, 0, 10, 20], [1, 2, 3, 4]]


def test_memory_of_many_rows(tmp_path: Path) -> None:
    """With one string per cell, reading took 19 MB."""
    with open(tmp_path / "landmarks.csv", "w") as stream:
        stream.write("file,split,box_x,box_y,box_width,box_height,a_x,a_y,b_x,b_y,c_x,c_y\n")
        for number in range(20_000):
            stream.write(f"{number:06d}.jpg,train,{','.join(['123.456'] * 10)}\n")
    tracemalloc.start()
    table = annotations.read(tmp_path / "landmarks.csv")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(table.files) == 20_000
    assert peak < 9e6, peak


def test_column_file_alone(read: Read) -> None:
    table = read("file\n007\nNA.jpg\n")
    assert table.files == ["007", "NA.jpg"]
    assert table.splits == ["train", "train"]
    assert table.landmarks == []
    assert table.points.shape == (2, 0, 2)
    assert table.sizes is None
    assert table.boxes is None


def test_missing_and_infinite_numbers(read: Read) -> None:
    points = read("file,a_x,a_y\n1.jpg,,2\n2.jpg,nan,NA\n3.jpg,inf,-1\n").points[:, 0]
    assert np.isnan(points[0, 0])
    assert np.isnan(points[1]).all()
    assert points[2].tolist() == [np.inf, -1.0]


def test_byte_order_mark_spaces_and_blank_lines(read: Read) -> None:
    table = read('﻿file , a_x, a_y\r\n1.jpg , 1 , 2\r\n\r\n"x,y.jpg",3,4\r\n')
    assert table.files == ["1.jpg", "x,y.jpg"]
    assert table.points[:, 0].tolist() == [[1, 2], [3, 4]]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no column `file`"),
        ("name,a_x,a_y\n1.jpg,1,2\n", "no column `file`; there are: name, a_x, a_y"),
        ("file,a_x,a_y\n", "no rows"),
        ("file,a_x\n1.jpg,1\n", "'a_x' has no column 'a_y'"),
        ("file,a_y\n1.jpg,1\n", "'a_y' has no column 'a_x'"),
        ("file,a_x,a_x,a_y\n1.jpg,1,1,2\n", "'a_x' is there more than once"),
        ("file\n1.jpg\n./1.jpg\n", "more than one row"),
        ("file,split\n1.jpg,val\n", "1.jpg.*'val'; write `train` or `test`"),
        ("file,split\n1.jpg,\n", "split ''"),
        ("file,a_x,a_y\n1.jpg,left,2\n", "1.jpg.*'left' in column 'a_x'; write a number"),
        ("file,a_x,a_y\n1.jpg,1\n", "row 2: 2 cells, but the header has 3"),
        ("file,a_x,a_y\n1.jpg,1,2,3\n", "row 2: 4 cells"),
        ("file,width\n1.jpg,1\n", "width, height go together, but there is only width"),
        ("file,box_x,box_y\n1.jpg,1,2\n", "go together, but there is only box_x, box_y"),
        ("file\n../1.jpg\n", "does not name an image below"),
        ("file\na/../../1.jpg\n", "does not name an image below"),
        ("file\n/etc/passwd\n", "does not name an image below"),
        ('file,a_x,a_y\n"",1,2\n', "does not name an image below"),
    ],
)
def test_errors_name_file_and_row(read: Read, tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        read(text)
    assert str(tmp_path / "landmarks.csv") in str(caught.value)


def test_files_that_are_not_csv(read: Read, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="UTF-8"):
        read("file\nä.jpg\n", "latin-1")
    with pytest.raises(DataError, match="cannot be read"):
        annotations.read(tmp_path / "missing.csv")


def test_crop_rows_can_be_read(tmp_path: Path) -> None:
    rows = [
        annotations.CropRow("1.png", "1.jpg", "train", np.array([[-0.5, 1.25]])),
        annotations.CropRow("2.png", "b/2.jpg", "test", np.array([[1 / 3, 0.0]])),
    ]
    annotations.write_crops(tmp_path / "a.csv", ["nose"], rows)
    assert (tmp_path / "a.csv").read_text().splitlines() == [
        "file,source,split,nose_x,nose_y",
        "1.png,1.jpg,train,-0.500000,1.250000",
        "2.png,b/2.jpg,test,0.333333,0.000000",
    ]
    table = annotations.read(tmp_path / "a.csv")
    assert table.splits == ["train", "test"]
    assert np.allclose(table.points, [row.points for row in rows], atol=1e-6)


def test_annotations_can_be_written_and_read(tmp_path: Path) -> None:
    points, boxes = np.array([[[1.25, 2.0]], [[3.0, 4.5]]]), np.array([[0.0, 1.0, 20.0, 30.0], [2.0, 3.0, 4.0, 5.0]])
    table = annotations.Annotations(["a.jpg", "b.jpg"], ["train", "test"], ["nose"], points, boxes=boxes)
    annotations.write(tmp_path / "a.csv", table)
    copy = annotations.read(tmp_path / "a.csv")
    assert (copy.files, copy.splits, copy.landmarks) == (table.files, table.splits, table.landmarks)
    assert np.array_equal(copy.points, points)
    assert copy.boxes is not None
    assert np.array_equal(copy.boxes, boxes)
    assert copy.sizes is None
