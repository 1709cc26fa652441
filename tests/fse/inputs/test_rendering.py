import dataclasses
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, Callable, Tuple

import numpy as np
import pytest
from scipy import ndimage

import fse
from fse import geometry
from fse.config import Augment
from fse.inputs import augment, rendering

SETTINGS = Augment()


def rendered(images: np.ndarray, draw: augment.Draw, view: int) -> np.ndarray:
    """Views as uint8-scaled floats in [0, 255]."""
    return (rendering.render(images, draw, view) + 1.0) * 127.5


def noise(count: int, size: int) -> np.ndarray:
    return np.random.RandomState(0).randint(0, 256, (count, size, size, 3)).astype(np.uint8)


def test_the_unchanged_draw_gives_the_middle_of_the_image() -> None:
    images = noise(2, 12)
    views = rendered(images, augment.unchanged(SETTINGS, 2), 8)
    np.testing.assert_allclose(views, images[:, 2:10, 2:10], atol=1e-2)


def test_a_shift_by_whole_pixels_moves_the_view_over_the_image() -> None:
    images = noise(1, 12)
    draw = augment.unchanged(SETTINGS, 1)
    right_by_two = draw._replace(targets=draw.targets + np.float32([2 * 2 / 8, 0]))
    np.testing.assert_allclose(rendered(images, right_by_two, 8), images[:, 2:10, 4:12], atol=1e-2)


def test_beyond_its_edge_a_image_is_mirrored() -> None:
    images = noise(1, 8)
    draw = augment.unchanged(SETTINGS, 1)
    left_by_three = draw._replace(targets=draw.targets - np.float32([3 * 2 / 8, 0]))
    expected = np.concatenate([images[:, :, 2::-1], images[:, :, :5]], axis=2)
    np.testing.assert_allclose(rendered(images, left_by_three, 8), expected, atol=1e-2)


@pytest.mark.parametrize("size, view, controls", [(20, 20, 5), (21, 21, 4), (21, 17, 2), (14, 18, 3)])
def test_views_are_what_an_independent_interpolation_gives_beyond_the_edges_too(
    size: int, view: int, controls: int
) -> None:
    images, settings = noise(2, size), Augment(control_points=controls, scale=0.2, shift=0.5)
    draw = augment.draw(settings, np.random.RandomState(1), 2, 2)
    draw = draw._replace(gains=np.ones_like(draw.gains), offsets=np.zeros_like(draw.offsets))
    views = rendered(images, draw, view)
    pixels = geometry.grid(geometry.centers(view), geometry.centers(view))
    outside = 0
    for number, found in enumerate(views):
        image, targets = number // 2, draw.targets[number // 2, number % 2]
        x, y = (geometry.warp_points(pixels, targets) * view / 2.0 + size / 2.0 - 0.5).T
        outside += np.sum((x < 0) | (y < 0) | (x > size - 1) | (y > size - 1))
        for color in range(3):
            expected = ndimage.map_coordinates(images[image, :, :, color] * 1.0, [y, x], order=1, mode="reflect")
            # Weights are multiples of 1/8192, between colors that differ by up to 255 in each direction.
            np.testing.assert_allclose(found[:, :, color].ravel(), expected, atol=0.1)
    assert outside > 100


@pytest.mark.parametrize("widths", [0.0, 1.0, -1.5, 40.0, -101.0])
def test_a_image_is_mirrored_as_often_as_it_takes(widths: float) -> None:
    images, unchanged = noise(1, 16), augment.unchanged(SETTINGS, 1)
    far = unchanged._replace(targets=unchanged.targets + np.float32([0.0, 2.0 * widths]))
    rows = np.floor(np.arange(16) + 16 * widths).astype(int) % 32
    expected = images[:, np.minimum(rows, 31 - rows)]
    np.testing.assert_allclose(rendered(images, far, 16), expected, atol=0.1)


def test_a_image_has_the_same_views_whatever_else_is_in_the_batch() -> None:
    images, draw = noise(6, 20), augment.draw(SETTINGS, np.random.RandomState(5), 6, 2)
    images.setflags(write=False)
    whole = rendering.render(images, draw, 16).reshape(6, 2, 16, 16, 3)
    share = rendering.render(images[1::3], augment.Draw(*(part[1::3] for part in draw)), 16)
    np.testing.assert_array_equal(share.reshape(2, 2, 16, 16, 3), whole[1::3])


def test_a_dot_is_seen_where_the_warp_says() -> None:
    """A blob planted in the image appears in the view at the point that the warp sends to it."""
    size = view = 64
    draw = augment.draw(dataclasses.replace(SETTINGS, flip=False), np.random.RandomState(7), 1, 1)
    draw = draw._replace(gains=np.ones((1, 1, 3), np.float32), offsets=np.zeros((1, 1, 3), np.float32))
    where = np.array([0.2, -0.3])
    pixels = geometry.grid(geometry.centers(size), geometry.centers(size))
    blob = 255.0 * np.exp(-((pixels - where) ** 2).sum(-1) / (2 * 0.05**2)).reshape(1, size, size, 1)
    view_of_it = rendered(np.repeat(np.round(blob), 3, axis=-1).astype(np.uint8), draw, view)[0, :, :, 0]
    weights = view_of_it.ravel() / view_of_it.sum()
    expected = geometry.unwarp_points(where, draw.targets[0, 0])
    np.testing.assert_allclose(weights @ pixels, expected, atol=0.1 * 2 / 20)  # a tenth of a cell of a 20-cell map


def test_colors_change_about_mid_gray() -> None:
    images = np.full((1, 8, 8, 3), 51, np.uint8)  # 0.2
    draw = augment.unchanged(SETTINGS, 1)
    draw = draw._replace(gains=2.0 * draw.gains, offsets=np.float32([[[0.2, 0.0, 0.6]]]))
    # 0.5 + 2 * (0.2 - 0.5) + offset = -0.1 + offset, within [0, 1]
    np.testing.assert_allclose(rendered(images, draw, 8)[0, 0, 0], [0.1 * 255, 0.0, 0.5 * 255], atol=0.01)


@pytest.mark.parametrize("images", [noise(3, 8), noise(2, 8)[:, :7], noise(2, 8) / 255.0], ids=["3", "oblong", "float"])
def test_images_that_do_not_go_with_the_draw_are_refused(images: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"wanted uint8 images \[2, size, size, 3\], got (uint8|float64) \["):
        rendering.render(images, augment.unchanged(SETTINGS, 2), 8)


_PROGRAM = """
import resource, sys
import numpy as np
from fse import augment, config, rendering
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]), resource.RLIM_INFINITY))
drawn = augment.unchanged(config.Augment(), 1)
for _ in range(2):
    print("seen", rendering.render(np.zeros((1, 8, 8, 3), np.uint8), drawn, 8).max())
"""


@pytest.fixture
def program(tmp_path: Path) -> Callable[..., Tuple[str, bool]]:
    """What a process that renders prints, and whether it loaded what an earlier one had compiled.

    It runs a copy of the package, which is in `tmp_path`, and cannot use the user's cache folder.
    """
    shutil.copytree(str(Path(fse.__file__).parent), str(tmp_path / "fse"), ignore=shutil.ignore_patterns("__pycache__"))
    home = tmp_path / "home"
    home.touch()  # a file, in which not even root can make a folder
    environment = dict(os.environ, PYTHONPATH=str(tmp_path), HOME=str(home), XDG_CACHE_HOME=str(home))
    environment.update(NUMBA_DEBUG_CACHE="1", PYTHONDONTWRITEBYTECODE="1")
    environment.pop("NUMBA_CACHE_DIR", None)

    def run(room: int = 10**9) -> Tuple[str, bool]:
        command = [sys.executable, "-c", _PROGRAM, str(room)]
        lines = subprocess.check_output(command, env=environment, cwd=str(tmp_path)).decode().splitlines()
        (seen,) = {line for line in lines if line.startswith("seen")}
        return seen, any("data loaded from" in line for line in lines)

    return run


def test_what_is_compiled_is_kept_for_later_processes(program: Any) -> None:
    assert program() == ("seen -1.0", False)
    assert program() == ("seen -1.0", True)


def test_nothing_is_kept_where_no_folder_can_be_written_to(program: Any, tmp_path: Path) -> None:
    (tmp_path / "fse" / "__pycache__").touch()
    assert program() == ("seen -1.0", False)


def test_what_was_kept_of_other_code_is_not_used_though_the_disk_is_full(program: Any, tmp_path: Path) -> None:
    program()
    source = tmp_path / "fse" / "rendering.py"
    code = source.read_text()
    assert code.count("_f(-1.0)") == 3
    source.write_text(code.replace("_f(-1.0)", "_f(0.25)"))  # the smallest value of a view
    assert program(5000) == ("seen 0.25", False)
    assert program() == ("seen 0.25", False)
    for kept in (tmp_path / "fse" / "__pycache__").glob("*.nbi"):
        kept.write_bytes(b"")
    assert program() == ("seen 0.25", False)
