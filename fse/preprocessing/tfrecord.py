"""Writing TFRecord shards: the ConvertTFRecord stage, without TensorFlow.

A shard is a stock TFRecord file of `tf.train.Example` with these features:

    image/encoded    bytes   the crop as PNG or JPEG, RGB, `size` x `size`
    image/filename   bytes   name of the crop, unique in the data set
    image/format     bytes   "png" or "jpeg"
    image/height     int64   pixels
    image/width      int64   pixels
    landmarks        float   x and y of each annotated landmark in turn, in [-1, 1] over the crop; no values if there are none

`records.json` beside the shards names the landmarks in order, counts the images, and has each shard's number of
images and SHA-256. Shards are called `train-00000-of-00004.tfrecord`; images go to them in turn.

Importing TensorFlow takes more memory than all of this. Its formats are two short ones; what is written here is, byte
for byte, what TensorFlow writes (tests/fse/test_conversion.py).
"""

import hashlib
import json
import logging
import os
import struct
from pathlib import Path, PurePath
from typing import Any, Dict, Iterator, List, NamedTuple, Tuple, Union

import google_crc32c
import numpy as np

from fse.config import Config
from fse.datasets import annotations
from fse.datasets.annotations import SPLITS
from fse.errors import DataError, RecordError
from fse.runtime import locks, processes
from fse.runtime.outputs import CLAIMS, hash_file
from fse.runtime.progress import progress_bar

Value = Union[bytes, int, np.ndarray]

# TFRecord's kMaskDelta.
_MASK_DELTA = 0xA282EAD8
# The fields of tf.train.Feature.
_BYTES_LIST, _FLOAT_LIST, _INT64_LIST = 1, 2, 3


class _Shard(NamedTuple):
    """A shard to write.

    path: where. folder: of the crops. size: their width and height. files: their names. points: float32 [n, L, 2], in
    [-1, 1] over the crop.
    """

    path: Path
    folder: Path
    size: int
    files: List[str]
    points: np.ndarray


def convert(config: Config, crops: Path, output: Path) -> None:
    """Writes the images that align-crop left in `crops` as shards into `output`: the ConvertTFRecord stage.

    A shard that is there under its name is whole, and left as it is: an interrupted attempt is gone on from. Nothing
    depends on the number of processes.

    Raises:
      RecordError: `crops` was not written by align-crop.
      StageError: a process was killed.
    """
    summary, counts, shards = _planned(config, crops, output)
    digests = processes.ordered_map(_write, shards, _workers(config, counts), "convert", chunk=1)
    files = {}
    with progress_bar(total=sum(counts.values()), unit="images", desc="records") as progress:
        for (name, count), digest in zip(counts.items(), digests):
            files[name] = {"images": count, "sha256": digest}
            progress.update(count)
    (output / "records.json").write_text(json.dumps(dict(summary, files=files), indent=2) + "\n")


def share(config: Config, crops: Path, output: Path) -> None:
    """Writes the shards that no other process is at, where `convert` finds them afterwards.

    Any number of processes may do so at once, on any hosts that see `output`. A shard whose process died is written by
    one that comes to it later, or by `convert`.

    Args:
      config, crops: as for `convert`.
      output: a folder with a folder `claims`.

    Raises:
      RecordError, StageError: as `convert`.
    """
    _, counts, shards = _planned(config, crops, output)
    made = processes.ordered_map(_write_unclaimed, shards, _workers(config, counts), "convert", chunk=1)
    count = sum(progress_bar(made, total=len(counts), unit="shards", desc="records"))
    logging.info("convert: %d of %d shards were made here", count, len(counts))


def framed(data: bytes) -> bytes:
    """A record of a TFRecord file: the length (uint64), its checksum (uint32), the data, their checksum; little-endian.

    Source: https://www.tensorflow.org/tutorials/load_data/tfrecord#tfrecords_format_details
    """
    length = struct.pack("<Q", len(data))
    return b"".join([length, _checksum(length), data, _checksum(data)])


def example(features: Dict[str, Value]) -> bytes:
    """A serialized `tf.train.Example`, as protocol buffers' deterministic serialization gives it.

    Args:
      features: bytes and int by name, which become lists of one value, and float32 arrays, which become lists of floats.
    """
    entries = []
    for name in sorted(features):
        entries.append(_field(1, _field(1, name.encode()) + _field(2, _feature(features[name]))))
    return _field(1, b"".join(entries))


def _planned(config: Config, crops: Path, output: Path) -> Tuple[Dict[str, Any], Dict[str, int], Iterator[_Shard]]:
    """What is to be done, the same in every process that has a share in it.

    Returns:
      What `records.json` says besides the files; the shards' numbers of images, by name; and the shards.
    """
    try:
        description = json.loads((crops / "crop.json").read_text())
        names, size = description["landmarks"], description["size"]
        table = annotations.read(crops / "landmarks.csv")
    except (OSError, ValueError, KeyError, DataError) as error:
        raise RecordError(f"{crops}: not the output of align-crop: {error}") from None
    rows = {split: np.flatnonzero(np.array(table.splits) == split) for split in SPLITS}
    shards = {split: _names(split, min(config.records.shards, len(rows[split]))) for split in SPLITS}
    parts = {name: rows[split][i :: len(found)] for split, found in shards.items() for i, name in enumerate(found)}
    jobs = (
        _Shard(
            output / name,
            crops / "images",
            size,
            [table.files[row] for row in part],
            table.points[part].astype(np.float32),
        )
        for name, part in parts.items()
    )
    images = {split: len(rows[split]) for split in SPLITS}
    summary = {"size": size, "landmarks": names, "images": images, "shards": shards}
    return summary, {name: len(part) for name, part in parts.items()}, jobs


def _workers(config: Config, counts: Dict[str, int]) -> int:
    return config.records.processes if sum(counts.values()) >= processes.FEW else 1


def _write_unclaimed(shard: _Shard) -> bool:
    """Writes a shard unless it is there or another process is at it; returns whether it did."""
    with locks.try_lock(shard.path.parent / CLAIMS / shard.path.name) as mine:
        if not mine or shard.path.exists():
            return False
        _write(shard)
        return True


def _write(shard: _Shard) -> str:
    """Writes a shard if it is not there. Returns its SHA-256."""
    if shard.path.exists():
        return hash_file(shard.path)
    partial = shard.path.with_name(shard.path.name + ".partial")
    digest = hashlib.sha256()
    with open(str(partial), "wb") as stream:
        for name, points in zip(shard.files, shard.points):
            record = framed(_record(shard, name, points))
            stream.write(record)
            digest.update(record)
    os.replace(str(partial), str(shard.path))
    return digest.hexdigest()


def _record(shard: _Shard, name: str, points: np.ndarray) -> bytes:
    return example(
        {
            "image/encoded": (shard.folder / name).read_bytes(),
            "image/filename": name.encode(),
            "image/format": PurePath(name).suffix[1:].encode(),
            "image/height": shard.size,
            "image/width": shard.size,
            "landmarks": points,
        }
    )


def _names(split: str, count: int) -> List[str]:
    return [f"{split}-{number:05d}-of-{count:05d}.tfrecord" for number in range(count)]


def _checksum(data: bytes) -> bytes:
    """CRC-32C, rotated and shifted, so that the checksum of data that hold checksums is a good one too."""
    crc = google_crc32c.value(data)
    return struct.pack("<I", ((crc >> 15 | crc << 17) + _MASK_DELTA) & 0xFFFFFFFF)


def _feature(value: Value) -> bytes:
    """A `tf.train.Feature`: one of three lists, each a message whose field 1 has the values, numbers packed."""
    if isinstance(value, bytes):
        return _field(_BYTES_LIST, _field(1, value))
    if isinstance(value, int):
        return _field(_INT64_LIST, _field(1, _varint(value)))
    packed = value.astype("<f4").tobytes()
    return _field(_FLOAT_LIST, _field(1, packed) if packed else b"")


def _field(number: int, data: bytes) -> bytes:
    """A field of a message that is a string, bytes or a message: wire type 2."""
    return b"".join([_varint(number << 3 | 2), _varint(len(data)), data])


def _varint(value: int) -> bytes:
    """A number that is not negative, seven bits a byte, the lowest first; all bytes but the last have the eighth set."""
    digits = bytearray()
    while value > 0x7F:
        digits.append(value & 0x7F | 0x80)
        value >>= 7
    digits.append(value)
    return bytes(digits)
