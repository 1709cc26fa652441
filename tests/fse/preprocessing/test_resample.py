import numpy as np
import pytest
from PIL import Image

from fse import geometry
from fse.errors import ImageError
from fse.preprocessing import crop_frame
from fse.preprocessing.resample import resample
from tests.fse.preprocessing.dotted import dot_near, dotted, exact_dot_near, turned_frame


def crop(image: np.ndarray, frame: np.ndarray, size: int) -> np.ndarray:
    return np.asarray(resample(Image.fromarray(image), frame, size))


@pytest.mark.parametrize("angle", [0.0, 0.3, -1.2, np.pi])
@pytest.mark.parametrize("side", [20.0, 50.0, 77.7, 160.0, 333.0, 900.0])
def test_dots_appear_at_their_landmarks(angle: float, side: float) -> None:
    """Within a tenth of a crop pixel, enlarged or reduced, turned or not, also if the frame leaves the image."""
    random = np.random.RandomState(0)
    size = 50
    frame = turned_frame(angle, side, (203.3, 158.8))
    step = side / size
    for _ in range(4):
        landmark = random.uniform(-0.6, 0.6, 2) * min(1.0, 240.0 / side)
        pixel = geometry.apply_affine(frame, landmark)
        image = dotted((400, 300), pixel, radius=max(1.2, 1.5 * step))
        expected = geometry.to_pixels(landmark, (size, size))
        actual = dot_near(crop(image, frame, size), expected, 4.0 + 6.0 / step)
        assert np.abs(actual - expected).max() < 0.1


@pytest.mark.parametrize("angle", [0.0, 1e-3, 0.3, np.pi / 2, np.pi])
@pytest.mark.parametrize("side", [50.0, 100.0, 160.0, 333.0])
def test_landmarks_are_exact_to_a_hundredth_of_a_pixel(angle: float, side: float) -> None:
    """Frames turned by a little or by a right angle, or of the crop's size, where interpolation may shift a whole image.

    With 8 bits per pixel, a shift by a few hundredths can round back to the unshifted image. The fractions of the centers
    are such that this does not happen all over the image.
    """
    size, step = 100, side / 100.0
    for number, fraction in enumerate((0.3, 0.61)):
        frame = turned_frame(angle, side, (203.0 + fraction, 158.5 + fraction))
        landmark = np.array([[0.237, -0.311], [-0.123, 0.171]])[number]
        image = dotted((400, 300), geometry.apply_affine(frame, landmark), radius=max(5.0, 5.0 * step))
        expected = geometry.to_pixels(landmark, (size, size))
        actual = exact_dot_near(crop(image, frame, size), expected, max(5.0 / step, 5.0))
        assert np.abs(actual - expected).max() < 0.01


def test_a_crop_of_the_same_size_changes_nothing() -> None:
    image = np.random.RandomState(0).randint(0, 256, (40, 40, 3)).astype(np.uint8)
    frame = np.array([[20.0, 0.0, 20.0], [0.0, 20.0, 20.0]])
    assert (crop(image, frame, 40) == image).all()
    quarter_turn = np.array([[0.0, -20.0, 20.0], [20.0, 0.0, 20.0]])  # right in the crop is down in the image
    assert np.abs(crop(image, quarter_turn, 40).astype(int) - np.rot90(image).astype(int)).max() <= 1


@pytest.mark.parametrize("angle", [0.0, 0.4])
@pytest.mark.parametrize("side", [400.0, 1500.0])
def test_shrinking_is_antialiased(angle: float, side: float) -> None:
    """A checkerboard of single pixels becomes even gray."""
    board = np.indices((1600, 1600)).sum(0) % 2 * 255
    image = np.repeat(board.astype(np.uint8)[:, :, None], 3, axis=2)
    cropped = crop(image, turned_frame(angle, side, (800.0, 800.0)), 50)
    assert np.abs(cropped.astype(int) - 127).max() <= 8


@pytest.mark.parametrize("angle", [0.0, 0.4])
@pytest.mark.parametrize("side", [30.0, 250.0, 2000.0])
def test_the_border_is_repeated_outside_the_image(angle: float, side: float) -> None:
    ramp = np.repeat(np.linspace(50, 200, 100).astype(np.uint8)[None, :, None], 100, axis=0).repeat(3, axis=2)
    frame = turned_frame(angle, side, (0.0, 50.0))
    cropped = crop(ramp, frame, 32)
    points = geometry.apply_affine(frame, geometry.grid(*[geometry.centers(32)] * 2))
    outside = points[:, 0].reshape(32, 32) < -2.0 * max(1.0, side / 32)
    assert outside.any()
    assert np.abs(cropped[outside].astype(int) - 50).max() <= (2 if side < 100 else 10)
    assert cropped.min() >= 40


def test_a_frame_outside_the_image_is_rejected() -> None:
    image = dotted((50, 50), [25, 25])
    with pytest.raises(ImageError, match="a crop frame outside the image"):
        crop(image, np.array([[10.0, 0.0, 80.0], [0.0, 10.0, 25.0]]), 20)


def test_a_giant_frame_takes_little_memory() -> None:
    cropped = crop(dotted((60, 40), [30, 20], 9.0), np.array([[600.0, 5.0, 30.0], [-5.0, 600.0, 20.0]]), 1024)
    assert cropped.shape == (1024, 1024, 3)


def test_a_squashed_image_shows_its_landmarks_where_they_are() -> None:
    point = np.array([120.0, 60.0])
    frame = crop_frame.upright_crop_frame(np.array([89.0, 109.0]), np.array([178.0, 218.0]))
    expected = point * [100 / 178, 100 / 218]
    actual = dot_near(crop(dotted((178, 218), point, 5.0), frame, 100), expected, 12.0)
    assert np.abs(actual - expected).max() < 0.1
