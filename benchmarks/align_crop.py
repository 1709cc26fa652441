"""How fast align-crop is: beside a loop that only decodes and encodes, the replaced codes' way, and plain Pillow.

    python benchmarks/align_crop.py                        # 4,000 small images, 20 photographs of 12 megapixels
    python benchmarks/align_crop.py --small 200 --large 4

The stage itself runs on small images, from files to files, and so does the loop, on as many processes. The replaced codes
decode, shrink and warp images while they train, one after the other. All take turns, so that other load meets all alike;
printed are medians over the rounds, and the medians of the rounds' ratios. Where there is much, look at what a second of
a processor's time does. Creating files can take longer than all else; TMPDIR says where they are (/dev/shm is memory).
"""

import argparse
import functools
import os
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any, Callable, Dict, List, Tuple

import numpy as np
from PIL import Image

import fse
from fse import config
from fse.datasets import images
from fse.preprocessing import align_crop, crop_frame
from fse.runtime import processes

SIZE, VIEW, BATCH = 146, 128, 32


def write(folder: Path, count: int, size: Tuple[int, int], grain: int, kind: str = "jpeg") -> List[Path]:
    """Images of soft noise, which compress like photographs."""
    random, paths = np.random.RandomState(0), []
    for number in range(count):
        noise = random.randint(0, 256, (size[1] // grain, size[0] // grain, 3)).astype(np.uint8)
        image = Image.fromarray(noise).resize(size, Image.Resampling.BICUBIC)
        paths.append(folder / "{}x{}-{:06d}.{}".format(*size, number, kind))
        image.save(str(paths[-1]), quality=90)
    return paths


def stage(paths: List[Path], folder: Path, count: int) -> None:
    """The stage on a data set of the images at `paths`, which are in a folder `images`."""
    settings = config.from_tables({"crop": {"size": SIZE, "format": "jpeg", "processes": count}})
    align_crop.align_crop(settings, paths[0].parent.parent, folder)


def loop(paths: List[Path], folder: Path, count: int) -> None:
    """Decodes and encodes all images and does nothing else."""
    list(processes.ordered_map(functools.partial(_again, folder), paths, count, "loop"))


def _again(folder: Path, path: Path) -> None:
    with Image.open(str(path)) as image:
        image.convert("RGB").save(str(folder / path.name), "JPEG", quality=95)


def align(paths: List[Path]) -> None:
    """What align-crop does to images, in this process: decode, cut the central square, encode."""
    square = np.zeros((2, 3))

    def coarsest(width: int, height: int) -> float:
        square[:] = crop_frame.upright_square(np.array([width, height]) / 2.0, min(width, height))
        return min(width, height) / (2.0 * SIZE)

    for path in paths:
        image, factor = images.decode_coarsely(path, 10**8, coarsest)
        save(align_crop.resample(image, square / factor, SIZE), path)


def plain(paths: List[Path]) -> None:
    """Plain Pillow."""
    for path in paths:
        with Image.open(str(path)) as image:
            save(image.resize((SIZE, SIZE)), path)


def save(image: Image.Image, path: Path) -> None:
    """JPEG of quality 95."""
    image.save(str(path.with_suffix(".out")), "JPEG", quality=95)


def compare(count: int, rounds: int, ways: Dict[str, Callable[[], Any]], bars: Dict[str, float]) -> None:
    """Times ways to treat `count` images in turns, and prints rates, and the first one's relative to others'."""
    rates: Dict[str, List[np.ndarray]] = {name: [] for name in ways}
    for number in range(rounds + 1):
        for name, work in ways.items():
            began = clocks()
            work()
            if number:  # the first round warms up
                rates[name].append(count / (clocks() - began))
    first = next(iter(ways))
    print("  {:<34}{:>12}{:>24}".format("", "per second", "per processor's second"))
    for name, values in rates.items():
        print("  {:<34}{:>12.1f}{:>24.1f}".format(name + ", images", *np.median(values, axis=0)))
    for name, bar in bars.items():
        ratio = np.median(np.array(rates[first]) / np.array(rates[name]), axis=0)
        print("  {:<34}{:>12.2f}{:>24.2f}   (wanted {})".format(f"{first} : {name}", *ratio, bar))


def clocks() -> np.ndarray:
    """Seconds by the clock, and of the processors' time of this process and those it started and saw end."""
    return np.array([time.monotonic(), sum(os.times()[:4])])


def fresh(folder: Path) -> Path:
    """The folder, empty."""
    shutil.rmtree(str(folder), ignore_errors=True)
    folder.mkdir()
    return folder


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", type=int, default=4000)
    parser.add_argument("--large", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--processes", type=int, default=2)
    options = parser.parse_args()
    import replaced  # here: the processes that crop import this file, and want no TensorFlow

    with tempfile.TemporaryDirectory() as name:
        images, out, count = fresh(Path(name) / "images"), Path(name) / "out", options.processes
        print(f"178 x 218 to {SIZE} x {SIZE}, JPEG to JPEG of quality 95, {count} processes:")
        paths = write(images, options.small // BATCH * BATCH, (178, 218), 8)
        ways: Dict[str, Callable[[], Any]] = {
            "align-crop": lambda: stage(paths, fresh(out), count),
            "loop": lambda: loop(paths, fresh(out), count),
        }
        with replaced.reading(paths, SIZE, VIEW, BATCH) as take:
            ways["replaced codes"] = lambda: [take() for _ in range(len(paths) // BATCH)]
            compare(len(paths), options.rounds, ways, {"loop": 0.9, "replaced codes": 5.0})
        print(f"4000 x 3000 to {SIZE} x {SIZE}, one process:")
        paths = write(fresh(images), options.large, (4000, 3000), 8)
        compare(
            len(paths),
            options.rounds,
            {"align-crop": lambda: align(paths), "plain": lambda: plain(paths)},
            {"plain": 3.0},
        )
    print(f"fse {fse.__version__}, Pillow {Image.__version__}")


if __name__ == "__main__":
    main()
