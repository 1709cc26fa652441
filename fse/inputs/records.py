"""Reading of TFRecord shards. `fse.preprocessing.tfrecord` writes them, and its docstring documents the format."""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, Iterator, List

import numpy as np
from google.protobuf.message import DecodeError

from fse import tf1
from fse.datasets.annotations import SPLITS
from fse.errors import RecordError
from fse.tf1 import tf, without_autograph

# A record that claims to be longer than 256 MiB is treated as corrupt.
_MAX_RECORD_BYTES = 1 << 28


@dataclass(frozen=True)
class Records:
    """A folder of TFRecord shards, as `records.json` describes it."""

    folder: Path
    size: int  # width and height of every image in pixels
    landmarks: List[str]  # names of the annotated landmarks, in the order of their coordinates
    images: Dict[str, int]  # number of images, by split
    shards: Dict[str, List[str]]  # file names of the shards, by split

    def paths(self, split: str) -> List[str]:
        """Return the paths of a split's shards in order, as the strings that TensorFlow wants."""
        return [os.fspath(self.folder / name) for name in self.shards[split]]


def read(folder: Path) -> Records:
    """Read the description of the shards in a folder, and check that all of them are there.

    Raises:
      RecordError: the folder has no shards, or one is missing.
    """
    try:
        summary = json.loads((folder / "records.json").read_text())
        records = Records(folder, summary["size"], summary["landmarks"], summary["images"], summary["shards"])
    except (OSError, ValueError, KeyError) as error:
        raise RecordError(f"{folder}: no TFRecord shards here ({error}); run `fse convert` first") from None
    for split in SPLITS:
        for path in records.paths(split):
            if not Path(path).is_file():
                raise RecordError(f"{path}: the shard is missing; run `fse convert` again")
    return records


def count(path: Path) -> int:
    """Count the records of an untrusted TFRecord file by their stated lengths; the records are not read.

    Raises:
      RecordError: the lengths do not add up to the file's size, so it is truncated, corrupt or not a TFRecord file.
    """
    records = position = 0
    with open(path, "rb") as stream:
        size = os.fstat(stream.fileno()).st_size
        while position < size or not size:
            # A record is its length (8 bytes), a checksum of the length (4), the data, and a checksum of the data (4).
            stream.seek(position)
            length = int.from_bytes(stream.read(8), "little")
            position += 16 + length
            if length > _MAX_RECORD_BYTES or position > size:
                problem = f"truncated or corrupt after {records} records" if records else "not a TFRecord file"
                raise RecordError(f"{path}: {problem}")
            records += 1
    return records


def examples(path: Path) -> Iterator[Any]:
    """Yield the `tf.train.Example`s of an untrusted TFRecord file in order, with their checksums verified.

    Raises:
      RecordError: as for `count`; a checksum is wrong; a record is not a `tf.train.Example`.
    """
    count(path)  # first, as TensorFlow allocates whatever length a record states
    yielded = 0
    try:
        for record in tf.python_io.tf_record_iterator(os.fspath(path)):
            yield tf.train.Example.FromString(record)
            yielded += 1
    except (tf.errors.DataLossError, DecodeError) as error:
        reason = tf1.error_message(error) if isinstance(error, tf.errors.OpError) else "not a tf.train.Example"
        raise RecordError(f"{path}: corrupt after {yielded} records ({reason})") from None


def parse(serialized: Any, records: Records) -> Any:
    """Decode one serialized example.

    Args:
      serialized: string scalar tensor, a `tf.train.Example`.
      records: the shards that the example is from.

    Returns:
      name (string scalar), image (uint8 [size, size, 3]) and landmarks (float32 [L, 2], in [-1, 1] over the crop).
    """
    features = {
        "image/encoded": tf.FixedLenFeature([], tf.string),
        "image/filename": tf.FixedLenFeature([], tf.string),
        "landmarks": tf.FixedLenFeature([len(records.landmarks), 2], tf.float32),
    }
    example = tf.parse_single_example(serialized, features)
    # decode_jpeg decodes PNG as well. By default it would use a faster, less exact cosine transform.
    image = tf.image.decode_jpeg(example["image/encoded"], channels=3, dct_method="INTEGER_ACCURATE")
    image.set_shape([None, None, 3])
    image = tf.ensure_shape(image, [records.size, records.size, 3])
    return example["image/filename"], image, example["landmarks"]


def ordered_batches(records: Records, split: str, batch: int) -> Any:
    """Return a tf.data.Dataset of one pass over a split in the order of the shards; the last batch may be smaller.

    Returns:
      Dataset of what `parse` returns, in batches.
    """
    serialized = tf.data.TFRecordDataset(records.paths(split))
    return (
        serialized.map(without_autograph(lambda item: parse(item, records)), num_parallel_calls=2)
        .batch(batch)
        .prefetch(2)
    )


def repeated_batches(
    records: Records, batch: int, seed: int, buffer: int, first_step: Any, rank: int = 0, ranks: int = 1
) -> Any:
    """Return an endless tf.data.Dataset of training images, from a given step on.

    Every epoch visits the images in another order, which depends on the seed and the number of the epoch alone. A
    resumed training therefore gets exactly the batches that it would have had without the interruption.
    Images that do not fill the last batch of an epoch are left out of that epoch.

    Args:
      records: the shards.
      batch: images per step, over all ranks.
      seed: seed of the order.
      buffer: number of records that are shuffled at a time.
      first_step: int64 scalar tensor, the step of the first batch.
      rank: this rank, which reads images `rank`, `rank + ranks`, … of each batch.
      ranks: number of ranks that share a batch.

    Returns:
      Dataset of uint8 [batch / ranks, size, size, 3].
    """
    steps_per_epoch = records.images["train"] // batch
    epoch, steps_done = first_step // steps_per_epoch, first_step % steps_per_epoch
    paths = records.paths("train")

    def one_epoch(number: Any) -> Any:
        serialized = tf.data.TFRecordDataset(paths)
        shuffled = serialized.shuffle(
            min(buffer, records.images["train"]), seed=seed + number, reshuffle_each_iteration=False
        )
        return shuffled.take(steps_per_epoch * batch)

    epochs = tf.data.Dataset.range(epoch, np.iinfo(np.int64).max)
    # Skip and shard before decoding, so that images of other ranks or earlier steps cost almost nothing.
    images = epochs.flat_map(without_autograph(one_epoch)).skip(steps_done * batch)
    if ranks > 1:
        images = images.shard(ranks, rank)
    parsed = without_autograph(lambda item: parse(item, records)[1])
    # The ranks of a host share its CPUs. On TensorFlow 1.15 AUTOTUNE, which starts with one call, is a sixth slower.
    images = images.map(parsed, num_parallel_calls=max(1, (os.cpu_count() or 1) // ranks))
    return images.batch(batch // ranks, drop_remainder=True)
