"""From a download to TFRecords, with as many images as CelebA has: minutes, and memory of the largest process.

    python benchmarks/at_scale.py                               # 20,000 and 200,000 images; 8 gigabytes of disk
    python benchmarks/at_scale.py --images 2000 --processes 2

Makes an archive of JPEG images of CelebA's size with five landmarks each, serves it on this machine, and runs the stages
as anybody would. Wanted on two processors: 200,000 images in 15 minutes at most, 500 MB a process at most, and hardly
more for ten times as many images. On a machine that has other work, look at the processors' minutes.
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
from align_crop import write

from fse.datasets import annotations
from fse.datasets.celeba import FIVE_POINTS

ROOT = Path(__file__).resolve().parents[1]
DISTINCT = 500
MINUTES, MEGABYTES = 15.0, 500.0


class Ran(NamedTuple):
    """What a stage took: minutes, minutes of all its processes' processor time, megabytes of the largest process."""

    minutes: float
    processor: float
    megabytes: float


class _Silent(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *arguments: object) -> None:
        """Says nothing."""


def write_archive(folder: Path, count: int) -> None:
    """`images.zip`: JPEG images of 178 x 218 pixels of which every 500th is the same, and `landmarks.csv`."""
    contents = [path.read_bytes() for path in write(folder, DISTINCT, (178, 218), 8)]
    names = [f"{number:06d}.jpg" for number in range(count)]
    splits = ["test" if number % 10 == 9 else "train" for number in range(count)]
    points = np.random.RandomState(0).uniform(60.0, 120.0, (count, 5, 2))
    table = annotations.Annotations(names, splits, list(FIVE_POINTS), points, None, None)
    annotations.write_table(folder / "landmarks.csv", table)
    with zipfile.ZipFile(str(folder / "images.zip"), "w") as archive:
        archive.write(str(folder / "landmarks.csv"), "landmarks.csv")
        for number, name in enumerate(names):
            archive.writestr("images/" + name, contents[number % DISTINCT])


def run(arguments: List[str]) -> Ran:
    """Runs a program, which must succeed."""
    began = monotonic()
    child = subprocess.Popen([sys.executable, "-m", "fse", *arguments], cwd=str(ROOT))
    _, status, used = os.wait4(child.pid, 0)
    child.returncode = os.WEXITSTATUS(status) if os.WIFEXITED(status) else 1
    if child.returncode:
        sys.exit(f"fse {arguments[0]} failed")
    return Ran((monotonic() - began) / 60.0, (used.ru_utime + used.ru_stime) / 60.0, used.ru_maxrss / 1024.0)


def stages(folder: Path, count: int, options: argparse.Namespace) -> Dict[str, Ran]:
    """Makes, serves and converts so many images."""
    (folder / "served").mkdir()
    # In a process of its own: those that are started later count the peak of this one as theirs.
    maker = multiprocessing.get_context("spawn").Process(target=write_archive, args=(folder / "served", count))
    maker.start()
    maker.join()
    handler = functools.partial(_Silent, directory=str(folder / "served"))
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
    made, found = {verb: str(folder / verb) for verb in ("download", "align-crop", "convert")}, {}
    for verb, inputs in (
        ("download", []),
        ("align-crop", ["--dataset", made["download"]]),
        ("convert", ["--crops", made["align-crop"]]),
    ):
        found[verb] = run([verb, *experiment, *inputs, "--output", made[verb]])
    server.shutdown()
    server.server_close()
    return found


def show(count: int, found: Dict[str, Ran]) -> Tuple[float, float]:
    """Prints a table. Returns minutes of all stages, and megabytes of the largest process."""
    print(f"{count:,} images")
    print("  {:<12}{:>10}{:>22}{:>18}".format("", "minutes", "processors' minutes", "largest process"))
    whole = Ran(*(fold(values) for fold, values in zip((sum, sum, max), zip(*found.values()))))
    for name, ran in [*found.items(), ("all", whole)]:
        print("  {:<12}{:>10.2f}{:>22.2f}{:>15.0f} MB".format(name, *ran))
    sys.stdout.flush()
    return whole.minutes, whole.megabytes


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, nargs="+", default=[20_000, 200_000])
    parser.add_argument("--format", choices=("png", "jpeg"), default="jpeg")
    parser.add_argument("--processes", type=int, default=0, help="0: one per processor")
    options = parser.parse_args()
    results = []
    for count in options.images:
        with tempfile.TemporaryDirectory() as folder:
            results.append(show(count, stages(Path(folder), count, options)))
    for count, (minutes, megabytes) in zip(options.images, results):
        print(
            f"{count:,} images: {minutes / (MINUTES * count / 200_000):.2f} of {MINUTES:g} minutes for as many, {megabytes / MEGABYTES:.2f} of {MEGABYTES:g} MB"
        )


if __name__ == "__main__":
    main()
