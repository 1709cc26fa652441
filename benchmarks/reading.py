"""How fast training pairs come out of TFRecords, and whether a training step has to wait for them.

    python benchmarks/reading.py                          # 146 to 128 pixels, batches of 32, JPEG crops, 2 threads
    python benchmarks/reading.py --format png --steps 0   # exact crops; no training

The replaced codes' input pipeline gave 281 pictures a second on two cores; wanted are ten times as many pairs: decoded,
warped and changed in colour, two views of 128 pixels of each picture. On a machine that has other work, look at the second
rate: it counts the processor time that a pair takes. Then the reference network is trained, and the time in which the
next batch is asked for is compared with that of whole steps. Printed are medians over the rounds.
"""

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any, List, Tuple

import numpy as np
from align_crop import write

from fse import config, conversion, devices, records, training
from fse.config import Config
from fse.datasets import annotations
from fse.tf1 import tf

REPLACED = 281.0  # pictures per second, measured on two cores


def settings(options: argparse.Namespace) -> Config:
    """The experiment that is timed: the replaced codes' sizes."""
    return config.from_tables(
        {
            "crop": {"size": 146, "format": options.format},
            "network": {"name": "reference", "view": 128},
            "train": {"batch_size": options.batch, "threads": options.threads, "steps": 10**6},
        }
    )


def write_records(experiment: Config, folder: Path, count: int) -> records.Records:
    """Shards of soft noise, which compresses like photographs."""
    crops = folder / "crops"
    (crops / "pictures").mkdir(parents=True)
    kind = experiment.crop.format
    names = [path.name for path in write(crops / "pictures", count, (146, 146), 8, kind)]
    annotations.write(crops / "landmarks.csv", names, names, ["train"] * count, [], [np.zeros((0, 2))] * count)
    (crops / "crop.json").write_text(json.dumps({"size": 146, "landmarks": []}))
    (folder / "records").mkdir()
    conversion.convert(experiment, crops, folder / "records")
    return records.read(folder / "records")


def pairs_per_second(
    experiment: Config, data: records.Records, rounds: int, batches: int
) -> Tuple[List[float], List[float]]:
    """Rates of the input pipeline alone: pairs per second, and per second of processor time."""
    device = devices.find(experiment)
    with tf.Graph().as_default(), tf.Session(device.initialise(), config=device.session_config()) as session:
        first = tf.constant(0, tf.int64)
        following = tf.data.make_one_shot_iterator(training.batches(experiment, data, first, 10**6)).get_next()
        taken = tf.reshape(following.views, [-1])[0]  # the rest need not leave TensorFlow
        rates: Tuple[List[float], List[float]] = ([], [])
        clocks = time.monotonic, time.process_time
        for _ in range(rounds + 1):
            began = [clock() for clock in clocks]
            for _ in range(batches):
                session.run(taken)
            for found, clock, start in zip(rates, clocks, began):
                found.append(batches * experiment.train.batch_size / (clock() - start))
    return rates[0][1:], rates[1][1:]  # the first fills buffers


def waiting(experiment: Config, data: records.Records, steps: int) -> List[Tuple[float, float]]:
    """Seconds that each step waits for its batch, the batch's way to Python included, and that it takes in all."""
    device = devices.find(experiment)
    with tf.Graph().as_default(), tf.Session(device.initialise(), config=device.session_config()) as session:
        graph = training.build(experiment, data, experiment.train.steps, device)
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
    parser.add_argument("--pictures", type=int, default=2000)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batches", type=int, default=50, help="batches a round")
    parser.add_argument("--steps", type=int, default=5, help="training steps; 0: none")
    options = parser.parse_args()
    experiment = settings(options)
    with tempfile.TemporaryDirectory() as folder:
        data = write_records(experiment, Path(folder), options.pictures)
        found, of_processor = pairs_per_second(experiment, data, options.rounds, options.batches)
        rates = {"as measured": statistics.median(found)}
        rates["{} idle processors".format(options.threads)] = options.threads * statistics.median(of_processor)
        for name, rate in rates.items():
            words = "{:<20}{:9.1f} pairs/s, {:5.2f} times the replaced codes' {:g} pictures/s   (wanted 10)"
            print(words.format(name, rate, rate / REPLACED, REPLACED))
        if options.steps:
            times = waiting(experiment, data, options.steps)
            share = statistics.median(waited / whole for waited, whole in times)
            print("share of a step's time spent waiting: {:.2%}   (wanted at most 2%)".format(share))
    print("{} crops, {} threads, tensorflow {}".format(options.format, options.threads, tf.__version__))


if __name__ == "__main__":
    main()
