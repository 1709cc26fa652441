"""Share of a training step spent on convolutions: training speed compared with bare convolutions.

    python benchmarks/reference_speed.py                      # network of the reference implementations, 128 pixels, batch 32
    python benchmarks/reference_speed.py --network compact --view 80 --threads 2

The bare convolutions are a forward and a backward pass of the network's kernels, without batch norm, activation, softmax,
losses, input pipeline and optimizer. Both are timed alternately in one process, so that other load on the machine and the
allocation of memory affect them alike. Rates are medians over the rounds, and the ratio is the median of the rounds'
ratios.
"""

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Callable, Dict, List

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.common import parser
from benchmarks.shards import write_records
from fse import config, devices
from fse.config import Config
from fse.devices import cpu
from fse.inputs import records
from fse.model import network
from fse.tf1 import tf
from fse.training.graph import build_graph


def settings(options: argparse.Namespace) -> Config:
    """Return the timed experiment. Its images have a margin of nine pixels, as in the reference implementations."""
    return config.from_tables(
        {
            "crop": {"size": options.view + 18},
            "network": {"name": options.network, "view": options.view, "landmarks": options.landmarks},
            "train": {"batch_size": options.batch, "threads": options.threads, "steps": 10**6, "shuffle_buffer": 1},
        }
    )


class BareLayers(network.LayerBuilder):
    """A layer builder whose layers are bare convolutions."""

    def __call__(
        self, maps: Any, kernel: int, filters: int, stride: int = 1, dilation: int = 1, relu: bool = True
    ) -> Any:
        """Return the convolution of `maps`."""
        self.count += 1
        with tf.variable_scope(f"layer_{self.count}"):
            shape = [kernel, kernel, maps.shape.as_list()[-1], filters]
            weights = tf.get_variable("kernel", shape, tf.float32, tf.constant_initializer(self._initial_kernel(shape)))
        padding = "SAME" if self.network.padding == "mirror" else "VALID"
        return tf.nn.convolution(
            maps, weights, padding=padding, strides=[stride, stride], dilation_rate=[dilation, dilation]
        )


def bare_step(experiment: Config) -> Callable[[], Any]:
    """Return a function that runs the convolutions of one batch forward and backward."""
    with tf.Graph().as_default():
        architecture, view = network.get_network(experiment.network.name), experiment.network.view
        count = experiment.train.batch_size * experiment.augment.views
        views = np.random.RandomState(0).uniform(-1, 1, (count, view, view, 3)).astype(np.float32)
        images = tf.get_variable("views", initializer=views, trainable=False)
        maps = architecture.build(BareLayers(architecture, True, 1234), images, experiment.network.landmarks)
        gradients = tf.gradients(tf.reduce_sum(tf.square(maps)), tf.trainable_variables())
        # One number that depends on all gradients: TensorFlow skips operations whose results are not used.
        step = tf.add_n([tf.reduce_sum(gradient) for gradient in gradients])
        session = tf.Session(config=cpu.session_config(experiment.train.threads))
        session.run(tf.global_variables_initializer())
    return lambda: session.run(step)


def training_step(experiment: Config, data: records.Records) -> Callable[[], Any]:
    """Return a function that runs one training step: the real graph, including the input pipeline."""
    with tf.Graph().as_default():
        device = devices.find(experiment)
        session = tf.Session(device.initialize(), config=device.session_config())
        graph = build_graph(experiment, data, experiment.train.steps, device)
        session.run(tf.get_collection(tf.GraphKeys.INIT_OP)[0])
        session.run(graph.input_init, {graph.first_step: 0})
    fetches = [graph.losses, graph.update]
    return lambda: session.run(fetches)


def rate(step: Callable[[], Any], steps: int, batch: int) -> float:
    """Return the pairs per second over some steps."""
    start = time.monotonic()
    for _ in range(steps):
        step()
    return steps * batch / (time.monotonic() - start)


def main() -> None:
    """Measure and print."""
    arguments = parser(__doc__)
    arguments.add_argument("--network", default="reference", help="network.name (default: %(default)s)")
    arguments.add_argument("--view", type=int, default=128, help="network.view (default: %(default)s)")
    arguments.add_argument("--landmarks", type=int, default=8, help="network.landmarks (default: %(default)s)")
    arguments.add_argument("--batch", type=int, default=32, help="train.batch_size (default: %(default)s)")
    arguments.add_argument("--threads", type=int, default=2, help="train.threads (default: %(default)s)")
    arguments.add_argument("--rounds", type=int, default=5, help="rounds to measure (default: %(default)s)")
    arguments.add_argument("--steps", type=int, default=3, help="steps per round (default: %(default)s)")
    options = arguments.parse_args()
    experiment = settings(options)
    with tempfile.TemporaryDirectory() as folder:
        data = write_records(experiment, Path(folder), 2 * options.batch)
        steps = {"bare convolutions": bare_step(experiment), "training": training_step(experiment, data)}
        rates: Dict[str, List[float]] = {name: [] for name in steps}
        for step in steps.values():
            step()  # warms up
        for _ in range(options.rounds):
            for name, step in steps.items():
                rates[name].append(rate(step, options.steps, options.batch))
    for name, values in rates.items():
        print(f"{name:<20}{statistics.median(values):8.2f} pairs/s")
    ratios = [training / bare for training, bare in zip(rates["training"], rates["bare convolutions"])]
    print(f"ratio               {statistics.median(ratios):8.3f}   (required: 0.85)")
    print(
        f"{options.network} {options.view} px, batch {options.batch}, {options.threads} threads, "
        f"tensorflow {tf.__version__}"
    )


if __name__ == "__main__":
    main()
