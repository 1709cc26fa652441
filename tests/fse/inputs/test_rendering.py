import dataclasses
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Callable, Tuple

import numpy as np
import pytest
from scipy import ndimage

import fse
from fse import geometry
from fse.config import Augment
from fse.inputs import augment, rendering

SETTINGS = Augment()


def rendered(images: np.ndarray, samples: augment.ViewSamples, view: int) -> np.ndarray:
    """Views as floats in [0, 255]."""
    return (rendering.render(images, samples, view) + 1.0) * 127.5


def noise(count: int, size: int) -> np.ndarray:
    return np.random.RandomState(0).randint(0, 256, (count, size, size, 3)).astype(np.uint8)


def uncolored(samples: augment.ViewSamples) -> augment.ViewSamples:
    """The same warps without changes of color."""
    return samples._replace(gains=np.ones_like(samples.gains), offsets=np.zeros_like(samples.offsets))


def test_identity_views_show_the_middle_of_the_image() -> None:
    images = noise(2, 12)
    views = rendered(images, augment.identity_views(SETTINGS, 2), 8)
    np.testing.assert_allclose(views, images[:, 2:10, 2:10], atol=1e-2)


def test_a_shift_by_whole_pixels_moves_the_view_over_the_image() -> None:
    images = noise(1, 12)
    identity = augment.identity_views(SETTINGS, 1)
    right_by_two = identity._replace(destinations=identity.destinations + np.array([2 * 2 / 8, 0], np.float32))
    np.testing.assert_allclose(rendered(images, right_by_two, 8), images[:, 2:10, 4:12], atol=1e-2)


def test_an_image_is_mirrored_beyond_its_edge() -> None:
    images = noise(1, 8)
    identity = augment.identity_views(SETTINGS, 1)
    left_by_three = identity._replace(destinations=identity.destinations - np.array([3 * 2 / 8, 0], np.float32))
    expected = np.concatenate([images[:, :, 2::-1], images[:, :, :5]], axis=2)
    np.testing.assert_allclose(rendered(images, left_by_three, 8), expected, atol=1e-2)


@pytest.mark.parametrize("size, view, controls", [(20, 20, 5), (21, 21, 4), (21, 17, 2), (14, 18, 3)])
def test_views_agree_with_an_independent_interpolation_also_beyond_the_edges(
    size: int, view: int, controls: int
) -> None:
    images, settings = noise(2, size), Augment(control_points=controls, scale=0.2, shift=0.5)
    samples = uncolored(augment.sample_views(settings, np.random.RandomState(1), 2, 2))
    views = rendered(images, samples, view)
    pixels = geometry.grid(geometry.centers(view), geometry.centers(view))
    outside = 0
    for number, actual in enumerate(views):
        image, destinations = number // 2, samples.destinations[number // 2, number % 2]
        x, y = (geometry.warp_points(pixels, destinations) * view / 2.0 + size / 2.0 - 0.5).T
        outside += np.sum((x < 0) | (y < 0) | (x > size - 1) | (y > size - 1))
        for color in range(3):
            expected = ndimage.map_coordinates(images[image, :, :, color] * 1.0, [y, x], order=1, mode="reflect")
            # Weights are multiples of 1/8192, between colors that differ by up to 255 in each direction.
            np.testing.assert_allclose(actual[:, :, color].ravel(), expected, atol=0.1)
    assert outside > 100


@pytest.mark.parametrize("widths", [0.0, 1.0, -1.5, 40.0, -101.0])
def test_an_image_is_mirrored_any_number_of_times(widths: float) -> None:
    images, identity = noise(1, 16), augment.identity_views(SETTINGS, 1)
    far = identity._replace(destinations=identity.destinations + np.array([0.0, 2.0 * widths], np.float32))
    rows = np.floor(np.arange(16) + 16 * widths).astype(int) % 32
    expected = images[:, np.minimum(rows, 31 - rows)]
    np.testing.assert_allclose(rendered(images, far, 16), expected, atol=0.1)


def test_views_of_an_image_do_not_depend_on_the_rest_of_the_batch() -> None:
    images, samples = noise(6, 20), augment.sample_views(SETTINGS, np.random.RandomState(5), 6, 2)
    images.setflags(write=False)
    batch = rendering.render(images, samples, 16).reshape(6, 2, 16, 16, 3)
    share = rendering.render(images[1::3], augment.ViewSamples(*(values[1::3] for values in samples)), 16)
    np.testing.assert_array_equal(share.reshape(2, 2, 16, 16, 3), batch[1::3])


def test_a_blob_appears_where_the_warp_maps_to_it() -> None:
    """A blob in the image appears in the view at the point that the warp maps to its center."""
    size = view = 64
    samples = augment.sample_views(dataclasses.replace(SETTINGS, flip=False), np.random.RandomState(7), 1, 1)
    center = np.array([0.2, -0.3])
    pixels = geometry.grid(geometry.centers(size), geometry.centers(size))
    blob = 255.0 * np.exp(-((pixels - center) ** 2).sum(-1) / (2 * 0.05**2)).reshape(1, size, size, 1)
    images = np.repeat(np.round(blob), 3, axis=-1).astype(np.uint8)
    blob_in_view = rendered(images, uncolored(samples), view)[0, :, :, 0]
    weights = blob_in_view.ravel() / blob_in_view.sum()
    expected = geometry.unwarp_points(center, samples.destinations[0, 0])
    np.testing.assert_allclose(weights @ pixels, expected, atol=0.1 * 2 / 20)  # a tenth of a cell of a 20-cell map


def test_colors_change_about_mid_gray() -> None:
    images = np.full((1, 8, 8, 3), 51, np.uint8)  # 0.2
    samples = augment.identity_views(SETTINGS, 1)
    samples = samples._replace(gains=2.0 * samples.gains, offsets=np.array([[[0.2, 0.0, 0.6]]], np.float32))
    # 0.5 + 2 * (0.2 - 0.5) + offset = -0.1 + offset, within [0, 1]
    np.testing.assert_allclose(rendered(images, samples, 8)[0, 0, 0], [0.1 * 255, 0.0, 0.5 * 255], atol=0.01)


@pytest.mark.parametrize("images", [noise(3, 8), noise(2, 8)[:, :7], noise(2, 8) / 255.0], ids=["3", "oblong", "float"])
def test_images_of_another_shape_or_type_are_rejected(images: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"images must be uint8 \[2, size, size, 3\], got (uint8|float64) \["):
        rendering.render(images, augment.identity_views(SETTINGS, 2), 8)


# The cache of compiled code ------------------------------------------------------------------------------------------

_RENDER = """
import numpy as np
from fse.config import Augment
from fse.inputs import augment, rendering
samples = augment.identity_views(Augment(), 1)
for _ in range(2):
    print("result", rendering.render(np.zeros((1, 8, 8, 3), np.uint8), samples, 8).max())
"""

# A function that compiles in a moment.
_SMALL = """
from fse.inputs.rendering import _compiled_once
@_compiled_once
def fill(values):
    values[:] = -1.0
"""

_CALL_SMALL = """
import resource, sys
import numpy as np
import small
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]), resource.RLIM_INFINITY))
for _ in range(2):
    values = np.empty(1)
    small.fill(values)
    print("result", values[0])
"""

_Run = Callable[..., Tuple[str, bool]]


@pytest.fixture
def run(tmp_path: Path) -> _Run:
    """Runs a program, and returns what it printed and whether it loaded compiled code from the cache.

    The program uses a copy of the package in `tmp_path`, and cannot use the user's cache folder.
    """
    shutil.copytree(Path(fse.__file__).parent, tmp_path / "fse", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "small.py").write_text(_SMALL)
    home = tmp_path / "home"
    home.touch()  # a file, in which not even root can make a folder
    environment = dict(os.environ, PYTHONPATH=str(tmp_path), HOME=str(home), XDG_CACHE_HOME=str(home))
    environment.update(NUMBA_DEBUG_CACHE="1", PYTHONDONTWRITEBYTECODE="1")
    environment.pop("NUMBA_CACHE_DIR", None)

    def run(program: str, max_file_bytes: int = 10**9) -> Tuple[str, bool]:
        command = [sys.executable, "-c", program, str(max_file_bytes)]
        lines = subprocess.check_output(command, env=environment, cwd=tmp_path).decode().splitlines()
        (result,) = {line for line in lines if line.startswith("result")}
        return result, any("data loaded from" in line for line in lines)

    return run


def test_later_processes_load_the_compiled_code(run: _Run) -> None:
    assert run(_RENDER) == ("result -1.0", False)
    assert run(_RENDER) == ("result -1.0", True)


def test_without_a_writable_folder_nothing_is_cached(run: _Run, tmp_path: Path) -> None:
    (tmp_path / "__pycache__").touch()
    assert run(_CALL_SMALL) == ("result -1.0", False)


def test_code_that_was_cached_for_another_version_is_not_used_though_the_disk_is_full(
    run: _Run, tmp_path: Path
) -> None:
    run(_CALL_SMALL)
    cache = tmp_path / "__pycache__"
    assert [path.stat().st_size > 5000 for path in sorted(cache.iterdir())] == [True, False]  # code, index
    (tmp_path / "small.py").write_text(_SMALL.replace("-1.0", "0.25"))
    assert run(_CALL_SMALL, 5000) == ("result 0.25", False)
    assert run(_CALL_SMALL) == ("result 0.25", False)
    for index in cache.glob("*.nbi"):
        index.write_bytes(b"")
    assert run(_CALL_SMALL) == ("result 0.25", False)
