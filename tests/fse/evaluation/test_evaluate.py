"""What is measured of what a detector saw; `test_export.py` runs the whole stage."""

import dataclasses
import json
from typing import Any

import numpy as np
import pytest

from fse import config, geometry
from fse.errors import ConfigError
from fse.evaluation import evaluate
from fse.evaluation.evaluate import Seen
from fse.inputs import augment

NAMES = ["left_eye", "right_eye", "nose"]
MEANS = ["nme", "nme_with_bias", "nme_warped", "mean_shape_nme", "mean_shape_nme_warped", "backward_nme"]
MEANS += ["mean_shape_backward_nme", "equivariance_error", "mean_shape_equivariance_error"]
MEANS += [
    prefix + name + suffix
    for prefix in ("", "mean_shape_")
    for name in ("failure_rate_10", "auc_10")
    for suffix in ("", "_warped")
]


def settings(**evaluate: Any) -> config.Config:
    return dataclasses.replace(config.Config(), evaluate=config.Evaluate(**dict({"bootstrap": 50}, **evaluate)))


def seen(discovered: np.ndarray, annotated: np.ndarray) -> Seen:
    names = np.array([f"{number}.png" for number in range(len(discovered))])
    return Seen(names, discovered, annotated, np.zeros((0, 8, 8, 3), np.uint8), np.zeros((0, 4, 4, 2)))


def faces(count: int, seed: int) -> Seen:
    """Images of three annotated points that lie at fixed linear places relative to four discovered ones."""
    discovered = np.random.RandomState(seed).uniform(-0.6, 0.6, (count, 4, 2))
    return seen(discovered, 0.5 * discovered[:, :3] + 0.5 * discovered[:, 1:] * np.array([1.0, 0.7]))


def split(train: int = 40, test: int = 12) -> tuple:
    """What a perfect detector saw: `measure`'s train, test, warped and targets."""
    upright = faces(test, 2)
    targets = augment.draw(config.Augment(flip=False), np.random.RandomState(3), test, 1).targets[:, 0].astype(float)
    carried = [np.stack([geometry.unwarp_points(*pair) for pair in zip(points, targets)]) for points in upright[1:3]]
    return faces(train, 1), upright, seen(*carried), targets


def measured(parts: tuple, **evaluate: Any) -> dict:
    """What `metrics.json` would hold, after a trip through strict JSON."""
    errors, figures = evaluate.measure(settings(**evaluate), NAMES, *parts)
    figures.update({name: evaluate.metrics.mean(values) for name, values in errors.items()})
    return json.loads(json.dumps(figures, allow_nan=False))


def test_a_perfect_detector_has_errors_of_zero_where_a_constant_has_large_ones() -> None:
    found = measured(split())
    for name in ("nme", "nme_with_bias", "equivariance_error", "failure_rate_10"):
        assert found[name] == pytest.approx(0.0, abs=1e-5)
        assert found[name + "_interval"] == pytest.approx([0.0, 0.0], abs=1e-5)
    assert found["auc_10"] == pytest.approx(1.0)
    for name in ("nme", "nme_warped", "backward_nme", "equivariance_error"):
        assert found["mean_shape_" + name] > 5.0
    assert found["mean_shape_auc_10_warped"] < 0.5 < found["mean_shape_failure_rate_10_warped"]
    assert found["nme"] < found["nme_warped"] < found["mean_shape_nme_warped"]


def test_every_mean_has_an_interval_around_it() -> None:
    found = measured(split())
    for name in MEANS:
        low, high = found[name + "_interval"]
        assert low <= found[name] + 1e-9
        assert found[name] <= high + 1e-9
    assert found["mean_shape_nme_interval"][0] < found["mean_shape_nme_interval"][1]


def test_the_errors_of_the_landmarks_average_to_that_of_the_images() -> None:
    found = measured(split())
    for prefix in ("", "mean_shape_"):
        for suffix in ("", "_warped"):
            by_landmark = found[prefix + "per_landmark" + suffix]
            assert list(by_landmark) == NAMES
            assert np.mean(list(by_landmark.values())) == pytest.approx(found[prefix + "nme" + suffix], abs=1e-9)


def test_the_last_shot_is_the_regressor_of_all_annotations() -> None:
    found = measured(split(), samples=2)
    assert [row["annotations"] for row in found["n_shot"]] == [1, 5, 10, 40]  # 100 are not there
    assert [row["draws"] for row in found["n_shot"]] == [2, 2, 2, 1]
    for name in ("nme", "nme_with_bias", "nme_warped", "mean_shape_nme", "mean_shape_nme_warped"):
        assert found["n_shot"][-1][name] == pytest.approx(found[name], abs=1e-9)


def test_shots_beyond_the_annotations_are_left_out() -> None:
    assert [row["annotations"] for row in measured(split(train=4), shots=(5, 10))["n_shot"]] == [4]
    assert [row["annotations"] for row in measured(split(train=10), shots=(10, 1))["n_shot"]] == [1, 10]


@pytest.mark.parametrize(
    ("shots", "message"),
    [([1, 0], "must be at least 1|between 1"), (["all"], "list of whole numbers"), (5, "list of whole numbers")],
)
def test_shots_that_cannot_be_meant_are_refused(shots: object, message: str) -> None:
    with pytest.raises(ConfigError, match=f"evaluate.shots.*({message})"):
        config.from_tables({"evaluate": {"shots": shots}})


def test_the_configuration_keeps_its_shots_through_json() -> None:
    chosen = config.from_tables({"evaluate": {"shots": [3, 7], "samples": 2, "bootstrap": 7}})
    assert config.from_tables(config.as_tables(chosen)) == chosen


def test_one_training_annotation_and_one_test_image() -> None:
    found = measured(split(train=1, test=1))
    assert [row["annotations"] for row in found["n_shot"]] == [1]
    assert found["n_shot"][0]["nme_sd"] is None
    assert found["nme_with_bias"] == pytest.approx(found["mean_shape_nme"])
    assert found["nme_interval"] == [found["nme"]] * 2


def test_all_discovered_landmarks_equal() -> None:
    train, test, warped, targets = split()
    parts = [part._replace(discovered=np.repeat(part.discovered[:, :1], 4, axis=1)) for part in (train, test, warped)]
    found = measured((*parts, targets))
    assert 0.0 < found["nme"] < 200.0  # a singular regression, yet no wild prediction
    assert found["nme_with_bias"] <= found["mean_shape_nme"] * 1.1


def test_landmarks_that_never_move_have_the_errors_of_a_constant() -> None:
    train, test, warped, targets = split()
    still = train.discovered[:1]
    parts = [part._replace(discovered=np.repeat(still, len(part.names), axis=0)) for part in (train, test, warped)]
    found = measured((*parts, targets))
    for name in ("nme", "nme_with_bias"):
        assert found[name] == pytest.approx(found["mean_shape_nme"])
    assert found["nme_warped"] == pytest.approx(found["mean_shape_nme_warped"])
    assert found["equivariance_error"] == pytest.approx(found["mean_shape_equivariance_error"])
    assert found["mean_shape_backward_nme"] == pytest.approx(0.0, abs=1e-9)


def test_images_whose_eyes_coincide_are_counted_and_left_out() -> None:
    train, test, warped, targets = split()
    annotated = test.annotated.copy()
    annotated[0, 1] = annotated[0, 0]
    found = measured((train, test._replace(annotated=annotated), warped, targets))
    assert found["test_images_without_distance"] == 1
    assert found["nme"] == pytest.approx(0.0, abs=1e-5)


def test_if_all_eyes_coincide_errors_are_none_and_the_rest_remains() -> None:
    train, test, warped, targets = split()
    parts = [part._replace(annotated=np.repeat(part.annotated[:, :1], 3, axis=1)) for part in (train, test, warped)]
    found = measured((*parts, targets))
    assert found["test_images_without_distance"] == len(test.names)
    for name in MEANS[:7] + MEANS[9:]:
        assert found[name] is None
        assert found[name + "_interval"] is None
    assert set(found["per_landmark"].values()) == {None}
    assert all(row["nme"] is None and row["nme_sd"] is None for row in found["n_shot"])
    assert found["equivariance_error"] is not None


def test_without_annotations_only_what_needs_none_is_measured() -> None:
    train, test, warped, targets = split()
    parts = [part._replace(annotated=np.zeros((len(part.names), 0, 2))) for part in (train, test, warped)]
    errors, figures = evaluate.measure(settings(), [], *parts, targets)
    assert sorted(errors) == ["equivariance_error", "mean_shape_equivariance_error"]
    assert sorted(figures) == ["equivariance_error_interval", "mean_shape_equivariance_error_interval"]


@pytest.mark.parametrize("seed", [0, 1234, 4321])
def test_the_warps_of_the_test_set_are_never_those_of_training(seed: int) -> None:
    alike = config.from_tables({"train": {"seed": seed}, "evaluate": {"seed": seed}, "augment": {"flip": False}})
    tested = evaluate.draw_warps(alike, 50)
    assert np.array_equal(tested, evaluate.draw_warps(alike, 50))
    drawn = [augment.draw_step(alike.augment, seed, step, 32, 2).targets.reshape(-1, 25, 2) for step in range(200)]
    corners = np.concatenate(drawn)[:, 0]
    nearest = np.abs(tested[:, None, 0] - corners[None]).max(axis=-1).argmin(axis=1)
    trained = np.concatenate(drawn)[nearest]
    assert np.abs(trained - tested).max(axis=(1, 2)).min() > 1e-3


def test_the_warps_of_the_test_set_are_as_strong_as_those_of_training_and_do_not_mirror() -> None:
    chosen = config.from_tables({"augment": {"shift": 0.0, "control_point_jitter": 0.0, "rotation": 0.0, "scale": 0.0}})
    controls = geometry.control_points(chosen.augment.control_points)
    np.testing.assert_allclose(evaluate.draw_warps(chosen, 9), np.broadcast_to(controls, (9, 25, 2)), atol=1e-6)
