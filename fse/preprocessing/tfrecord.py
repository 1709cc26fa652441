"""The ConvertTFRecord stage: crops packed into TFRecord shards, without TensorFlow.

A shard is a standard TFRecord file of `tf.train.Example` with these features:

    image/encoded    bytes   the crop as PNG or JPEG, RGB, `size` x `size`
    image/filename   bytes   name of the crop, unique in the data set
    image/format     bytes   "png" or "jpeg"
    image/height     int64   pixels
    image/width      int64   pixels
    landmarks        float   x and y of each annotated landmark in turn, in [-1, 1] over the crop; empty without landmarks

Shards are called `train-00000-of-00004.tfrecord`. Images go to the shards of their split in turn. `records.json` beside
the shards has the landmarks' names in order, the number of images, and each shard's number of images and SHA-256.

Importing TensorFlow would take more memory than everything else here. The two formats it needs, TFRecord and
protocol buffers, are short, and the files are byte for byte those that TensorFlow writes
(tests/fse/preprocessing/test_tfrecord.py).
"""

import hashlib
import json
import logging
import struct
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any, Dict, Iterator, List, Mapping, Union

import google_crc32c
import numpy as np

from fse.config import Config
from fse.datasets import annotations
from fse.datasets.annotations import SPLITS
from fse.errors import DataError, RecordError
from fse.runtime import locks, processes
from fse.runtime.files import atomic_file
from fse.runtime.hashing import hash_file
from fse.runtime.outputs import CLAIMS
from fse.runtime.progress import progress_bar

Value = Union[bytes, int, np.ndarray]

# kMaskDelta in tensorflow/core/lib/hash/crc32c.h.
_MASK_DELTA = 0xA282EAD8
# Field numbers in tf.train.Feature (tensorflow/core/example/feature.proto).
_BYTES_LIST, _FLOAT_LIST, _INT64_LIST = 1, 2, 3


@dataclass(frozen=True)
class _Shard:
    """A shard to write."""

    path: Path  # the file to write
    folder: Path  # folder of the crops
    size: int  # width and height of the crops in pixels
    files: List[str]  # file names of the crops
    points: np.ndarray  # float32 [n, L, 2], their landmarks in [-1, 1] over the crop


@dataclass(frozen=True)
class _Plan:
    """The work plan, identical in every worker process."""

    summary: Dict[str, Any]  # what `records.json` says besides the files
    counts: Dict[str, int]  # number of images, by the shard's file name
    shards: Iterator[_Shard]


def convert(config: Config, crops: Path, output: Path) -> None:
    """Pack the output of AlignCrop into shards.

    Shards appear under their names by atomic rename, so an interrupted attempt is resumed after the last shard that it
    finished. The number of processes does not change the output.

    Args:
      config: `records` is read.
      crops: output of AlignCrop.
      output: an existing folder, empty or with an interrupted attempt.

    Raises:
      RecordError: `crops` is not an output of AlignCrop.
      StageError: a process was killed.
    """
    plan = _make_plan(config, crops, output)
    digests = processes.ordered_map(_write, plan.shards, _workers(config, plan), "convert", chunk=1)
    files = {}
    with progress_bar(total=sum(plan.counts.values()), unit="images", desc="records") as progress:
        for (name, count), digest in zip(plan.counts.items(), digests):
            files[name] = {"images": count, "sha256": digest}
            progress.update(count)
    (output / "records.json").write_text(json.dumps(dict(plan.summary, files=files), indent=2) + "\n")


def share(config: Config, crops: Path, output: Path) -> None:
    """Write the shards that no other process is writing, for `convert` to find.

    Any number of processes may do this at once, on any hosts that see `output`. If a process dies, another one or
    `convert` writes its shard.

    Args:
      config: as for `convert`.
      crops: as for `convert`.
      output: a folder that contains a folder `claims`.

    Raises:
      RecordError: as for `convert`.
      StageError: as for `convert`.
    """
    plan = _make_plan(config, crops, output)
    written = processes.ordered_map(_write_unclaimed, plan.shards, _workers(config, plan), "convert", chunk=1)
    count = sum(progress_bar(written, total=len(plan.counts), unit="shards", desc="records"))
    logging.info("convert: %d of %d shards were made here", count, len(plan.counts))


def encode_record(data: bytes) -> bytes:
    """Encode data as a record of a TFRecord file.

    That is the length (uint64), the length's checksum (uint32), the data, and the data's checksum (uint32), in
    little-endian order. Source: https://www.tensorflow.org/tutorials/load_data/tfrecord#tfrecords_format_details
    """
    length = struct.pack("<Q", len(data))
    return b"".join([length, _checksum(length), data, _checksum(data)])


def encode_example(features: Mapping[str, Value]) -> bytes:
    """Serialize a `tf.train.Example`, as the deterministic serialization of protocol buffers does.

    Args:
      features: values by name. Bytes and int become a list of one value, and a float32 array a list of floats.
    """
    entries = []
    for name in sorted(features):
        entries.append(_field(1, _field(1, name.encode()) + _field(2, _feature(features[name]))))
    return _field(1, b"".join(entries))


def _make_plan(config: Config, crops: Path, output: Path) -> _Plan:
    try:
        description = json.loads((crops / "crop.json").read_text())
        landmarks, size = description["landmarks"], description["size"]
        table = annotations.read(crops / "landmarks.csv")
    except (OSError, ValueError, KeyError, DataError) as error:
        raise RecordError(f"{crops}: not the output of align-crop: {error}") from None
    rows = {split: np.flatnonzero(np.array(table.splits) == split) for split in SPLITS}
    names = {split: _shard_names(split, min(config.records.shards, len(rows[split]))) for split in SPLITS}
    shard_rows = {
        name: rows[split][number :: len(names[split])] for split in SPLITS for number, name in enumerate(names[split])
    }
    shards = (
        _Shard(
            path=output / name,
            folder=crops / "images",
            size=size,
            files=[table.files[row] for row in selected],
            points=table.points[selected].astype(np.float32),
        )
        for name, selected in shard_rows.items()
    )
    images = {split: len(rows[split]) for split in SPLITS}
    summary = {"size": size, "landmarks": landmarks, "images": images, "shards": names}
    return _Plan(summary, {name: len(selected) for name, selected in shard_rows.items()}, shards)


def _shard_names(split: str, count: int) -> List[str]:
    return [f"{split}-{number:05d}-of-{count:05d}.tfrecord" for number in range(count)]


def _workers(config: Config, plan: _Plan) -> int:
    """Return the number of processes: one if there are so few images that starting more would take longer."""
    return config.records.processes if sum(plan.counts.values()) >= processes.MIN_PARALLEL_ITEMS else 1


def _write_unclaimed(shard: _Shard) -> bool:
    """Write a shard unless it exists or another process is writing it; return whether it was written here."""
    with locks.try_lock(shard.path.parent / CLAIMS / shard.path.name) as claimed:
        if not claimed or shard.path.exists():
            return False
        _write(shard)
        return True


def _write(shard: _Shard) -> str:
    """Write a shard unless it exists; return its SHA-256."""
    if shard.path.exists():
        return hash_file(shard.path)
    digest = hashlib.sha256()
    with atomic_file(shard.path, ".partial") as partial, open(partial, "wb") as stream:
        for name, points in zip(shard.files, shard.points):
            record = encode_record(_example(shard, name, points))
            stream.write(record)
            digest.update(record)
    return digest.hexdigest()


def _example(shard: _Shard, name: str, points: np.ndarray) -> bytes:
    return encode_example(
        {
            "image/encoded": (shard.folder / name).read_bytes(),
            "image/filename": name.encode(),
            "image/format": PurePath(name).suffix[1:].encode(),
            "image/height": shard.size,
            "image/width": shard.size,
            "landmarks": points,
        }
    )


# Encoding of TFRecord and protocol buffers (https://protobuf.dev/programming-guides/encoding) -------------------------


def _checksum(data: bytes) -> bytes:
    """Return the masked CRC-32C of data: rotated and shifted, as the CRC of data that contains CRCs is a weak checksum."""
    crc = google_crc32c.value(data)
    return struct.pack("<I", ((crc >> 15 | crc << 17) + _MASK_DELTA) & 0xFFFFFFFF)


def _feature(value: Value) -> bytes:
    """Encode a `tf.train.Feature`: one of three list messages, whose field 1 holds the values, with numbers packed."""
    if isinstance(value, bytes):
        return _field(_BYTES_LIST, _field(1, value))
    if isinstance(value, int):
        return _field(_INT64_LIST, _field(1, _varint(value)))
    packed = value.astype("<f4").tobytes()
    return _field(_FLOAT_LIST, _field(1, packed) if packed else b"")


def _field(number: int, data: bytes) -> bytes:
    """Encode a field of wire type 2: a string, bytes or an embedded message."""
    return b"".join([_varint(number << 3 | 2), _varint(len(data)), data])


def _varint(value: int) -> bytes:
    """Encode a non-negative number, 7 bits per byte, lowest first; the eighth bit says that another byte follows."""
    digits = bytearray()
    while value > 0x7F:
        digits.append(value & 0x7F | 0x80)
        value >>= 7
    digits.append(value)
    return bytes(digits)
