import hashlib
import json
import logging
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import write_crops

from fse.config import Config
from fse.errors import RecordError
from fse.preprocessing import tfrecord
from fse.runtime import locks, processes
from fse.tf1 import tf


@pytest.fixture
def crops(tmp_path: Path) -> Path:
    return write_crops(tmp_path / "crops", 9, 4)


def converted(experiment: Any, crops: Path, folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    tfrecord.convert(experiment, crops, folder)
    return folder


def of_tensorflow(features: dict) -> bytes:
    """The same example, by TensorFlow's classes."""
    message = {}
    for name, value in features.items():
        if isinstance(value, bytes):
            message[name] = tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))
        elif isinstance(value, int):
            message[name] = tf.train.Feature(int64_list=tf.train.Int64List(value=[value]))
        else:
            message[name] = tf.train.Feature(float_list=tf.train.FloatList(value=value.ravel()))
    return tf.train.Example(features=tf.train.Features(feature=message)).SerializeToString(deterministic=True)


@pytest.mark.parametrize("length", [0, 1, 127, 128, 20_000, 3_000_000])
@pytest.mark.parametrize("landmarks", [0, 5, 68])
def test_files_are_byte_for_byte_what_tensorflow_writes(tmp_path: Path, length: int, landmarks: int) -> None:
    random = np.random.RandomState(length + landmarks)
    features = {
        "image/width": length,
        "image/height": 146,
        "image/encoded": random.bytes(length),
        "image/filename": "ä/é.png".encode(),
        "image/format": b"",
        "landmarks": random.uniform(-1, 1, (landmarks, 2)).astype(np.float32),
    }
    serialized = tfrecord.example(features)
    assert serialized == of_tensorflow(features)
    path = str(tmp_path / "a.tfrecord")
    with tf.python_io.TFRecordWriter(path) as writer:
        writer.write(serialized)
        writer.write(b"")
    assert Path(path).read_bytes() == tfrecord.framed(serialized) + tfrecord.framed(b"")


def test_shards_say_how_many_images_they_hold_and_their_hash(tiny: Config, crops: Path, tmp_path: Path) -> None:
    folder = converted(tiny, crops, tmp_path / "records")
    files = json.loads((folder / "records.json").read_text())["files"]
    assert sorted(files) == sorted(path.name for path in folder.glob("*.tfrecord"))
    for name, told in files.items():
        assert told["sha256"] == hashlib.sha256((folder / name).read_bytes()).hexdigest()
        assert told["images"] == sum(1 for _ in tf.python_io.tf_record_iterator(str(folder / name)))
    assert [files[name]["images"] for name in sorted(files)] == [2, 2, 5, 4]


def test_the_number_of_processes_makes_no_difference(
    tiny: Config, crops: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = converted(tiny, crops, tmp_path / "alone")
    monkeypatch.setattr(processes, "FEW", 1)
    together = converted(tiny, crops, tmp_path / "together")
    for path in alone.iterdir():
        assert (together / path.name).read_bytes() == path.read_bytes()


def test_an_interrupted_stage_goes_on_at_the_last_finished_shard(
    tiny: Config, crops: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = converted(tiny, crops, tmp_path / "whole")
    made, record = [], tfrecord._record

    def stopped_at_the_seventh(*arguments: Any) -> Any:
        made.append(arguments)
        if len(made) == 7:
            raise KeyboardInterrupt
        return record(*arguments)

    monkeypatch.setattr(tfrecord, "_record", stopped_at_the_seventh)
    output = tmp_path / "resumed"
    with pytest.raises(KeyboardInterrupt):
        converted(tiny, crops, output)
    finished = records_in(output)
    converted(tiny, crops, output)
    assert len(made) == 7 + 13 - finished
    for path in whole.iterdir():
        assert (output / path.name).read_bytes() == path.read_bytes()
    assert len(list(output.iterdir())) == len(list(whole.iterdir()))


def test_shards_that_nobody_is_at_are_written_and_the_rest_is_left(
    tiny: Config, crops: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    whole = converted(tiny, crops, tmp_path / "whole")
    output = tmp_path / "shared"
    (output / "claims").mkdir(parents=True)
    (first, second), *_ = zip(*[iter(sorted(path.name for path in whole.glob("*.tfrecord")))] * 2)
    shutil.copy(str(whole / first), str(output / first))
    made = os.stat(str(output / first)).st_mtime_ns
    with locks.try_lock(output / "claims" / second):
        tfrecord.share(tiny, crops, output)
    assert not (output / second).exists()
    assert os.stat(str(output / first)).st_mtime_ns == made
    assert caplog.messages[-1] == "convert: 2 of 4 shards were made here"
    converted(tiny, crops, output)
    shutil.rmtree(str(output / "claims"))
    assert sorted(path.name for path in output.iterdir()) == sorted(path.name for path in whole.iterdir())
    for path in whole.iterdir():
        assert (output / path.name).read_bytes() == path.read_bytes()


def records_in(folder: Path) -> int:
    return sum(1 for path in folder.glob("*.tfrecord") for _ in tf.python_io.tf_record_iterator(str(path)))


def test_converting_something_else_is_refused(tiny: Config, tmp_path: Path) -> None:
    (tmp_path / "crop.json").write_text(json.dumps({}))
    with pytest.raises(RecordError, match="not the output of align-crop"):
        tfrecord.convert(tiny, tmp_path, tmp_path)


def test_tensorflow_is_not_needed() -> None:
    """It alone takes more memory than a process may have."""
    code = "import sys, fse.preprocessing.tfrecord; assert not {'tensorflow', 'pandas'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
