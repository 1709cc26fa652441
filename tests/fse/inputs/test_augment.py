import dataclasses

import numpy as np
import pytest

from fse import geometry
from fse.config import Augment
from fse.errors import ConfigError
from fse.inputs import augment

SETTINGS = Augment()


def test_views_of_an_image_share_mirroring_and_nothing_else() -> None:
    samples = augment.sample_views(SETTINGS, np.random.RandomState(0), 64, 2)
    right_corner, left_corner = samples.destinations[:, :, -1, 0], samples.destinations[:, :, 0, 0]
    mirrored = right_corner < left_corner
    assert (mirrored[:, 0] == mirrored[:, 1]).all()
    assert 16 < mirrored[:, 0].sum() < 48
    assert abs(samples.destinations[:, 0] - samples.destinations[:, 1]).min(axis=(1, 2)).max() > 0
    assert (samples.gains[:, 0] != samples.gains[:, 1]).all()


def test_normal_numbers_are_clipped_at_two_standard_deviations() -> None:
    only_shift = Augment(rotation=0, scale=0, shift=0.1, control_point_jitter=0, flip=False)
    samples = augment.sample_views(only_shift, np.random.RandomState(0), 1000, 1)
    assert abs(samples.destinations - geometry.control_points(5)).max() == pytest.approx(0.2, abs=1e-6)


@pytest.mark.parametrize(
    "settings", [SETTINGS, Augment(control_points=10, control_point_jitter=0.013, rotation=0.6, scale=0.2)]
)
def test_no_warp_folds(settings: Augment) -> None:
    """The determinant of every warp's derivative keeps its sign over the whole view, in 10,000 samples."""
    augment.check_jitter(settings)
    ticks, step = np.linspace(-1, 1, 13), 1e-4
    points = geometry.grid(ticks, ticks)
    by_x, by_y = (
        (
            geometry.spline_basis(points + shift, settings.control_points)
            - geometry.spline_basis(points, settings.control_points)
        )
        / step
        for shift in ([step, 0.0], [0.0, step])
    )
    upright = dataclasses.replace(settings, flip=False)
    for seed in range(10):
        destinations = augment.sample_views(upright, np.random.RandomState(seed), 1000, 1).destinations
        (xx, yx), (xy, yy) = (np.moveaxis(basis @ destinations[:, 0], -1, 0) for basis in (by_x, by_y))
        assert (xx * yy - xy * yx).min() > 0.0


def test_jitter_that_may_fold_a_warp_is_rejected() -> None:
    with pytest.raises(
        ConfigError, match=r"augment.control_point_jitter must be below 0\.0390 for 5 control points per side"
    ):
        augment.check_jitter(Augment(control_point_jitter=0.05))


def test_samples_of_a_step_depend_on_the_seed_and_the_step_alone() -> None:
    first, repeated, next_step, second_rank = (
        augment.sample_step(SETTINGS, 1, *rest) for rest in ((3, 4, 2), (3, 4, 2), (4, 4, 2), (3, 4, 2, 1, 2))
    )
    np.testing.assert_array_equal(first.destinations, repeated.destinations)
    assert (first.destinations != next_step.destinations).any()
    np.testing.assert_array_equal(first.destinations[1::2], second_rank.destinations)
