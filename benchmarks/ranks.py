"""Speed of two ranks with one thread each, compared with one rank with two threads, on the same batches.

    python benchmarks/ranks.py RECORDS [--config faces] [--steps 60] [--rounds 3]

RECORDS is the output of `fse convert` with the same configuration. Rounds alternate between the two. The speeds compared
are medians, from the first line of the log to the last, so that the start does not count. Exits with 1 below 90 %.
"""

import argparse
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Dict, List

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.common import parser
from fse import config
from fse.training import loss_table, train

REQUIRED_RATIO = 0.9


def main() -> int:
    """Print the speeds; return the exit code."""
    arguments = parser(__doc__)
    arguments.add_argument("records", type=Path, help="output of `fse convert`")
    arguments.add_argument("--config", default="faces", help="experiment (default: %(default)s)")
    arguments.add_argument("--steps", type=int, default=60, help="steps per training (default: %(default)s)")
    arguments.add_argument("--rounds", type=int, default=3, help="rounds to measure (default: %(default)s)")
    options = arguments.parse_args()
    speeds: Dict[int, List[float]] = {1: [], 2: []}
    for _ in range(options.rounds):
        for ranks in speeds:
            speeds[ranks].append(pairs_per_second(options, ranks))
    one, two = (statistics.median(speeds[ranks]) for ranks in (1, 2))
    print(f"one rank, two threads: {one:.1f} pairs/s; two ranks, one thread each: {two:.1f} pairs/s; {two / one:.0%}")
    return 0 if two >= REQUIRED_RATIO * one else 1


def pairs_per_second(options: argparse.Namespace, ranks: int) -> float:
    """Train, and return the speed of all ranks together, without the first part of the steps."""
    overrides = {
        "train.steps": options.steps,
        "train.devices": ranks,
        "train.threads": 2 // ranks,
        "train.summary_freq": max(1, options.steps // 6),
        "train.save_freq": 100_000,
    }
    settings = config.load(options.config, ",".join(f"{name}={value}" for name, value in overrides.items()))
    with tempfile.TemporaryDirectory() as folder:
        train.train(settings, options.records, Path(folder))
        rows = loss_table.read(Path(folder))
    first, last = rows[1], rows[-1]
    pairs = (last["step"] - first["step"]) * settings.train.batch_size
    return pairs / (last["seconds"] - first["seconds"])


if __name__ == "__main__":
    sys.exit(main())
