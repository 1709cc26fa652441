"""Reading TFRecord shards: what ConvertTFRecord writes (`fse.preprocessing.tfrecord` has the format) and everything after it reads."""

import json
import os
from pathlib import Path
from typing import Any, Dict, Iterator, List, NamedTuple

import numpy as np
from google.protobuf.message import DecodeError

from fse import tf1
from fse.datasets.annotations import SPLITS
from fse.errors import RecordError
from fse.tf1 import as_written, tf

# A record that says it is longer cannot be meant.
_LARGEST_RECORD = 1 << 28


class Records(NamedTuple):
    """A folder of shards.

    folder: where they are. size: width and height of every image in pixels. landmarks: names of annotated landmarks.
    images: number of images by split. shards: file names by split.
    """

    folder: Path
    size: int
    landmarks: List[str]
    images: Dict[str, int]
    shards: Dict[str, List[str]]

    def paths(self, split: str) -> List[str]:
        """Full paths of a split's shards, in order."""
        return [str(self.folder / name) for name in self.shards[split]]


def read(folder: Path) -> Records:
    """Finds the shards in a folder.

    Raises:
      RecordError: it holds none, or a shard is missing.
    """
    try:
        summary = json.loads((folder / "records.json").read_text())
        records = Records(folder, summary["size"], summary["landmarks"], summary["images"], summary["shards"])
    except (OSError, ValueError, KeyError) as error:
        raise RecordError(f"{folder}: no TFRecord shards here ({error}); run `fse convert` first") from None
    for split in SPLITS:
        for path in records.paths(split):
            if not Path(path).is_file():
                raise RecordError(f"{path}: the shard is missing; convert again")
    return records


def count(path: Path) -> int:
    """Number of records in a TFRecord file that nobody has vouched for, going by the lengths that it states.

    Raises:
      RecordError: the lengths do not go with the file's size: it is truncated, or no TFRecord file.
    """
    found = position = 0
    with open(str(path), "rb") as stream:
        size = os.fstat(stream.fileno()).st_size
        while position < size or not size:
            # Each record is its length, a checksum of that (4 bytes), the data, and a checksum of them (4 bytes).
            stream.seek(position)
            length = int.from_bytes(stream.read(8), "little")
            position += 16 + length
            if length > _LARGEST_RECORD or position > size:
                what = f"truncated or corrupt after {found} records" if found else "not a TFRecord file"
                raise RecordError(f"{path}: {what}")
            found += 1
    return found


def examples(path: Path) -> Iterator[Any]:
    """The `tf.train.Example`s of a TFRecord file that nobody has vouched for, in order, with their checksums checked.

    Raises:
      RecordError: as `count`; a checksum is wrong; a record is no `tf.train.Example`.
    """
    count(path)  # TensorFlow makes room for whatever length is stated
    whole = 0
    try:
        for record in tf.python_io.tf_record_iterator(str(path)):
            yield tf.train.Example.FromString(record)
            whole += 1
    except (tf.errors.DataLossError, DecodeError) as error:
        reason = tf1.reason(error) if isinstance(error, tf.errors.OpError) else "not a tf.train.Example"
        raise RecordError(f"{path}: corrupt after {whole} records ({reason})") from None


def parse(serialized: Any, records: Records) -> Any:
    """Decodes one serialized example.

    Returns:
      name (string scalar), image (uint8 [size, size, 3]) and landmarks (float32 [L, 2], in [-1, 1] over the crop).
    """
    features = {
        "image/encoded": tf.FixedLenFeature([], tf.string),
        "image/filename": tf.FixedLenFeature([], tf.string),
        "landmarks": tf.FixedLenFeature([len(records.landmarks), 2], tf.float32),
    }
    example = tf.parse_single_example(serialized, features)
    # This operation decodes PNG as well; the default would be a faster, coarser cosine transform.
    image = tf.image.decode_jpeg(example["image/encoded"], channels=3, dct_method="INTEGER_ACCURATE")
    image.set_shape([None, None, 3])
    image = tf.ensure_shape(image, [records.size, records.size, 3])
    return example["image/filename"], image, example["landmarks"]


def ordered_batches(records: Records, split: str, batch: int) -> Any:
    """A tf.data set of a split in the order of the shards, one pass, in batches; the last batch may be smaller."""
    serialized = tf.data.TFRecordDataset(records.paths(split))
    return serialized.map(as_written(lambda item: parse(item, records)), num_parallel_calls=2).batch(batch).prefetch(2)


def repeated_batches(
    records: Records, batch: int, seed: int, buffer: int, first_step: Any, part: int = 0, parts: int = 1
) -> Any:
    """A tf.data set of training images for ever, from a given step on.

    Every epoch visits the images in another order, which depends on the seed and the epoch alone; images that do
    not fill a last batch are left for the next epoch's draw. Beginning at a later step gives exactly the rest.

    Args:
      records: the shards.
      batch: images per step.
      seed: of the order.
      buffer: number of records from which the next one is drawn.
      first_step: int64 scalar tensor.
      part, parts: which share of each batch to read: images `part`, `part + parts`, … of it.

    Returns:
      data set of uint8 [batch / parts, size, size, 3].
    """
    steps = records.images["train"] // batch
    epoch, done = first_step // steps, first_step % steps
    paths = records.paths("train")

    def one_epoch(number: Any) -> Any:
        serialized = tf.data.TFRecordDataset(paths)
        order = serialized.shuffle(
            min(buffer, records.images["train"]), seed=seed + number, reshuffle_each_iteration=False
        )
        return order.take(steps * batch)

    images = tf.data.Dataset.range(epoch, np.iinfo(np.int64).max).flat_map(as_written(one_epoch)).skip(done * batch)
    if parts > 1:
        images = images.shard(parts, part)
    parsed = as_written(lambda item: parse(item, records)[1])
    # The ranks share the processors. On TensorFlow 1.15 AUTOTUNE, which starts with one, is a sixth slower.
    images = images.map(parsed, num_parallel_calls=max(1, (os.cpu_count() or 1) // parts))
    return images.batch(batch // parts, drop_remainder=True)
