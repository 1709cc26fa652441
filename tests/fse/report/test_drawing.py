from typing import Any, Tuple

import numpy as np
import pytest
from PIL import Image

from fse import geometry
from fse.report import drawing

# Simulations of color blindness in linear RGB: Machado, Oliveira and Fernandes 2009, severity 1.
DEUTERANOPE = [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
PROTANOPE = [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]


def pixel_center(i: int, j: int, width: int, height: int) -> np.ndarray:
    """Return the center of the pixel in column i and row j as one point [1, 2] in [-1, 1]."""
    return np.array([[(2 * i + 1) / width - 1, (2 * j + 1) / height - 1]])


def center_of_difference(image: Any, other: Any) -> Tuple[float, float]:
    """Return the center (x, y) of the bounding box of the pixels that differ, in pixels from the top left corner."""
    differs = np.abs(np.asarray(image, int) - np.asarray(other, int)).max(axis=2) > 40
    rows, columns = (np.flatnonzero(differs.any(axis=axis)).tolist() for axis in (1, 0))
    return (columns[0] + columns[-1] + 1) / 2, (rows[0] + rows[-1] + 1) / 2


@pytest.mark.parametrize(("i", "j"), [(10, 12), (0, 0), (39, 29), (21, 3)])
@pytest.mark.parametrize("scale", [4, 5.3])
def test_marker_is_centered_on_its_pixel(i: int, j: int, scale: float) -> None:
    dark = np.zeros((30 + 40, 40 + 40, 3), np.uint8)  # a margin of 20, so that no marker is cut off
    point = pixel_center(i + 20, j + 20, 80, 70)
    lit = dark.copy()
    lit[j + 20, i + 20] = 255
    plain = drawing.enlarge(dark, scale)
    marker = center_of_difference(drawing.draw_landmarks(dark, point, scale), plain)
    pixel = center_of_difference(drawing.enlarge(lit, scale), plain)
    assert marker == pytest.approx(pixel, abs=1.0)
    assert marker == pytest.approx(((i + 20.5) * scale, (j + 20.5) * scale), abs=1.0)


def test_ring_is_at_the_annotated_and_cross_at_the_predicted_point() -> None:
    dark = np.zeros((64, 64, 3), np.uint8)
    here, there, nowhere = pixel_center(16, 20, 64, 64), pixel_center(48, 40, 64, 64), np.full((1, 2), np.nan)
    plain = drawing.enlarge(dark)
    ring = drawing.draw_comparison(dark, here, nowhere)
    cross = drawing.draw_comparison(dark, nowhere, there)
    assert center_of_difference(ring, plain) == pytest.approx((16.5 * 5, 20.5 * 5), abs=1.0)
    assert center_of_difference(cross, plain) == pytest.approx((48.5 * 5, 40.5 * 5), abs=1.0)
    assert ring.getpixel((82, 102)) == (0, 0, 0)  # a ring is open
    assert cross.getpixel((242, 202)) == drawing.colors(1)[0]


def test_points_outside_or_not_finite_are_not_drawn() -> None:
    image = np.full((40, 40, 3), 90, np.uint8)
    points = np.array([[5.0, 0.0], [np.nan, 0.0], [0.0, -np.inf], [1e30, -1e30]])
    assert np.array_equal(drawing.draw_landmarks(image, points), drawing.enlarge(image))
    assert drawing.draw_comparison(image, points, -points).size == (320, 320)
    assert np.array_equal(drawing.draw_landmarks(image, np.zeros((0, 2))), drawing.enlarge(image))


def test_spread_has_a_dot_at_each_point_and_a_ring_at_the_mean() -> None:
    dark = np.zeros((64, 64, 3), np.uint8)
    shapes = np.stack([pixel_center(16, 20, 64, 64), pixel_center(48, 20, 64, 64)])
    drawn = drawing.draw_spread(dark, shapes)
    color = drawing.colors(1)[0]
    assert drawn.getpixel((82, 102)) == drawn.getpixel((242, 102)) == color
    ring = np.asarray(drawn, int)[:, 110:210]
    assert center_of_difference(ring, np.full_like(ring, 12)) == pytest.approx((32.5 * 5 - 110, 20.5 * 5), abs=1.0)
    assert np.array_equal(drawing.draw_annotated(dark, np.full((1, 2), np.nan)), drawing.enlarge(dark))


def test_contact_sheet_is_filled_row_by_row() -> None:
    tiles = [Image.new("RGB", (10, 8), (value, 0, 0)) for value in range(5)]
    sheet = drawing.contact_sheet(tiles, 3)
    assert sheet.size == (3 * 14 - 4, 2 * 12 - 4)
    red = np.asarray(sheet)[:, :, 0]
    assert [red[12 * (number // 3), 14 * (number % 3)] for number in range(5)] == list(range(5))
    assert drawing.contact_sheet(tiles[:2], 3).size == (24, 8)


def test_only_small_images_are_enlarged() -> None:
    point = np.zeros((1, 2))
    assert drawing.draw_landmarks(np.zeros((60, 80, 3), np.uint8), point).size == (320, 240)
    assert drawing.draw_landmarks(np.zeros((300, 500, 3), np.uint8), point).size == (500, 300)
    assert drawing.draw_landmarks(np.zeros((60, 80, 3), np.uint8), point, scale=2).size == (160, 120)


def test_fifty_colors_differ_and_do_not_depend_on_the_count() -> None:
    palette = drawing.colors(50)
    assert len(set(palette)) == 50
    assert all(0 <= value <= 255 for color in palette for value in color)
    assert drawing.colors(7) == palette[:7]
    assert len(drawing.colors(512)) == 512


@pytest.mark.parametrize("simulation", [np.eye(3), np.array(DEUTERANOPE), np.array(PROTANOPE)])
def test_first_ten_colors_differ_with_red_green_color_blindness(simulation: np.ndarray) -> None:
    colors = oklab(np.array(drawing.colors(10)) / 255.0, simulation)
    distances = np.linalg.norm(colors[:, None] - colors[None], axis=-1)[np.triu_indices(10, 1)]
    assert distances.min() > 0.07  # about three just noticeable differences


def oklab(colors: np.ndarray, simulation: np.ndarray) -> Any:
    """Convert sRGB colors [n, 3] in [0, 1] to OKLab; `simulation` maps linear RGB to the RGB that a person perceives."""
    linear = np.where(colors <= 0.04045, colors / 12.92, ((colors + 0.055) / 1.055) ** 2.4) @ simulation.T
    cones = [[0.41222, 0.53633, 0.05145], [0.21190, 0.68070, 0.10740], [0.08830, 0.28172, 0.62998]]
    axes = [[0.21045, 0.79362, -0.00407], [1.97800, -2.42859, 0.45059], [0.02590, 0.78277, -0.80868]]
    return np.cbrt(np.clip(linear, 0.0, 1.0) @ np.transpose(cones)) @ np.transpose(axes)


def test_heatmap_is_brightest_at_its_cell_in_its_color() -> None:
    image = np.full((40, 40, 3), 120, np.uint8)
    maps = np.zeros((10, 10, 1))
    maps[2, 7] = 1.0
    overlay = np.asarray(drawing.overlay_heatmaps(image, maps, [(255, 0, 0)], scale=8), int)
    glow = overlay[:, :, 0] - overlay[:, :, 1]
    rows, columns = np.nonzero(glow > 0.5 * glow.max())
    assert (columns.mean() + 0.5, rows.mean() + 0.5) == pytest.approx((7.5 * 32, 2.5 * 32), abs=1.0)
    assert overlay[80, 240, 0] > 200
    assert overlay[80, 240, 1] < 20
    assert tuple(overlay[300, 20]) == (66, 66, 66)  # dimmed


def test_heatmap_of_a_central_region_leaves_the_border_dark() -> None:
    image = np.full((40, 40, 3), 120, np.uint8)
    ticks = 0.5 * geometry.centers(10)
    overlay = np.asarray(drawing.overlay_heatmaps(image, np.ones((10, 10, 1)), [(0, 255, 0)], ticks, scale=8), int)
    glow = overlay[:, :, 1] - overlay[:, :, 0] > 20
    assert glow[80:240, 80:240].all()
    assert glow.sum() == 160 * 160


def test_legend_keys_are_transparent_around_the_marker() -> None:
    for image, size in ((drawing.landmark_key(3, 40), (40, 40)), (drawing.comparison_key(3, 40), (80, 40))):
        assert image.size == size
        alpha = np.asarray(image)[:, :, 3]
        assert alpha[0, 0] == 0
        assert alpha.max() == 255
