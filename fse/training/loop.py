"""The training loop: it takes the steps and records them.

`run_steps` takes the steps, on every rank. On rank 0 a `Recorder` turns them into the rows of `losses.csv`, progress
lines, TensorBoard summaries and checkpoints.
"""

import contextlib
import csv
import logging
import math
import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Dict, Iterable, Iterator, List, Optional, Tuple

import numpy as np

from fse.config import Config
from fse.devices.base import Device
from fse.distributed import ranks
from fse.errors import ConfigError, DataError, TrainingError
from fse.inputs import records
from fse.model import network
from fse.runtime.files import atomic_file
from fse.runtime.progress import progress_bar
from fse.tf1 import tf
from fse.training import checkpoints, loss_table, summaries
from fse.training.graph import Graph
from fse.training.loss_table import COLUMNS, LOSSES

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Step:
    """The result of one step, or of the last one of several that the device takes in one call."""

    # Number of steps so far.
    number: int
    # The losses in the order of `LOSSES`, then the learning rate.
    values: List[float]
    # Values of `Graph.summary_tensors` if a checkpoint is due after this step.
    summary_images: Optional[Tuple[np.ndarray, np.ndarray]] = None
    # In mixed precision, if a row of the table is due: the loss scale and the number of steps skipped so far.
    loss_scale: Optional[Tuple[float, int]] = None


def run_steps(config: Config, session: Any, graph: Graph, device: Device, first: int, last: int) -> Iterator[Step]:
    """Take the steps `first` + 1 to `last` and yield their results.

    All ranks fetch the same tensors in every step, because an NPU requires it: its collective operations are part of
    the compiled graph of the fetches.

    Raises:
      ConfigError: the device takes several steps per call, and `first` is not a multiple of them.
      TrainingError: a loss is not finite.
    """
    settings = config.train
    fetches = [(*graph.losses, graph.learning_rate), graph.update]
    steps_per_call = device.steps_per_call
    if first % steps_per_call:
        raise ConfigError(
            f"step {first} is not a multiple of npu.iterations_per_loop, {steps_per_call}; resume with the value that "
            "the training began with"
        )
    for number in range(first + steps_per_call, last + 1, steps_per_call):
        save = number % settings.save_freq == 0 or number == last
        with _step_timeout(config, device.size, number):
            # Images leave the device only when they are written: they are larger than everything else that is fetched.
            values, _, *images = session.run([*fetches, graph.summary_tensors] if save else fetches)
        if not np.isfinite(values).all():
            raise TrainingError(_not_finite_message(number, values, settings.learning_rate))
        loss_scale = None
        if device.loss_scale is not None and (save or number % settings.summary_freq == 0):
            scale, updates = session.run([device.loss_scale, graph.updates_applied])
            loss_scale = (float(scale), number - int(updates))
        yield Step(number, values, images[0] if save else None, loss_scale)


@contextlib.contextmanager
def _step_timeout(config: Config, rank_count: int, number: int) -> Iterator[None]:
    """End this process if a step hangs, where training has a process of its own: with several ranks or on an NPU."""
    if rank_count == 1 and config.train.device != "npu":
        yield
        return
    together = f", which all {rank_count} ranks take together" if rank_count > 1 else ""
    with ranks.time_limit(config.train.step_timeout, f"step {number}{together}"):
        yield


def _not_finite_message(step: int, values: List[float], rate: float) -> str:
    parts = ", ".join(f"{name} {value}" for name, value in zip(LOSSES, values))
    return f"step {step}: a loss is not finite ({parts}); lower train.learning_rate (now {rate})"


class Recorder:
    """The writer of what a training leaves while it runs: table, progress lines, summaries and checkpoints.

    rows: the rows of `losses.csv`, earlier sessions' included.
    """

    def __init__(
        self, config: Config, data: records.Records, session: Any, saver: Any, graph: Graph, output: Path
    ) -> None:
        """Prepare recording.

        Args:
          config: the experiment.
          data: its records.
          session: its variables go into checkpoints.
          saver: of `graph.checkpoint_variables`.
          graph: the training graph.
          output: existing folder of the training.
        """
        self.rows: loss_table.Rows = []
        self._settings, self._output = config.train, output
        self._session, self._saver, self._graph = session, saver, graph
        self._ticks = network.cell_centers(config.network.name, config.network.view)
        self._steps_per_epoch = data.images["train"] // config.train.batch_size

    def record(self, steps: Iterable[Step], first: int, last: int) -> None:
        """Record the steps `first` + 1 to `last` while they are taken."""
        batch_size = self._settings.batch_size
        self.rows = _rows_up_to(self._output, first)
        window: List[List[float]] = []  # values of the steps since the last row
        row_step, row_time = first, time.monotonic()
        with contextlib.ExitStack() as resources:
            stream = resources.enter_context(_open_table(self._output, self.rows))
            writer = tf.summary.FileWriter(os.fspath(self._output / "summaries"))
            resources.callback(writer.close)
            progress = resources.enter_context(
                progress_bar(total=last * batch_size, initial=first * batch_size, unit="pairs", desc="train")
            )
            for step in steps:
                window.append(step.values)
                progress.update(step.number * batch_size - progress.n)
                if step.summary_images is not None or step.number % self._settings.summary_freq == 0:
                    row = self._row(step.number, window, step.number - row_step, time.monotonic() - row_time)
                    self._write_row(row, stream, writer)
                    _print_progress(row, last, self._steps_per_epoch, batch_size)
                    if step.loss_scale is not None:
                        log.info("loss scale %g, %d of %d steps skipped", *step.loss_scale, step.number)
                    window, row_step, row_time = [], step.number, time.monotonic()
                if step.summary_images is not None:
                    self._save(step.number, step.summary_images, writer)

    def _write_row(self, row: Dict[str, float], stream: IO[str], writer: Any) -> None:
        """Add a row to the table and to TensorBoard."""
        self.rows.append(row)
        csv.DictWriter(stream, COLUMNS).writerow(row)
        stream.flush()  # people watch the table, and a resumed training reads it
        writer.add_summary(summaries.scalars({name: row[name] for name in COLUMNS[1:-1]}), int(row["step"]))

    def _save(self, step: int, summary_images: Tuple[np.ndarray, np.ndarray], writer: Any) -> None:
        """Save a checkpoint, and show views and heatmaps of that step in TensorBoard."""
        views, heatmaps = summary_images
        writer.add_summary(summaries.pair(views, heatmaps, self._ticks), step)
        folder = self._output / "checkpoints"
        checkpoints.save(self._session, self._saver, self._graph.loss_scale_variables, folder, step)

    def _row(self, step: int, window: List[List[float]], steps: int, seconds: float) -> Dict[str, float]:
        """Return the row of the last `steps` steps, which took so many seconds; `window` has their values."""
        means = [float(value) for value in np.mean(window, axis=0)]
        # All ranks' pairs, as the batch size is that of all ranks.
        speed = steps * self._settings.batch_size / max(seconds, 1e-9)
        total_seconds = seconds + (self.rows[-1]["seconds"] if self.rows else 0.0)
        return dict(zip(COLUMNS, [step, *means, round(speed, 2), round(total_seconds, 3)]))


def _open_table(output: Path, rows: loss_table.Rows) -> IO[str]:
    """Write the table with these rows and open it for further ones.

    The new table replaces the old one atomically, so a stop at any moment keeps the earlier sessions' rows.
    """
    file = output / loss_table.FILE
    with atomic_file(file, ".new") as temporary, temporary.open("w", newline="") as stream:
        table = csv.DictWriter(stream, COLUMNS)
        table.writeheader()
        table.writerows(rows)
    return file.open("a", newline="")


def _rows_up_to(output: Path, step: int) -> loss_table.Rows:
    """Return the rows that an earlier session wrote up to a step; none if the table is missing or broken."""
    try:
        return [row for row in loss_table.read(output) if row["step"] <= step]
    except DataError:
        return []


def _print_progress(row: Dict[str, float], last: int, steps_per_epoch: int, batch_size: int) -> None:
    """Print the progress lines of the reference implementations word for word, because users' scripts parse them."""
    step = int(row["step"])
    epoch, step_of_epoch = math.ceil(step / steps_per_epoch), (step - 1) % steps_per_epoch + 1
    rate = step * batch_size / max(row["seconds"], 1e-9)
    remaining = (last - step) * batch_size / rate / 60.0
    print(f"progress  epoch {epoch}  step {step_of_epoch}  image/sec {rate:0.1f}  remaining {int(remaining)}m")
    for name in LOSSES:
        print(name, row[name])
    sys.stdout.flush()
