from pathlib import Path
from typing import Any, List

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from fse.config import Config
from fse.errors import RecordError
from fse.inputs import records
from fse.preprocessing import tfrecord
from fse.tf1 import tf
from tests.fse.crops import write_crops


def collect(dataset: Any, count: int) -> List[Any]:
    with tf.Session() as session:
        element = tf.data.make_one_shot_iterator(dataset).get_next()
        return [session.run(element) for _ in range(count)]


def test_shards_hold_every_image_and_its_landmarks(few_shards: Path, tmp_path: Path) -> None:
    data = records.read(few_shards)
    assert data.images == {"train": 9, "test": 4}
    assert [len(data.shards[split]) for split in ("train", "test")] == [2, 2]
    table = pd.read_csv(tmp_path / "crops" / "landmarks.csv").set_index("file")
    with tf.Graph().as_default():
        ((names, images, points),) = collect(records.ordered_batches(data, "train", 9), 1)
    assert sorted(names) == [f"{number:04d}.png".encode() for number in range(9)]
    for name, image, point in zip(names, images, points):
        original = Image.open(tmp_path / "crops" / "images" / name.decode())
        np.testing.assert_array_equal(image, np.asarray(original))
        expected = table.loc[name.decode(), ["left_eye_x", "left_eye_y", "right_eye_x", "right_eye_y"]]
        np.testing.assert_allclose(point.ravel(), expected.to_numpy(float), atol=1e-6)


def test_stock_tensorflow_reads_the_documented_features(few_shards: Path) -> None:
    path = str(few_shards / "test-00000-of-00002.tfrecord")
    example = tf.train.Example.FromString(next(tf.python_io.tf_record_iterator(path)))
    features = example.features.feature
    assert features["image/format"].bytes_list.value[0] == b"png"
    assert features["image/filename"].bytes_list.value[0] == b"0009.png"
    assert features["image/encoded"].bytes_list.value[0].startswith(b"\x89PNG")
    assert features["image/height"].int64_list.value[0] == features["image/width"].int64_list.value[0] == 20
    assert len(features["landmarks"].float_list.value) == 4


def test_images_may_have_no_landmarks_and_be_fewer_than_the_shards(tiny: Config, tmp_path: Path) -> None:
    folder = tmp_path / "records"
    folder.mkdir()
    tfrecord.convert(tiny, write_crops(tmp_path / "crops", 1, 0, names=()), folder)
    data = records.read(folder)
    assert data.shards == {"train": ["train-00000-of-00001.tfrecord"], "test": []}
    with tf.Graph().as_default():
        ((_, images, points),) = collect(records.ordered_batches(data, "train", 4), 1)
    assert images.shape == (1, 20, 20, 3)
    assert points.shape == (1, 0, 2)


def test_jpeg_crops_are_stored_and_decoded_as_jpeg(tiny: Config, tmp_path: Path) -> None:
    crops, folder = write_crops(tmp_path / "crops", 1, 0), tmp_path / "records"
    table = crops / "landmarks.csv"
    table.write_text(table.read_text().replace(".png", ".jpeg"))
    smooth = np.stack(np.broadcast_arrays(np.arange(20)[:, None] * 10, np.arange(20) * 5, 100), -1).astype(np.uint8)
    Image.fromarray(smooth).save(crops / "images" / "0000.jpeg", quality=95)
    folder.mkdir()
    tfrecord.convert(tiny, crops, folder)
    example = tf.train.Example.FromString(
        next(tf.python_io.tf_record_iterator(str(folder / "train-00000-of-00001.tfrecord")))
    )
    assert example.features.feature["image/format"].bytes_list.value[0] == b"jpeg"
    with tf.Graph().as_default():
        ((_, images, _),) = collect(records.ordered_batches(records.read(folder), "train", 1), 1)
    assert np.abs(images[0].astype(int) - smooth).max() <= 6


def order(shards: Path, first_step: int, steps: int, seed: int = 1) -> np.ndarray:
    """[steps, batch]: a sum of pixels that identifies each image of each step."""
    with tf.Graph().as_default():
        step = tf.constant(first_step, tf.int64)
        batches = collect(records.repeated_batches(records.read(shards), 4, seed, 100, step), steps)
    return np.array([batch.reshape(4, -1).astype(int).sum(axis=1) for batch in batches])


def test_every_epoch_has_its_own_order_and_a_later_first_step_continues_it(few_shards: Path) -> None:
    steps = order(few_shards, 0, 6)  # three epochs of two batches of four, of nine images
    for epoch in range(3):
        assert len(set(steps[2 * epoch : 2 * epoch + 2].ravel())) == 8
    assert (steps[:2] != steps[2:4]).any()
    for first in (1, 2, 5):
        np.testing.assert_array_equal(order(few_shards, first, 6 - first), steps[first:])
    np.testing.assert_array_equal(order(few_shards, 0, 6), steps)
    assert (order(few_shards, 0, 6, seed=2) != steps).any()


def test_missing_shards_are_named(few_shards: Path, tmp_path: Path) -> None:
    with pytest.raises(RecordError, match="no TFRecord shards here"):
        records.read(tmp_path)
    (few_shards / "train-00001-of-00002.tfrecord").unlink()
    with pytest.raises(RecordError, match="train-00001-of-00002.tfrecord: the shard is missing"):
        records.read(few_shards)
