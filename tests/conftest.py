"""What all tests share: locks of their own, and a tiny experiment."""

import signal
from typing import Iterator, List

import pytest

from fse import config

# A shell starts background jobs with SIGINT ignored, and child processes inherit that. Tests interrupt theirs.
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: List[pytest.Item]) -> None:
    """Run files with slow tests first: pytest-xdist then ends with short files, and its workers finish together."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


@pytest.fixture(scope="session", autouse=True)
def own_locks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Device locks in a temporary folder, so that two test runs on one host do not wait for each other."""
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
