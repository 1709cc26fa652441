"""Two ranks with one thread each against one rank with two threads: pairs per second of the same batches.

    python benchmarks/ranks.py RECORDS [--config faces] [--steps 60] [--rounds 3]

RECORDS is what `fse convert` wrote with the same configuration. Rounds alternate between the two; compared are the medians
of the speeds after the first line of the log, so that starting up does not count. Exit code 1 below 90 %.
"""

import argparse
import csv
import statistics
import sys
import tempfile
from pathlib import Path

from fse import config
from fse.training import train

WANTED = 0.9


def main() -> int:
    """Prints the speeds; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("records", type=Path)
    parser.add_argument("--config", default="faces")
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    speeds = {1: [], 2: []}  # type: ignore[var-annotated]
    for _ in range(options.rounds):
        for ranks in speeds:
            speeds[ranks].append(speed(options, ranks))
    one, two = (statistics.median(speeds[ranks]) for ranks in (1, 2))
    print(f"one rank, two threads: {one:.1f} pairs/s; two ranks, one thread each: {two:.1f}; {two / one:.0%}")
    return 0 if two >= WANTED * one else 1


def speed(options: argparse.Namespace, ranks: int) -> float:
    """Pairs per second of all ranks, without the first third of the steps."""
    every = max(1, options.steps // 6)
    overrides = f"train.steps={options.steps},train.devices={ranks},train.threads={2 // ranks},train.summary_freq={every},train.save_freq=100000"
    settings = config.load(options.config, overrides)
    with tempfile.TemporaryDirectory() as folder:
        train.train(settings, options.records, Path(folder))
        with open(str(Path(folder) / "losses.csv"), newline="") as stream:
            rows = list(csv.DictReader(stream))
    first, last = rows[1], rows[-1]
    pairs = (int(last["step"]) - int(first["step"])) * settings.train.batch_size
    return pairs / (float(last["seconds"]) - float(first["seconds"]))


if __name__ == "__main__":
    sys.exit(main())
