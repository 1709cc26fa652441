import concurrent.futures
import contextlib
import io
import warnings
import zlib
from pathlib import Path
from typing import Any, Dict, List, Tuple

import numpy as np
import pytest
from PIL import Image

from fse.datasets import images
from fse.errors import DataError, ImageError

# An image that shows its orientation: 2 rows, 3 columns, one bright pixel at the top left.
CORNER = np.zeros((2, 3, 3), np.uint8)
CORNER[0, 0] = 250


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def decode(data: images.ImageSource, max_pixels: int = 10**6) -> np.ndarray:
    image = images.decode(data, max_pixels)
    assert image.dtype == np.uint8
    assert image.ndim == 3
    assert image.shape[2] == 3
    assert image.flags.c_contiguous
    return image


def filled(mode: str, value: Any, size: Tuple[int, int] = (3, 2)) -> Image.Image:
    return Image.new(mode, size, value)


@pytest.mark.parametrize(
    ("original", "kind", "color"),
    [
        (filled("L", 77), "PNG", (77, 77, 77)),
        (filled("1", 1), "PNG", (255, 255, 255)),
        (filled("RGB", (10, 20, 30)), "BMP", (10, 20, 30)),
        (filled("RGB", (10, 20, 30)), "TIFF", (10, 20, 30)),
        (filled("RGBA", (10, 20, 30, 255)), "PNG", (10, 20, 30)),
        (filled("RGBA", (10, 20, 30, 0)), "PNG", (128, 128, 128)),
        (filled("LA", (200, 0)), "PNG", (128, 128, 128)),
        (filled("LA", (200, 255)), "PNG", (200, 200, 200)),
        (filled("CMYK", (0, 0, 0, 255)), "JPEG", (0, 0, 0)),
        (filled("CMYK", (0, 0, 0, 0)), "TIFF", (255, 255, 255)),
        (Image.fromarray(np.full((2, 3), 65535, np.uint16)), "PNG", (255, 255, 255)),
        (Image.fromarray(np.full((2, 3), 257 * 40, np.uint16)), "PNG", (40, 40, 40)),
        (Image.fromarray(np.full((2, 3), 257 * 40, np.uint16)), "TIFF", (40, 40, 40)),
        (Image.fromarray(np.full((2, 3), 60000, np.int32)), "TIFF", (233, 233, 233)),
    ],
)
def test_every_mode_becomes_rgb(original: Image.Image, kind: str, color: Tuple[int, int, int]) -> None:
    image = decode(encoded(original, kind))
    assert image.shape == (2, 3, 3)
    assert (image == color).all()


def test_16_bits_big_endian_are_scaled_and_not_clipped() -> None:
    image = Image.frombytes("I;16B", (2, 1), np.array([[0x0101, 0x8080]], ">u2").tobytes())
    assert decode(encoded(image, "TIFF"))[0, :, 0].tolist() == [1, 128]


def test_half_transparency_is_blended_with_gray() -> None:
    assert decode(encoded(filled("RGBA", (255, 255, 255, 128))))[0, 0, 0] in (191, 192)


@pytest.mark.parametrize(("options", "color"), [({}, (9, 8, 7)), ({"transparency": 0}, (128, 128, 128))])
def test_palette(options: Dict[str, Any], color: Tuple[int, int, int]) -> None:
    image = filled("P", 0)
    image.putpalette([9, 8, 7, 1, 2, 3])
    assert (decode(encoded(image, **options)) == color).all()


def test_palette_with_one_opacity_per_color() -> None:
    image = filled("P", 1)
    image.putpalette([9, 8, 7, 1, 2, 3])
    assert (decode(encoded(image, transparency=bytes([0, 255]))) == (1, 2, 3)).all()


def test_lossy_formats() -> None:
    for kind in ("JPEG", "WEBP"):
        assert (
            np.abs(decode(encoded(filled("RGB", (200, 100, 50), (16, 16)), kind)).astype(int) - (200, 100, 50)).max()
            < 8
        )


@pytest.mark.parametrize(
    ("orientation", "shape", "corner"),
    [
        (1, (2, 3), (0, 0)),
        (2, (2, 3), (0, 2)),
        (3, (2, 3), (1, 2)),
        (4, (2, 3), (1, 0)),
        (5, (3, 2), (0, 0)),
        (6, (3, 2), (0, 1)),
        (7, (3, 2), (2, 1)),
        (8, (3, 2), (2, 0)),
    ],
)
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "WEBP"])
def test_exif_orientation_is_applied(
    orientation: int, shape: Tuple[int, int], corner: Tuple[int, int], kind: str
) -> None:
    original = Image.fromarray(np.kron(CORNER, np.ones((16, 16, 1), np.uint8)))
    options = {"compression": "tiff_deflate"} if kind == "TIFF" else {}
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = decode(encoded(original, kind, exif=exif, **options))[8::16, 8::16, 0]
    assert image.shape == shape
    assert tuple(map(int, np.unravel_index(int(np.argmax(image)), shape))) == corner


def test_first_frame_of_several() -> None:
    pages = [filled("RGB", (1, 2, 3)), filled("RGB", (200, 200, 200))]
    data = encoded(pages[0], "TIFF", save_all=True, append_images=pages[1:])
    assert (decode(data) == (1, 2, 3)).all()


def test_paths_of_both_types(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(encoded(filled("L", 5)))
    assert (decode(path) == 5).all()
    assert (decode(str(path)) == 5).all()


NOISE = Image.fromarray(np.random.RandomState(0).randint(0, 255, (40, 40, 3)).astype(np.uint8))
JPEG, PNG = encoded(NOISE, "JPEG"), encoded(NOISE, "PNG")


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty"),
        (b"this is no image", "not a JPEG, PNG"),
        (b"<html>404</html>", "not a JPEG, PNG"),
        (JPEG[: len(JPEG) // 2], "truncated"),
        (JPEG[:20], "truncated|broken|not a"),
        (PNG[: len(PNG) // 2], "truncated"),
        (encoded(filled("F", 0.5), "TIFF"), "floating-point"),
        (encoded(Image.fromarray(np.full((2, 3), 70000, np.int32)), "TIFF"), "32 bits"),
        (encoded(filled("RGB", 0, (1000, 1001))), "1000 x 1001 pixels, more than 1000000"),
        (encoded(filled("RGB", 0, (20, 10)), "GIF"), "not a JPEG"),
    ],
    ids=["empty", "text", "html", "half-jpeg", "jpeg-start", "half-png", "float", "32-bit", "many-pixels", "gif"],
)
def test_errors_give_a_reason(data: bytes, reason: str) -> None:
    with pytest.raises(ImageError, match=reason):
        decode(data)


def test_image_without_pixels() -> None:
    header = bytearray(encoded(filled("RGB", 0), "BMP"))
    header[18:22] = bytes(4)  # width
    with pytest.raises(ImageError, match=r"no pixels|broken|not a"):
        decode(bytes(header))


def test_header_of_a_giant_image_is_refused_before_decoding() -> None:
    data = bytearray(encoded(filled("L", 0)))
    data[16:24] = (60000).to_bytes(4, "big") * 2  # IHDR's width and height
    data[29:33] = zlib.crc32(bytes(data[12:29])).to_bytes(4, "big")
    with pytest.raises(ImageError, match="60000 x 60000 pixels"):
        decode(bytes(data))


def test_every_truncation_is_an_error_or_an_image() -> None:
    for kind in ("JPEG", "PNG", "BMP", "WEBP", "TIFF"):
        data = encoded(Image.fromarray(CORNER), kind)
        for length in range(0, len(data), 3):
            with contextlib.suppress(ImageError):
                decode(data[:length])


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_noise_in_a_file_raises_no_other_error() -> None:
    random = np.random.RandomState(3)
    for kind in ("JPEG", "PNG", "BMP", "WEBP", "TIFF"):
        exif = Image.Exif()
        exif[0x0112] = 6
        data = encoded(Image.fromarray(CORNER), kind, exif=exif)
        for _ in range(60):
            noisy = bytearray(data)
            for place in random.randint(0, len(noisy), 4):
                noisy[place] = random.randint(256)
            with contextlib.suppress(ImageError):
                decode(bytes(noisy))


def test_missing_files_and_folders(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="no such file"):
        decode(tmp_path / "missing.jpg")
    with pytest.raises(ImageError, match="cannot be read"):
        decode(tmp_path)


def test_several_threads() -> None:
    data = [encoded(filled("L", value, (50, 50))) for value in range(40)]
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        values = [int(image[0, 0, 0]) for image in pool.map(decode, data)]
    assert values == list(range(40))


def test_list_images(tmp_path: Path) -> None:
    for name in ("b.JPG", "a/c.png", "a/notes.txt", "._b.jpg", "z.tiff", "y.Webp", "x.jpeg", "w.bmp", "v.tif"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "folder.png").mkdir()
    assert images.list_images(tmp_path) == ["a/c.png", "b.JPG", "v.tif", "w.bmp", "x.jpeg", "y.Webp", "z.tiff"]


def test_list_images_refuses_names_that_are_not_utf_8(tmp_path: Path) -> None:
    with open(str(tmp_path).encode() + b"/\xff.png", "wb"):
        pass
    with pytest.raises(DataError, match="UTF-8"):
        images.list_images(tmp_path)


def test_broken_metadata_causes_no_warning() -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        exif = Image.Exif()
        exif[0x0112] = 1
        data = encoded(filled("RGB", 0), "JPEG", exif=exif.tobytes()[:-8])
        decode(data)
    assert not caught


def test_settings_of_the_process_are_restored(monkeypatch: pytest.MonkeyPatch) -> None:
    """Threads that decode at the same time share Pillow's limit and the warning filters, and restore both at the end."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1)  # Pillow refuses images with more than twice as many pixels
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        filters = list(warnings.filters)
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            assert len(list(pool.map(decode, [encoded(filled("L", 1, (50, 50)))] * 40))) == 40
        with pytest.raises(ImageError):
            decode(b"nonsense")
        assert warnings.filters == filters
    assert Image.MAX_IMAGE_PIXELS == 1


@pytest.mark.parametrize(("max_factor", "factor"), [(0.3, 1), (1.9, 1), (2.0, 2), (7.9, 4), (50.0, 8)])
def test_jpeg_is_reduced_by_the_largest_permitted_factor(max_factor: float, factor: int) -> None:
    sizes: List[Tuple[int, int]] = []

    def limit(width: int, height: int) -> float:
        sizes.append((width, height))
        return max_factor

    smooth = np.repeat(np.add.outer(np.arange(81), np.arange(163)).astype(np.uint8)[:, :, None], 3, axis=2)
    for kind, expected in (("JPEG", factor), ("PNG", 1)):
        stream = io.BytesIO()
        Image.fromarray(smooth).save(stream, kind, quality=95)
        image, by = images.decode_reduced(stream.getvalue(), 100_000, limit)
        assert by == expected
        pixels = np.asarray(image)
        assert pixels.shape == (-(-81 // by), -(-163 // by), 3)
        middle = smooth[: 80 // by * by, : 160 // by * by, 0].reshape(80 // by, by, 160 // by, by).mean((1, 3))
        assert np.abs(pixels[: 80 // by, : 160 // by, 0] - middle).max() <= 3
    assert sizes == [(163, 81)] * 2


@pytest.mark.parametrize("orientation", range(9))
@pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
def test_upright_size_is_the_size_of_the_decoded_image(kind: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(Image.fromarray(CORNER), kind, exif=exif)
    sizes: List[Tuple[int, int]] = []

    def max_factor(width: int, height: int) -> float:
        sizes.append((width, height))
        return 1.0

    image, _ = images.decode_reduced(data, 100, max_factor)
    assert sizes == [images.upright_size(data)] == [image.size]


def test_upright_size_of_another_file() -> None:
    with pytest.raises(ImageError, match="not a JPEG"):
        images.upright_size(b"nonsense")
