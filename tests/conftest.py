"""Tiny experiments that the tests share."""

import json
import signal
from pathlib import Path
from typing import Iterator

import numpy as np
import pytest
from PIL import Image

from fse import config

# A suite that a shell runs in the background ignores interrupts, and so would the programs that it interrupts.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def own_locks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Trainings of the tests lock devices among themselves: another suite may run beside this one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FSE_LOCKS", str(tmp_path_factory.mktemp("locks")))
        yield


@pytest.fixture(scope="session")
def tiny() -> config.Config:
    """An experiment of 24 + 8 images, 20 pixels wide, 4 landmarks, 6 steps."""
    return config.from_tables(
        {
            "crop": {"size": 20},
            "records": {"shards": 2},
            "network": {"name": "compact", "landmarks": 4, "view": 16},
            "loss": {"diversity_weight": 50.0, "diversity_window": 2},
            "train": {"batch_size": 4, "steps": 6, "save_freq": 2, "summary_freq": 1, "learning_rate": 1e-3},
            "evaluate": {"batch_size": 5},
            "report": {"examples": 3},
        }
    )


def write_crops(folder: Path, train: int, test: int, size: int = 20, names: tuple = ("left_eye", "right_eye")) -> Path:
    """What align-crop writes: colored noise with a bright dot at each landmark."""
    random = np.random.RandomState(5)
    (folder / "images").mkdir(parents=True)
    rows = ["file,source,split" + "".join(f",{name}_x,{name}_y" for name in names)]
    for number in range(train + test):
        pixels = random.randint(0, 120, (size, size, 3)).astype(np.uint8)
        places = random.randint(4, size - 4, (len(names), 2))
        for x, y in places:
            pixels[y - 1 : y + 2, x - 1 : x + 2] = 255
        points = (2.0 * places + 1.0) / size - 1.0
        Image.fromarray(pixels).save(str(folder / "images" / f"{number:04d}.png"))
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
