"""How fast align-crop is, beside a loop that only decodes and encodes, and beside plain Pillow on large photographs.

    python benchmarks/align_crop.py                        # 2,000 small pictures, 20 photographs of 12 megapixels
    python benchmarks/align_crop.py --small 200 --large 4

All of it runs in one process and in turns, so that other load on the machine meets all alike; printed are medians over
the rounds and the medians of the rounds' ratios. What align-crop stores is written to memory, as in the loop.
"""

import argparse
import io
import statistics
import tempfile
import time
from pathlib import Path
from typing import Callable, Dict, List, Tuple

import numpy as np
from PIL import Image

import fse
from fse import crop, pictures

SIZE = 146


def write(folder: Path, count: int, size: Tuple[int, int], grain: int, kind: str = "jpeg") -> List[Path]:
    """Pictures of soft noise, which compress like photographs."""
    random, paths = np.random.RandomState(0), []
    for number in range(count):
        noise = random.randint(0, 256, (size[1] // grain, size[0] // grain, 3)).astype(np.uint8)
        image = Image.fromarray(noise).resize(size, Image.Resampling.BICUBIC)
        paths.append(folder / "{}x{}-{:06d}.{}".format(*size, number, kind))
        image.save(str(paths[-1]), quality=90)
    return paths


def align(path: Path) -> None:
    """What align-crop does to a picture: decode, cut the central square, encode."""
    square = np.zeros((2, 3))

    def coarsest(width: int, height: int) -> float:
        square[:] = crop.upright_square(np.array([width, height]) / 2.0, min(width, height))
        return min(width, height) / (2.0 * SIZE)

    picture, factor = pictures.decode_coarsely(path, 10**8, coarsest)
    save(Image.fromarray(crop.sample(picture, square / factor, SIZE)))


def decode_and_encode(path: Path) -> None:
    """The loop that does nothing else."""
    with Image.open(str(path)) as image:
        save(image.convert("RGB"))


def plain(path: Path) -> None:
    """Plain Pillow."""
    with Image.open(str(path)) as image:
        save(image.resize((SIZE, SIZE)))


def save(image: Image.Image) -> None:
    """JPEG of quality 95, in memory."""
    image.save(io.BytesIO(), "JPEG", quality=95)


def rate(work: Callable[[Path], None], paths: List[Path]) -> float:
    """Pictures per second."""
    began = time.monotonic()
    for path in paths:
        work(path)
    return len(paths) / (time.monotonic() - began)


def compare(paths: List[Path], other: Callable[[Path], None], rounds: int, bar: float) -> None:
    """Times align-crop and another way in turns, and prints both."""
    rates: Dict[str, List[float]] = {"align": [], other.__name__: []}
    for work in (align, other):
        work(paths[0])
    for _ in range(rounds):
        for work in (align, other):
            rates[work.__name__].append(rate(work, paths))
    for name, values in rates.items():
        print("  {:<20}{:9.1f} pictures/s".format(name, statistics.median(values)))
    ratio = statistics.median(one / two for one, two in zip(rates["align"], rates[other.__name__]))
    print("  ratio               {:9.2f}   (wanted {})".format(ratio, bar))


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", type=int, default=2000)
    parser.add_argument("--large", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        print("178 x 218 to {0} x {0}, JPEG to JPEG of quality 95:".format(SIZE))
        compare(write(Path(name), options.small, (178, 218), 8), decode_and_encode, options.rounds, 0.9)
        print("4000 x 3000 to {0} x {0}:".format(SIZE))
        compare(write(Path(name), options.large, (4000, 3000), 8), plain, options.rounds, 3.0)
    print("fse {}, Pillow {}".format(fse.__version__, Image.__version__))


if __name__ == "__main__":
    main()
