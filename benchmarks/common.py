"""What the benchmarks share: the pipeline's command, options, timers and test images. Does not import TensorFlow."""

import argparse
import os
import sys
import time
from pathlib import Path
from typing import List, Optional, Tuple

import numpy as np
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
LUIGI = [sys.executable, "-c", "from luigi.cmdline import luigi_run; luigi_run()", "--module"]
FULL_RUN = [*LUIGI, "pipeline", "FullRun"]


def parser(description: Optional[str]) -> argparse.ArgumentParser:
    """Return a parser whose help shows a module's docstring as it is."""
    return argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)


def clocks() -> np.ndarray:
    """Return two clocks in seconds, [2]: wall time, and CPU time of this process and of its children that have ended."""
    return np.array([time.monotonic(), sum(os.times()[:4])])


def write_images(folder: Path, count: int, size: Tuple[int, int], grain: int, kind: str = "jpeg") -> List[Path]:
    """Write images of soft noise, which compress like photographs.

    Args:
      folder: an existing folder.
      count: number of images.
      size: width and height in pixels.
      grain: size of the noise in pixels.
      kind: "jpeg" or "png".

    Returns:
      The files.
    """
    random, paths = np.random.RandomState(0), []
    for number in range(count):
        noise = random.randint(0, 256, (size[1] // grain, size[0] // grain, 3)).astype(np.uint8)
        image = Image.fromarray(noise).resize(size, Image.Resampling.BICUBIC)
        paths.append(folder / f"{size[0]}x{size[1]}-{number:06d}.{kind}")
        image.save(paths[-1], quality=90)
    return paths
