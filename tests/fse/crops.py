"""Output of AlignCrop, made up for tests of the later stages."""

import json
from pathlib import Path
from typing import Sequence

import numpy as np
from PIL import Image


def write_crops(
    folder: Path, train: int, test: int, size: int = 20, names: Sequence[str] = ("left_eye", "right_eye")
) -> Path:
    """Write what AlignCrop writes; each crop is colored noise with a bright dot at each landmark. Returns the folder."""
    random = np.random.RandomState(5)
    (folder / "images").mkdir(parents=True)
    rows = ["file,source,split" + "".join(f",{name}_x,{name}_y" for name in names)]
    for number in range(train + test):
        pixels = random.randint(0, 120, (size, size, 3)).astype(np.uint8)
        dots = random.randint(4, size - 4, (len(names), 2))
        for x, y in dots:
            pixels[y - 1 : y + 2, x - 1 : x + 2] = 255
        points = (2.0 * dots + 1.0) / size - 1.0
        Image.fromarray(pixels).save(folder / "images" / f"{number:04d}.png")
        split = "train" if number < train else "test"
        values = "".join(f",{value:.6f}" for value in points.ravel())
        rows.append(f"{number:04d}.png,{number:04d}.jpg,{split}{values}")
    (folder / "landmarks.csv").write_text("\n".join(rows) + "\n")
    description = {
        "images": train + test,
        "skipped": 0,
        "splits": {"train": train, "test": test},
        "landmarks": list(names),
        "size": size,
        "mode": "center",
        "reads_test_annotations": False,
    }
    (folder / "crop.json").write_text(json.dumps(description))
    return folder
