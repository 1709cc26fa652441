"""Speed of align-crop, compared with minimal loops and with the input pipeline of the reference implementations.

    python benchmarks/align_crop.py                        # 4,000 small images, 20 photographs of 12 megapixels
    python benchmarks/align_crop.py --small 200 --large 4

Small images: the stage, from files to files; a loop with as many processes that only decodes and encodes; and the
reference implementations, which decode, reduce and warp images during training, one after the other. Photographs: the
stage's work on one image, and plain Pillow.

The candidates take turns, so that other load on the machine affects all of them. Rates are medians over the rounds, and
ratios are medians of the rounds' ratios. On a busy machine, compare the rates per second of CPU time. Creating files can
take longer than everything else: TMPDIR says where they are (/dev/shm is memory).
"""

import functools
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any, Callable, Dict, List

import numpy as np
import PIL
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import fse
from benchmarks.common import clocks, parser, write_images
from fse import config
from fse.datasets import images
from fse.preprocessing import align_crop, crop_frame
from fse.preprocessing.resample import resample
from fse.runtime import processes

SIZE, VIEW, BATCH = 146, 128, 32


def run_stage(paths: List[Path], folder: Path, workers: int) -> None:
    """Run the stage on a data set whose images are `paths`, in a folder `images`."""
    settings = config.from_tables({"crop": {"size": SIZE, "format": "jpeg", "processes": workers}})
    align_crop.align_crop(settings, paths[0].parent.parent, folder)


def run_loop(paths: List[Path], folder: Path, workers: int) -> None:
    """Decode and encode all images, and nothing else."""
    list(processes.ordered_map(functools.partial(_reencode, folder), paths, workers, "loop"))


def _reencode(folder: Path, path: Path) -> None:
    with Image.open(path) as image:
        image.convert("RGB").save(folder / path.name, "JPEG", quality=95)


def crop_each(paths: List[Path]) -> None:
    """Do what align-crop does to images, in this process: decode, crop the central square, encode."""
    frame = np.zeros((2, 3))

    def max_reduction(width: int, height: int) -> float:
        side = min(width, height)
        frame[:] = crop_frame.upright_crop_frame(np.array([width, height]) / 2.0, np.array(side))
        return side / (2.0 * SIZE)

    for path in paths:
        image, factor = images.decode_reduced(path, 10**8, max_reduction)
        save_jpeg(resample(image, frame / factor, SIZE), path)


def resize_each(paths: List[Path]) -> None:
    """Resize images by plain Pillow."""
    for path in paths:
        with Image.open(path) as image:
            save_jpeg(image.resize((SIZE, SIZE)), path)


def save_jpeg(image: Image.Image, path: Path) -> None:
    """Save an image as JPEG of quality 95, beside its original."""
    image.save(path.with_suffix(".out"), "JPEG", quality=95)


def compare(
    count: int, rounds: int, candidates: Dict[str, Callable[[], Any]], required_ratios: Dict[str, float]
) -> None:
    """Time candidates in turns, and print their rates and the ratio of the first one's rate to others'.

    Args:
      count: images that a candidate processes.
      rounds: number of rounds, after one that warms up.
      candidates: functions by name.
      required_ratios: what the ratio should at least be, by the name of the other candidate.
    """
    rates: Dict[str, List[np.ndarray]] = {name: [] for name in candidates}
    for number in range(rounds + 1):
        for name, work in candidates.items():
            start = clocks()
            work()
            if number:
                rates[name].append(count / (clocks() - start))
    first = next(iter(candidates))
    print(f"  {'images':<34}{'per second':>12}{'per CPU second':>24}")
    for name, values in rates.items():
        wall, cpu = np.median(values, axis=0)
        print(f"  {name:<34}{wall:>12.1f}{cpu:>24.1f}")
    for name, required in required_ratios.items():
        wall, cpu = np.median(np.array(rates[first]) / np.array(rates[name]), axis=0)
        print(f"  {first + ' / ' + name:<34}{wall:>12.2f}{cpu:>24.2f}   (required: {required})")


def empty_folder(folder: Path) -> Path:
    """Create a folder anew and return it."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    return folder


def main() -> None:
    """Measure and print."""
    arguments = parser(__doc__)
    arguments.add_argument("--small", type=int, default=4000, help="number of small images (default: %(default)s)")
    arguments.add_argument("--large", type=int, default=20, help="number of photographs (default: %(default)s)")
    arguments.add_argument("--rounds", type=int, default=5, help="rounds to measure (default: %(default)s)")
    arguments.add_argument("--processes", type=int, default=2, help="parallel processes (default: %(default)s)")
    options = arguments.parse_args()
    # Not at the top: worker processes import this file, and TensorFlow would take their memory.
    from benchmarks.reference_pipeline import open_pipeline

    with tempfile.TemporaryDirectory() as name:
        originals, output, workers = empty_folder(Path(name) / "images"), Path(name) / "out", options.processes
        print(f"178 x 218 to {SIZE} x {SIZE}, JPEG to JPEG of quality 95, {workers} processes:")
        paths = write_images(originals, options.small // BATCH * BATCH, (178, 218), 8)
        candidates: Dict[str, Callable[[], Any]] = {
            "align-crop": lambda: run_stage(paths, empty_folder(output), workers),
            "loop": lambda: run_loop(paths, empty_folder(output), workers),
        }
        with open_pipeline(paths, SIZE, VIEW, BATCH) as take_batch:
            candidates["reference implementations"] = lambda: [take_batch() for _ in range(len(paths) // BATCH)]
            compare(len(paths), options.rounds, candidates, {"loop": 0.9, "reference implementations": 5.0})
        print(f"4000 x 3000 to {SIZE} x {SIZE}, one process:")
        photographs = write_images(empty_folder(originals), options.large, (4000, 3000), 8)
        candidates = {"align-crop": lambda: crop_each(photographs), "Pillow": lambda: resize_each(photographs)}
        compare(len(photographs), options.rounds, candidates, {"Pillow": 3.0})
    print(f"fse {fse.__version__}, Pillow {PIL.__version__}")


if __name__ == "__main__":
    main()
