"""How fast training pairs come out of TFRecords, and whether a training step has to wait for them.

    python benchmarks/reading.py                          # 146 to 128 pixels, batches of 32, JPEG crops, 2 threads
    python benchmarks/reading.py --format png --steps 0   # exact crops; no training

Wanted are ten times as many pairs a second as the replaced codes' input pipeline gives, which is timed first, before any
memory is kept for later steps as training does: decoded, warped and changed in color, two views of 128 pixels of each
image. On a machine that has other work, look at the rates for a second of a processor's time. Then the reference
network is trained, and the time in which the next batch is asked for is compared with that of whole steps. Printed are
medians over the rounds.
"""

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any, Callable, List, Tuple

import numpy as np
import replaced
from align_crop import clocks, write

from fse import config, devices
from fse.config import Config
from fse.datasets import annotations
from fse.inputs import records
from fse.preprocessing import tfrecord
from fse.tf1 import tf
from fse.training import train

SIZE, VIEW = 146, 128


def settings(options: argparse.Namespace) -> Config:
    """The experiment that is timed: the replaced codes' sizes."""
    return config.from_tables(
        {
            "crop": {"size": SIZE, "format": options.format},
            "network": {"name": "reference", "view": VIEW},
            "train": {"batch_size": options.batch, "threads": options.threads, "steps": 10**6},
        }
    )


def write_records(experiment: Config, folder: Path, count: int) -> records.Records:
    """Shards of soft noise, which compresses like photographs."""
    crops = folder / "crops"
    (crops / "images").mkdir(parents=True)
    kind = experiment.crop.format
    names = [path.name for path in write(crops / "images", count, (SIZE, SIZE), 8, kind)]
    rows = (annotations.Row(name, name, "train", np.zeros((0, 2))) for name in names)
    annotations.write(crops / "landmarks.csv", [], rows)
    (crops / "crop.json").write_text(json.dumps({"size": SIZE, "landmarks": []}))
    (folder / "records").mkdir()
    tfrecord.convert(experiment, crops, folder / "records")
    return records.read(folder / "records")


def batches(experiment: Config, data: records.Records) -> Any:
    """Batches of our input pipeline: one number each, the rest need not leave TensorFlow."""
    first = tf.constant(0, tf.int64)
    following = tf.data.make_one_shot_iterator(train.batches(experiment, data, first, 10**6)).get_next()
    return tf.reshape(following.views, [-1])[0]


def pairs_per_second(take: Callable[[], Any], options: argparse.Namespace) -> np.ndarray:
    """Rates of an input pipeline: pairs per second, and per second of the processors' time; medians over rounds, [2]."""
    rates = []
    for _ in range(options.rounds + 1):
        began = clocks()
        for _ in range(options.batches):
            take()
        rates.append(options.batches * options.batch / (clocks() - began))
    return np.median(rates[1:], axis=0)  # the first fills buffers


def replaced_rates(experiment: Config, folder: Path, options: argparse.Namespace) -> np.ndarray:
    """`pairs_per_second` of the replaced codes, from images of CelebA's size."""
    folder.mkdir()
    paths = write(folder, options.images, (178, 218), 8)
    with replaced.reading(paths, SIZE, VIEW, experiment.train.batch_size, options.threads) as take:
        return pairs_per_second(take, options)


def rates_of_ours(experiment: Config, data: records.Records, options: argparse.Namespace) -> np.ndarray:
    """`pairs_per_second` of this product."""
    device = devices.find(experiment)
    with tf.Graph().as_default(), tf.Session(device.initialize(), config=device.session_config()) as session:
        taken = batches(experiment, data)
        return pairs_per_second(lambda: session.run(taken), options)


def waiting(experiment: Config, data: records.Records, steps: int) -> List[Tuple[float, float]]:
    """Seconds that each step waits for its batch, the batch's way to Python included, and that it takes in all."""
    device = devices.find(experiment)
    with tf.Graph().as_default(), tf.Session(device.initialize(), config=device.session_config()) as session:
        graph = train.build(experiment, data, experiment.train.steps, device)
        session.run(tf.get_collection(tf.GraphKeys.INIT_OP)[0])
        session.run(graph.begin, {graph.first_step: 0})
        (following,) = (op for op in tf.get_default_graph().get_operations() if op.type == "IteratorGetNext")
        times = []
        for _ in range(steps + 1):
            began = time.monotonic()
            batch: Any = session.run(following.outputs)
            waited = time.monotonic() - began
            session.run([graph.losses, graph.update], dict(zip(following.outputs, batch)))
            times.append((waited, time.monotonic() - began))
    return times[1:]


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--format", choices=("png", "jpeg"), default="jpeg")
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batches", type=int, default=50, help="batches a round")
    parser.add_argument("--steps", type=int, default=5, help="training steps; 0: none")
    options = parser.parse_args()
    experiment = settings(options)
    with tempfile.TemporaryDirectory() as folder:
        data = write_records(experiment, Path(folder), options.images)
        found = {"replaced codes": replaced_rates(experiment, Path(folder) / "photographs", options)}
        found["this product"] = rates_of_ours(experiment, data, options)
        print("  {:<16}{:>16}{:>24}".format("pairs", "per second", "per processor's second"))
        for name, rates in found.items():
            print("  {:<16}{:>16.1f}{:>24.1f}".format(name, *rates))
        ratio = found["this product"] / found["replaced codes"]
        print("  {:<16}{:>16.2f}{:>24.2f}   (wanted 10)".format("ratio", *ratio))
        if options.steps:
            times = waiting(experiment, data, options.steps)
            share = statistics.median(waited / whole for waited, whole in times)
            print(f"share of a step's time spent waiting: {share:.2%}   (wanted at most 2%)")
    print(f"{options.format} crops, {options.threads} threads, tensorflow {tf.__version__}")


if __name__ == "__main__":
    main()
