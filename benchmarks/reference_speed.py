"""How much of a training step is convolutions: pairs per second of training against those of the bare convolutions.

    python benchmarks/reference_speed.py                      # the replaced codes' network, 128 pixels, batch 32
    python benchmarks/reference_speed.py --network compact --view 80 --threads 2

Both are timed in turns in one process, so that other load on the machine and how memory is had are the same for both;
printed are medians over the rounds and the median of the rounds' ratios. The bare convolutions are a forward and a
backward pass of the network's kernels, without batch norm, activation, softmax, losses, input pipeline and optimizer.
"""

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any, Callable, Dict, List

import numpy as np

from fse import config, devices
from fse.config import Config
from fse.datasets import annotations
from fse.devices import cpu
from fse.inputs import records
from fse.model import network
from fse.preprocessing import tfrecord
from fse.tf1 import tf
from fse.training import train


def settings(options: argparse.Namespace) -> Config:
    """The experiment that is timed; the images have a margin of nine pixels, as in the replaced codes."""
    return config.from_tables(
        {
            "crop": {"size": options.view + 18},
            "network": {"name": options.network, "view": options.view, "landmarks": options.landmarks},
            "train": {"batch_size": options.batch, "threads": options.threads, "steps": 10**6, "shuffle_buffer": 1},
        }
    )


def write_records(experiment: Config, folder: Path, count: int) -> records.Records:
    """Shards of noise."""
    from PIL import Image

    size, random = experiment.crop.size, np.random.RandomState(0)
    (folder / "crops" / "images").mkdir(parents=True)
    names = [f"{number:04d}.png" for number in range(count)]
    for name in names:
        noise = random.randint(0, 256, (size // 4 + 1, size // 4 + 1, 3)).astype(np.uint8)
        Image.fromarray(noise).resize((size, size)).save(str(folder / "crops" / "images" / name))
    rows = (annotations.Row(name, name, "train", np.zeros((0, 2))) for name in names)
    annotations.write(folder / "crops" / "landmarks.csv", [], rows)
    (folder / "crops" / "crop.json").write_text(json.dumps({"size": size, "landmarks": []}))
    (folder / "records").mkdir()
    tfrecord.convert(experiment, folder / "crops", folder / "records")
    return records.read(folder / "records")


class Bare(network.Layers):
    """Layers that are a convolution and nothing else."""

    def __call__(
        self, maps: Any, kernel: int, filters: int, stride: int = 1, dilation: int = 1, relu: bool = True
    ) -> Any:
        """The convolution."""
        self.count += 1
        with tf.variable_scope(f"layer_{self.count}"):
            shape = [kernel, kernel, maps.shape.as_list()[-1], filters]
            weights = tf.get_variable("kernel", shape, tf.float32, tf.constant_initializer(self._initial(shape)))
        padding = "SAME" if self.network.padding == "mirror" else "VALID"
        return tf.nn.convolution(
            maps, weights, padding=padding, strides=[stride, stride], dilation_rate=[dilation, dilation]
        )


def bare_step(experiment: Config) -> Callable[[], Any]:
    """A function that runs the convolutions of one batch forward and backward."""
    with tf.Graph().as_default():
        found, view = network.find(experiment.network.name), experiment.network.view
        count = experiment.train.batch_size * experiment.augment.views
        views = np.random.RandomState(0).uniform(-1, 1, (count, view, view, 3)).astype(np.float32)
        images = tf.get_variable("views", initializer=views, trainable=False)
        maps = found.build(Bare(found, True, 1234), images, experiment.network.landmarks)
        gradients = tf.gradients(tf.reduce_sum(tf.square(maps)), tf.trainable_variables())
        # A number that depends on all of them: operations whose results nobody wants are optimized away.
        step = tf.add_n([tf.reduce_sum(gradient) for gradient in gradients])
        session = tf.Session(config=cpu.session_config(experiment.train.threads))
        session.run(tf.global_variables_initializer())
    return lambda: session.run(step)


def training_step(experiment: Config, data: records.Records) -> Callable[[], Any]:
    """A function that takes one step of training: the product's own graph, input pipeline included."""
    with tf.Graph().as_default():
        device = devices.find(experiment)
        session = tf.Session(device.initialize(), config=device.session_config())
        graph = train.build(experiment, data, experiment.train.steps, device)
        session.run(tf.get_collection(tf.GraphKeys.INIT_OP)[0])
        session.run(graph.begin, {graph.first_step: 0})
    fetches = [graph.losses, graph.update]
    return lambda: session.run(fetches)


def rate(step: Callable[[], Any], steps: int, batch: int) -> float:
    """Pairs per second over some steps."""
    began = time.monotonic()
    for _ in range(steps):
        step()
    return steps * batch / (time.monotonic() - began)


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", default="reference")
    parser.add_argument("--view", type=int, default=128)
    parser.add_argument("--landmarks", type=int, default=8)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=3, help="steps a round")
    options = parser.parse_args()
    experiment = settings(options)
    with tempfile.TemporaryDirectory() as folder:
        data = write_records(experiment, Path(folder), 2 * options.batch)
        steps = {"bare convolutions": bare_step(experiment), "training": training_step(experiment, data)}
        rates: Dict[str, List[float]] = {name: [] for name in steps}
        for step in steps.values():
            step()
        for _ in range(options.rounds):
            for name, step in steps.items():
                rates[name].append(rate(step, options.steps, options.batch))
    for name, values in rates.items():
        print(f"{name:<20}{statistics.median(values):8.2f} pairs/s")
    ratio = statistics.median(one / other for one, other in zip(rates["training"], rates["bare convolutions"]))
    print(f"ratio               {ratio:8.3f}   (bar 0.85)")
    print(
        f"{options.network} {options.view} px, batch {options.batch}, {options.threads} threads, tensorflow {tf.__version__}"
    )


if __name__ == "__main__":
    main()
