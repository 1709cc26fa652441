import dataclasses

import numpy as np
import pytest

from fse import geometry
from fse.config import Augment
from fse.errors import ConfigError
from fse.inputs import augment

SETTINGS = Augment()


def test_the_views_of_a_image_share_their_mirroring_and_nothing_else() -> None:
    draw = augment.draw(SETTINGS, np.random.RandomState(0), 64, 2)
    mirrored = draw.targets[:, :, -1, 0] - draw.targets[:, :, 0, 0] < 0  # the right end left of the left end
    assert (mirrored[:, 0] == mirrored[:, 1]).all()
    assert 16 < mirrored[:, 0].sum() < 48
    assert abs(draw.targets[:, 0] - draw.targets[:, 1]).min(axis=(1, 2)).max() > 0
    assert (draw.gains[:, 0] != draw.gains[:, 1]).all()


def test_numbers_are_cut_off_at_two_standard_deviations() -> None:
    only_shift = Augment(rotation=0, scale=0, shift=0.1, control_point_jitter=0, flip=False)
    draw = augment.draw(only_shift, np.random.RandomState(0), 1000, 1)
    assert abs(draw.targets - geometry.control_points(5)).max() == pytest.approx(0.2, abs=1e-6)


@pytest.mark.parametrize(
    "settings", [SETTINGS, Augment(control_points=10, control_point_jitter=0.013, rotation=0.6, scale=0.2)]
)
def test_no_warp_folds(settings: Augment) -> None:
    """The determinant of every warp's derivative keeps its sign over the whole view, in 10,000 draws."""
    augment.check(settings)
    ticks, step = np.linspace(-1, 1, 13), 1e-4
    points = geometry.grid(ticks, ticks)
    across, down = (
        (
            geometry.spline_basis(points + shift, settings.control_points)
            - geometry.spline_basis(points, settings.control_points)
        )
        / step
        for shift in ([step, 0.0], [0.0, step])
    )
    for seed in range(10):
        targets = augment.draw(dataclasses.replace(settings, flip=False), np.random.RandomState(seed), 1000, 1).targets
        (xx, yx), (xy, yy) = (np.moveaxis(basis @ targets[:, 0], -1, 0) for basis in (across, down))
        assert (xx * yy - xy * yx).min() > 0.0


def test_a_bend_that_may_fold_is_refused() -> None:
    with pytest.raises(
        ConfigError, match=r"augment.control_point_jitter must be below 0\.0390 for 5 control points per side"
    ):
        augment.check(Augment(control_point_jitter=0.05))


def test_a_step_draws_the_same_whenever_it_is_drawn() -> None:
    one, again, other, shared = (
        augment.draw_step(SETTINGS, 1, *rest) for rest in ((3, 4, 2), (3, 4, 2), (4, 4, 2), (3, 4, 2, 1, 2))
    )
    np.testing.assert_array_equal(one.targets, again.targets)
    assert (one.targets != other.targets).any()
    np.testing.assert_array_equal(one.targets[1::2], shared.targets)
