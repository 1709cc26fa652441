import hashlib
import json
import logging
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict

import numpy as np
import pytest

from fse.config import Config
from fse.errors import RecordError
from fse.preprocessing import tfrecord
from fse.runtime import locks, processes
from fse.tf1 import tf
from tests.fse.crops import write_crops


@pytest.fixture
def crops(tmp_path: Path) -> Path:
    return write_crops(tmp_path / "crops", 9, 4)


def converted(experiment: Config, crops: Path, folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    tfrecord.convert(experiment, crops, folder)
    return folder


def encoded_by_tensorflow(features: Dict[str, tfrecord.Value]) -> bytes:
    """Return the example of these features, serialized by TensorFlow's classes."""
    message = {}
    for name, value in features.items():
        if isinstance(value, bytes):
            message[name] = tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))
        elif isinstance(value, int):
            message[name] = tf.train.Feature(int64_list=tf.train.Int64List(value=[value]))
        else:
            message[name] = tf.train.Feature(float_list=tf.train.FloatList(value=value.ravel()))
    example = tf.train.Example(features=tf.train.Features(feature=message))
    return bytes(example.SerializeToString(deterministic=True))


@pytest.mark.parametrize("length", [0, 1, 127, 128, 20_000, 3_000_000])
@pytest.mark.parametrize("landmarks", [0, 5, 68])
def test_files_are_byte_for_byte_what_tensorflow_writes(tmp_path: Path, length: int, landmarks: int) -> None:
    random = np.random.RandomState(length + landmarks)
    features: Dict[str, tfrecord.Value] = {
        "image/width": length,
        "image/height": 146,
        "image/encoded": random.bytes(length),
        "image/filename": "ä/é.png".encode(),
        "image/format": b"",
        "landmarks": random.uniform(-1, 1, (landmarks, 2)).astype(np.float32),
    }
    serialized = tfrecord.encode_example(features)
    assert serialized == encoded_by_tensorflow(features)
    path = tmp_path / "a.tfrecord"
    with tf.python_io.TFRecordWriter(os.fspath(path)) as writer:
        writer.write(serialized)
        writer.write(b"")
    assert path.read_bytes() == tfrecord.encode_record(serialized) + tfrecord.encode_record(b"")


def test_the_summary_has_the_images_and_the_hash_of_every_shard(tiny: Config, crops: Path, tmp_path: Path) -> None:
    folder = converted(tiny, crops, tmp_path / "records")
    files = json.loads((folder / "records.json").read_text())["files"]
    assert sorted(files) == sorted(path.name for path in folder.glob("*.tfrecord"))
    for name, described in files.items():
        assert described["sha256"] == hashlib.sha256((folder / name).read_bytes()).hexdigest()
        assert described["images"] == sum(1 for _ in tf.python_io.tf_record_iterator(str(folder / name)))
    assert [files[name]["images"] for name in sorted(files)] == [2, 2, 5, 4]


def test_the_number_of_processes_does_not_change_the_output(
    tiny: Config, crops: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = converted(tiny, crops, tmp_path / "alone")
    monkeypatch.setattr(processes, "MIN_PARALLEL_ITEMS", 1)
    together = converted(tiny, crops, tmp_path / "together")
    for path in alone.iterdir():
        assert (together / path.name).read_bytes() == path.read_bytes()


def test_an_interrupted_stage_resumes_after_the_last_finished_shard(
    tiny: Config, crops: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uninterrupted = converted(tiny, crops, tmp_path / "uninterrupted")
    examples, example = [], tfrecord._example

    def interrupted_at_the_seventh(*arguments: Any) -> Any:
        examples.append(arguments)
        if len(examples) == 7:
            raise KeyboardInterrupt
        return example(*arguments)

    monkeypatch.setattr(tfrecord, "_example", interrupted_at_the_seventh)
    output = tmp_path / "resumed"
    with pytest.raises(KeyboardInterrupt):
        converted(tiny, crops, output)
    finished = records_in(output)
    converted(tiny, crops, output)
    assert len(examples) == 7 + 13 - finished
    for path in uninterrupted.iterdir():
        assert (output / path.name).read_bytes() == path.read_bytes()
    assert len(list(output.iterdir())) == len(list(uninterrupted.iterdir()))


def test_share_writes_only_shards_that_no_other_process_is_writing(
    tiny: Config, crops: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    alone = converted(tiny, crops, tmp_path / "alone")
    output = tmp_path / "shared"
    (output / "claims").mkdir(parents=True)
    (first, second), *_ = zip(*[iter(sorted(path.name for path in alone.glob("*.tfrecord")))] * 2)
    shutil.copy(alone / first, output / first)
    written = (output / first).stat().st_mtime_ns
    with locks.try_lock(output / "claims" / second):
        tfrecord.share(tiny, crops, output)
    assert not (output / second).exists()
    assert (output / first).stat().st_mtime_ns == written
    assert caplog.messages[-1] == "convert: 2 of 4 shards were made here"
    converted(tiny, crops, output)
    shutil.rmtree(output / "claims")
    assert sorted(path.name for path in output.iterdir()) == sorted(path.name for path in alone.iterdir())
    for path in alone.iterdir():
        assert (output / path.name).read_bytes() == path.read_bytes()


def records_in(folder: Path) -> int:
    return sum(1 for path in folder.glob("*.tfrecord") for _ in tf.python_io.tf_record_iterator(os.fspath(path)))


def test_a_folder_that_is_not_from_align_crop_is_rejected(tiny: Config, tmp_path: Path) -> None:
    (tmp_path / "crop.json").write_text(json.dumps({}))
    with pytest.raises(RecordError, match="not the output of align-crop"):
        tfrecord.convert(tiny, tmp_path, tmp_path)


def test_tensorflow_is_not_imported() -> None:
    """TensorFlow alone takes more memory than a process of this stage may."""
    code = "import sys, fse.preprocessing.tfrecord; assert not {'tensorflow', 'pandas'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
