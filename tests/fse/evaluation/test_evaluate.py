"""The warps of test images; `test_scoring.py` tests the errors, and `test_export.py` runs the whole Evaluate stage."""

import numpy as np
import pytest

from fse import config, geometry
from fse.errors import ConfigError
from fse.evaluation import evaluate
from fse.inputs import augment


@pytest.mark.parametrize("seed", [0, 1234, 4321])
def test_the_warps_of_test_images_never_occur_in_training(seed: int) -> None:
    alike = config.from_tables({"train": {"seed": seed}, "evaluate": {"seed": seed}, "augment": {"flip": False}})
    tested = evaluate.sample_test_warps(alike, 50)
    assert np.array_equal(tested, evaluate.sample_test_warps(alike, 50))
    drawn = [
        augment.sample_step(alike.augment, seed, step, 32, 2).destinations.reshape(-1, 25, 2) for step in range(200)
    ]
    corners = np.concatenate(drawn)[:, 0]
    nearest = np.abs(tested[:, None, 0] - corners[None]).max(axis=-1).argmin(axis=1)
    trained = np.concatenate(drawn)[nearest]
    assert np.abs(trained - tested).max(axis=(1, 2)).min() > 1e-3


def test_the_warps_of_test_images_are_as_strong_as_those_of_training_and_do_not_mirror() -> None:
    chosen = config.from_tables({"augment": {"shift": 0.0, "control_point_jitter": 0.0, "rotation": 0.0, "scale": 0.0}})
    controls = geometry.control_points(chosen.augment.control_points)
    np.testing.assert_allclose(evaluate.sample_test_warps(chosen, 9), np.broadcast_to(controls, (9, 25, 2)), atol=1e-6)


@pytest.mark.parametrize(
    ("shots", "message"),
    [([1, 0], "must be at least 1|between 1"), (["all"], "list of integers"), (5, "list of integers")],
)
def test_invalid_shots_are_refused(shots: object, message: str) -> None:
    with pytest.raises(ConfigError, match=f"evaluate.shots.*({message})"):
        config.from_tables({"evaluate": {"shots": shots}})


def test_the_configuration_keeps_its_shots_through_json() -> None:
    chosen = config.from_tables({"evaluate": {"shots": [3, 7], "samples": 2, "bootstrap": 7}})
    assert config.from_tables(config.as_tables(chosen)) == chosen
