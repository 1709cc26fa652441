"""Speed of the input pipeline of training, and whether a training step has to wait for it.

    python benchmarks/input_pipeline.py                          # 146 to 128 pixels, batches of 32, JPEG crops, 2 threads
    python benchmarks/input_pipeline.py --format png --steps 0   # lossless crops; no training

A pair is two views of 128 pixels of one image: decoded, warped and changed in color. The goal is ten times as many pairs
per second as the input pipeline of the reference implementations produces. The reference pipeline is timed first,
because our pipeline then makes the C library keep freed memory. On a busy machine, compare the rates per second of CPU time.

Then the reference network is trained, and the time that each step waits for its batch is compared with the time of the
whole step. All figures are medians over the rounds.
"""

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Callable, List, Tuple

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.common import clocks, parser, write_images
from benchmarks.reference_pipeline import open_pipeline
from benchmarks.shards import write_records
from fse import config, devices
from fse.config import Config
from fse.inputs import records
from fse.inputs.batches import batches
from fse.tf1 import tf
from fse.training.graph import build_graph

SIZE, VIEW = 146, 128


def settings(options: argparse.Namespace) -> Config:
    """Return the timed experiment, which has the sizes of the reference implementations."""
    return config.from_tables(
        {
            "crop": {"size": SIZE, "format": options.format},
            "network": {"name": "reference", "view": VIEW},
            "train": {"batch_size": options.batch, "threads": options.threads, "steps": 10**6},
        }
    )


def pairs_per_second(take_batch: Callable[[], Any], options: argparse.Namespace) -> np.ndarray:
    """Return the rates of an input pipeline, [2]: pairs per second, and pairs per second of CPU time."""
    rates = []
    for _ in range(options.rounds + 1):
        start = clocks()
        for _ in range(options.batches):
            take_batch()
        rates.append(options.batches * options.batch / (clocks() - start))
    return np.asarray(np.median(rates[1:], axis=0))  # the first round fills buffers


def reference_rates(experiment: Config, folder: Path, options: argparse.Namespace) -> np.ndarray:
    """Return `pairs_per_second` of the reference implementations, from images of CelebA's size."""
    folder.mkdir()
    paths = write_images(folder, options.images, (178, 218), 8)
    with open_pipeline(paths, SIZE, VIEW, experiment.train.batch_size, options.threads) as take_batch:
        return pairs_per_second(take_batch, options)


def project_rates(experiment: Config, data: records.Records, options: argparse.Namespace) -> np.ndarray:
    """Return `pairs_per_second` of this project's input pipeline, from TFRecords."""
    device = devices.find(experiment)
    with tf.Graph().as_default(), tf.Session(device.initialize(), config=device.session_config()) as session:
        dataset = batches(experiment, data, tf.constant(0, tf.int64), 10**6)
        batch = tf.data.make_one_shot_iterator(dataset).get_next()
        # One number that depends on the batch, so that the batch itself need not be copied to Python.
        number = tf.reshape(batch.views, [-1])[0]
        return pairs_per_second(lambda: session.run(number), options)


def step_times(experiment: Config, data: records.Records, steps: int) -> List[Tuple[float, float]]:
    """Return for each step the seconds of waiting for its batch (with the copy to Python) and of the whole step."""
    device = devices.find(experiment)
    with tf.Graph().as_default(), tf.Session(device.initialize(), config=device.session_config()) as session:
        graph = build_graph(experiment, data, experiment.train.steps, device)
        session.run(tf.get_collection(tf.GraphKeys.INIT_OP)[0])
        session.run(graph.input_init, {graph.first_step: 0})
        (get_next,) = (op for op in tf.get_default_graph().get_operations() if op.type == "IteratorGetNext")
        times = []
        for _ in range(steps + 1):
            start = time.monotonic()
            batch: Any = session.run(get_next.outputs)
            waited = time.monotonic() - start
            session.run([graph.losses, graph.update], dict(zip(get_next.outputs, batch)))
            times.append((waited, time.monotonic() - start))
    return times[1:]  # the first step compiles and allocates


def main() -> None:
    """Measure and print."""
    arguments = parser(__doc__)
    arguments.add_argument(
        "--format", choices=("png", "jpeg"), default="jpeg", help="crop.format (default: %(default)s)"
    )
    arguments.add_argument("--images", type=int, default=2000, help="number of images (default: %(default)s)")
    arguments.add_argument("--batch", type=int, default=32, help="images per batch (default: %(default)s)")
    arguments.add_argument("--threads", type=int, default=2, help="threads of TensorFlow (default: %(default)s)")
    arguments.add_argument("--rounds", type=int, default=5, help="rounds to measure (default: %(default)s)")
    arguments.add_argument("--batches", type=int, default=50, help="batches per round (default: %(default)s)")
    arguments.add_argument(
        "--steps", type=int, default=5, help="training steps; 0 skips training (default: %(default)s)"
    )
    options = arguments.parse_args()
    experiment = settings(options)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        data = write_records(experiment, folder, options.images)
        reference = reference_rates(experiment, folder / "photographs", options)
        project = project_rates(experiment, data, options)
        print(f"  {'pairs':<26}{'per second':>12}{'per CPU second':>24}")
        for label, (wall, cpu) in (("reference implementations", reference), ("this project", project)):
            print(f"  {label:<26}{wall:>12.1f}{cpu:>24.1f}")
        wall, cpu = project / reference
        print(f"  {'ratio':<26}{wall:>12.2f}{cpu:>24.2f}   (required: 10)")
        if options.steps:
            times = step_times(experiment, data, options.steps)
            share = statistics.median(waited / total for waited, total in times)
            print(f"share of a step's time spent waiting: {share:.2%}   (at most 2% permitted)")
    print(f"{options.format} crops, {options.threads} threads, tensorflow {tf.__version__}")


if __name__ == "__main__":
    main()
