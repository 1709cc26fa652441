import dataclasses

import numpy as np
import pytest
from scipy import ndimage

from fse import augment, geometry
from fse.config import Augment
from fse.errors import ConfigError
from fse.tf1 import tf

SETTINGS = Augment()


def rendered(pictures: np.ndarray, draw: augment.Draw, view: int) -> np.ndarray:
    """Views as uint8-scaled floats in [0, 255]."""
    with tf.Graph().as_default(), tf.Session() as session:
        tensors = augment.Draw(*(tf.constant(part) for part in draw))
        views = augment.render(tf.constant(pictures), tensors, augment.pixel_basis(SETTINGS, view), view)
        return (session.run(views) + 1.0) * 127.5


def noise(count: int, size: int) -> np.ndarray:
    return np.random.RandomState(0).randint(0, 256, (count, size, size, 3)).astype(np.uint8)


def test_the_unchanged_draw_gives_the_middle_of_the_picture() -> None:
    pictures = noise(2, 12)
    views = rendered(pictures, augment.unchanged(SETTINGS, 2), 8)
    np.testing.assert_allclose(views, pictures[:, 2:10, 2:10], atol=1e-2)


def test_a_shift_by_whole_pixels_moves_the_view_over_the_picture() -> None:
    pictures = noise(1, 12)
    draw = augment.unchanged(SETTINGS, 1)
    right_by_two = draw._replace(targets=draw.targets + np.float32([2 * 2 / 8, 0]))
    np.testing.assert_allclose(rendered(pictures, right_by_two, 8), pictures[:, 2:10, 4:12], atol=1e-2)


def test_beyond_its_edge_a_picture_is_mirrored() -> None:
    pictures = noise(1, 8)
    draw = augment.unchanged(SETTINGS, 1)
    left_by_three = draw._replace(targets=draw.targets - np.float32([3 * 2 / 8, 0]))
    expected = np.concatenate([pictures[:, :, 2::-1], pictures[:, :, :5]], axis=2)
    np.testing.assert_allclose(rendered(pictures, left_by_three, 8), expected, atol=1e-2)


def test_views_are_what_an_independent_interpolation_gives_beyond_the_edges_too() -> None:
    pictures, view = noise(2, 20), 20
    draw = augment.draw(dataclasses.replace(SETTINGS, scale=0.2, shift=0.2), np.random.RandomState(1), 2, 2)
    draw = draw._replace(gains=np.ones_like(draw.gains), offsets=np.zeros_like(draw.offsets))
    views = rendered(pictures, draw, view)
    pixels = geometry.grid(geometry.centres(view), geometry.centres(view))
    outside = 0
    for number, found in enumerate(views):
        picture, targets = number // 2, draw.targets[number // 2, number % 2]
        x, y = ((geometry.warp_points(pixels, targets) + 1.0) * 10.0 - 0.5).T
        outside += np.sum((x < 0) | (y < 0) | (x > 19) | (y > 19))
        for colour in range(3):
            expected = ndimage.map_coordinates(pictures[picture, :, :, colour] * 1.0, [y, x], order=1, mode="reflect")
            np.testing.assert_allclose(found[:, :, colour].ravel(), expected, atol=0.02)
    assert outside > 100


def test_a_dot_is_seen_where_the_warp_says() -> None:
    """A blob planted in the picture appears in the view at the point that the warp sends to it."""
    size = view = 64
    draw = augment.draw(dataclasses.replace(SETTINGS, flip=False), np.random.RandomState(7), 1, 1)
    draw = draw._replace(gains=np.ones((1, 1, 3), np.float32), offsets=np.zeros((1, 1, 3), np.float32))
    where = np.array([0.2, -0.3])
    pixels = geometry.grid(geometry.centres(size), geometry.centres(size))
    blob = 255.0 * np.exp(-((pixels - where) ** 2).sum(-1) / (2 * 0.05**2)).reshape(1, size, size, 1)
    view_of_it = rendered(np.repeat(np.round(blob), 3, axis=-1).astype(np.uint8), draw, view)[0, :, :, 0]
    weights = view_of_it.ravel() / view_of_it.sum()
    expected = geometry.unwarp_points(where, draw.targets[0, 0])
    np.testing.assert_allclose(weights @ pixels, expected, atol=0.1 * 2 / 20)  # a tenth of a cell of a 20-cell map


def test_cells_and_pixels_are_warped_alike() -> None:
    draw = augment.draw(SETTINGS, np.random.RandomState(3), 2, 2)
    cells = geometry.grid(geometry.centres(5), geometry.centres(5))
    with tf.Session() as session:
        basis = geometry.spline_basis(cells, SETTINGS.control_points)
        places = session.run(augment.apply_basis(basis, tf.constant(draw.targets.reshape(4, -1, 2))))
    np.testing.assert_allclose(places[3], geometry.warp_points(cells, draw.targets[1, 1]), atol=1e-5)


def test_the_views_of_a_picture_share_their_mirroring_and_nothing_else() -> None:
    draw = augment.draw(SETTINGS, np.random.RandomState(0), 64, 2)
    mirrored = draw.targets[:, :, -1, 0] - draw.targets[:, :, 0, 0] < 0  # the right end left of the left end
    assert (mirrored[:, 0] == mirrored[:, 1]).all()
    assert 16 < mirrored[:, 0].sum() < 48
    assert abs(draw.targets[:, 0] - draw.targets[:, 1]).min(axis=(1, 2)).max() > 0
    assert (draw.gains[:, 0] != draw.gains[:, 1]).all()


def test_numbers_are_cut_off_at_two_standard_deviations() -> None:
    only_shift = Augment(rotation=0, scale=0, shift=0.1, bend=0, flip=False)
    draw = augment.draw(only_shift, np.random.RandomState(0), 1000, 1)
    assert abs(draw.targets - geometry.control_points(5)).max() == pytest.approx(0.2, abs=1e-6)


@pytest.mark.parametrize("settings", [SETTINGS, Augment(control_points=10, bend=0.013, rotation=0.6, scale=0.2)])
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
    with pytest.raises(ConfigError, match=r"augment.bend must be below 0\.0390 for 5 control points per side"):
        augment.check(Augment(bend=0.05))


def test_a_step_draws_the_same_whenever_it_is_drawn() -> None:
    whole = list(augment.draws(SETTINGS, 1, 4, 2, 0, 6))
    rest = list(augment.draws(SETTINGS, 1, 4, 2, 3, 6))
    assert len(rest) == 3
    for one, other in zip(whole[3:], rest):
        np.testing.assert_array_equal(one.targets, other.targets)
    assert (whole[0].targets != whole[1].targets).any()


def test_colours_change_about_mid_grey() -> None:
    pictures = np.full((1, 8, 8, 3), 51, np.uint8)  # 0.2
    draw = augment.unchanged(SETTINGS, 1)
    draw = draw._replace(gains=2.0 * draw.gains, offsets=np.float32([[[0.2, 0.0, 0.6]]]))
    # 0.5 + 2 * (0.2 - 0.5) + offset = -0.1 + offset, within [0, 1]
    np.testing.assert_allclose(rendered(pictures, draw, 8)[0, 0, 0], [0.1 * 255, 0.0, 0.5 * 255], atol=0.01)
