"""Time and memory from a download to TFRecords, with as many images as CelebA has.

    python benchmarks/at_scale.py                               # 20,000 and 200,000 images; 8 gigabytes of disk
    python benchmarks/at_scale.py --images 2000 --processes 2

Writes an archive of JPEG images of CelebA's size with five landmarks each, serves it from this machine, and runs the
stages by the command line. The goal on two CPU cores is 200,000 images in at most 15 minutes, with at most 500 MB per
process, and hardly more memory for ten times as many images. On a busy machine, compare the minutes of CPU time.
"""

import argparse
import functools
import http.server
import multiprocessing
import os
import subprocess
import sys
import tempfile
import threading
import zipfile
from pathlib import Path
from time import monotonic
from typing import Dict, List, NamedTuple, Tuple

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.common import ROOT, parser, write_images
from fse.datasets import annotations
from fse.datasets.spec import FIVE_POINTS

DISTINCT_IMAGES = 500
MAX_MINUTES, MAX_MEGABYTES = 15.0, 500.0  # for 200,000 images


class Usage(NamedTuple):
    """What a stage used."""

    minutes: float  # wall time
    cpu_minutes: float  # CPU time of all its processes
    megabytes: float  # peak memory of its largest process


class _SilentHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *arguments: object) -> None:
        """Log nothing."""


def write_archive(folder: Path, count: int) -> None:
    """Write `images.zip` with `landmarks.csv` and `count` JPEG images of 178 x 218 pixels, 500 of them distinct."""
    contents = [path.read_bytes() for path in write_images(folder, DISTINCT_IMAGES, (178, 218), 8)]
    names = [f"{number:06d}.jpg" for number in range(count)]
    splits = ["test" if number % 10 == 9 else "train" for number in range(count)]
    points = np.random.RandomState(0).uniform(60.0, 120.0, (count, 5, 2))
    table = annotations.Annotations(names, splits, list(FIVE_POINTS), points, None, None)
    annotations.write(folder / "landmarks.csv", table)
    with zipfile.ZipFile(folder / "images.zip", "w") as archive:
        archive.write(folder / "landmarks.csv", "landmarks.csv")
        for number, name in enumerate(names):
            archive.writestr("images/" + name, contents[number % DISTINCT_IMAGES])


def run(arguments: List[str]) -> Usage:
    """Run a stage; end this program if it fails."""
    start = monotonic()
    child = subprocess.Popen([sys.executable, "-m", "fse", *arguments], cwd=ROOT)
    _, status, used = os.wait4(child.pid, 0)
    child.returncode = os.WEXITSTATUS(status) if os.WIFEXITED(status) else 1
    if child.returncode:
        sys.exit(f"fse {arguments[0]} failed")
    return Usage((monotonic() - start) / 60.0, (used.ru_utime + used.ru_stime) / 60.0, used.ru_maxrss / 1024.0)


def run_stages(folder: Path, count: int, options: argparse.Namespace) -> Dict[str, Usage]:
    """Make and serve an archive of `count` images, and run the stages on it."""
    (folder / "served").mkdir()
    # In its own process: on Linux, a child process starts with the peak memory of its parent.
    writer = multiprocessing.get_context("spawn").Process(target=write_archive, args=(folder / "served", count))
    writer.start()
    writer.join()
    handler = functools.partial(_SilentHandler, directory=os.fspath(folder / "served"))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    overrides = {
        "dataset.name": "scale",
        "dataset.archive": f"http://127.0.0.1:{server.server_port}/images.zip",
        "crop.format": options.format,
        "crop.processes": options.processes,
        "records.processes": options.processes,
    }
    experiment = ["--set", ",".join(f"{name}={value}" for name, value in overrides.items())]
    outputs = {verb: os.fspath(folder / verb) for verb in ("download", "align-crop", "convert")}
    inputs: Dict[str, List[str]] = {
        "download": [],
        "align-crop": ["--dataset", outputs["download"]],
        "convert": ["--crops", outputs["align-crop"]],
    }
    usage = {verb: run([verb, *experiment, *inputs[verb], "--output", outputs[verb]]) for verb in outputs}
    server.shutdown()
    server.server_close()
    return usage


def show(count: int, usage: Dict[str, Usage]) -> Tuple[float, float]:
    """Print a table; return the minutes of all stages and the megabytes of the largest process."""
    total = Usage(
        minutes=sum(stage.minutes for stage in usage.values()),
        cpu_minutes=sum(stage.cpu_minutes for stage in usage.values()),
        megabytes=max(stage.megabytes for stage in usage.values()),
    )
    print(f"{count:,} images")
    print(f"  {'':<12}{'minutes':>10}{'minutes of CPU time':>22}{'largest process':>18}")
    for name, stage in [*usage.items(), ("all", total)]:
        print(f"  {name:<12}{stage.minutes:>10.2f}{stage.cpu_minutes:>22.2f}{stage.megabytes:>15.0f} MB")
    sys.stdout.flush()
    return total.minutes, total.megabytes


def main() -> None:
    """Measure and print."""
    arguments = parser(__doc__)
    arguments.add_argument("--images", type=int, nargs="+", default=[20_000, 200_000], help="numbers of images to try")
    arguments.add_argument(
        "--format", choices=("png", "jpeg"), default="jpeg", help="crop.format (default: %(default)s)"
    )
    arguments.add_argument("--processes", type=int, default=0, help="parallel processes; 0 is one per CPU")
    options = arguments.parse_args()
    results = []
    for count in options.images:
        with tempfile.TemporaryDirectory() as folder:
            results.append(show(count, run_stages(Path(folder), count, options)))
    for count, (minutes, megabytes) in zip(options.images, results):
        share = minutes / (MAX_MINUTES * count / 200_000)
        print(
            f"{count:,} images: {share:.0%} of the permitted time ({MAX_MINUTES:g} minutes for 200,000), "
            f"{megabytes / MAX_MEGABYTES:.0%} of {MAX_MEGABYTES:g} MB"
        )


if __name__ == "__main__":
    main()
