"""Reading images that nobody has vouched for."""

import io
import os
import warnings
from pathlib import Path
from typing import IO, Callable, List, Tuple, TypeVar, Union

import numpy as np
from PIL import Image, TiffImagePlugin

from fse.errors import DataError, ImageError

EXTENSIONS = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")

_Result = TypeVar("_Result")

# What Pillow may try. Its other readers are less used, and one of them (EPS) starts a program.
_FORMATS = ("JPEG", "PNG", "BMP", "WEBP", "TIFF")

# What shows through transparent pixels: neutral, so that neither dark nor light figures vanish.
_BACKGROUND = (128, 128, 128, 255)

_WIDTH, _HEIGHT, _ORIENTATION = 0x0100, 0x0101, 0x0112
# What sets an image of an EXIF orientation upright.
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_LYING = (5, 6, 7, 8)  # whose rows become columns

# `decode` has a limit of its own, and Pillow's is one for the whole process.
Image.MAX_IMAGE_PIXELS = None
# Pillow warns about broken metadata, which nothing here uses.
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")


def find(folder: Path) -> List[str]:
    """The images below a folder, by file extension; hidden files are left out.

    Returns:
      Sorted paths relative to the folder, with `/`.

    Raises:
      DataError: a name cannot be written in UTF-8.
    """
    found = []
    for parent, _, names in os.walk(str(folder)):  # in strings: paths as objects take three times as long
        below = os.path.relpath(parent, str(folder)).replace(os.sep, "/") + "/"
        for name in names:
            if is_image(name) and os.path.isfile(os.path.join(parent, name)):
                found.append(name if below == "./" else below + name)
    for name in found:
        if name != name.encode("utf-8", "replace").decode("utf-8"):
            raise DataError(f"{folder}: the name of image {name!r} is not UTF-8; rename it")
    return sorted(found)


def is_image(name: str) -> bool:
    """Whether a file's name, without folders, is one of an image."""
    return name.lower().endswith(EXTENSIONS) and not name.startswith(".")


def decode(source: Union[bytes, str, Path], max_pixels: int) -> np.ndarray:
    """Decodes a JPEG, PNG, BMP, WebP or TIFF image, of several frames the first.

    The EXIF orientation is applied, transparent pixels show neutral gray, 16 bits are scaled to 8, and gray, palette
    and CMYK become RGB. Safe to call from several threads.

    Args:
      source: a path, or the bytes of an image file.
      max_pixels: an image with more is refused before it is decoded.

    Returns:
      uint8 [height, width, 3], RGB.

    Raises:
      ImageError: the image cannot be used; the message is a short reason, without the image's name.
    """
    return np.asarray(decode_coarsely(source, max_pixels, lambda width, height: 1.0)[0])


def decode_coarsely(
    source: Union[bytes, str, Path], max_pixels: int, coarsest: Callable[[int, int], float]
) -> Tuple[Image.Image, int]:
    """Decodes as `decode` does, but a large JPEG image, whose details are not wanted, to fewer pixels, and faster.

    A pixel of the result is the mean of `factor` x `factor` pixels of the image, as JPEG's cosine transform gives it:
    what lies at (x, y) of the image, from its outer corner, is at (x, y) / factor. At the right and lower border the
    last pixels may reach beyond the image.

    Args:
      source, max_pixels: as of `decode`.
      coarsest: is told the image's width and height, upright, and returns the largest factor that is good enough.

    Returns:
      an RGB image of ceil(width / factor) x ceil(height / factor) pixels without metadata, and the factor: 1, 2, 4 or 8.

    Raises:
      ImageError: as of `decode`; those of `coarsest` pass.
    """
    return _read(source, lambda stream: _decode(stream, max_pixels, coarsest))


def size(source: Union[bytes, str, Path]) -> Tuple[int, int]:
    """Width and height of an image in pixels, upright, from its header alone.

    Raises:
      ImageError: as of `decode`.
    """
    return _read(source, _size)


def _read(source: Union[bytes, str, Path], work: Callable[[IO[bytes]], _Result]) -> _Result:
    """What `work` makes of an image file; whatever goes wrong in it is a ImageError."""
    try:
        with io.BytesIO(source) if isinstance(source, bytes) else open(str(source), "rb") as stream:
            if not stream.read(1):
                raise ImageError("the file is empty")
            stream.seek(0)
            return work(stream)
    except ImageError:
        raise
    except FileNotFoundError:
        raise ImageError("no such file") from None
    except Exception as error:  # a malformed file can make Pillow's readers trip over anything
        raise ImageError(_reason(error)) from None


def _decode(stream: IO[bytes], max_pixels: int, coarsest: Callable[[int, int], float]) -> Tuple[Image.Image, int]:
    with Image.open(stream, formats=_FORMATS) as opened:
        width, height = opened.size
        if width * height > max_pixels:
            raise ImageError(f"{width} x {height} pixels, more than {max_pixels}")
        if not width * height:
            raise ImageError("the image has no pixels")
        upright = _upright(opened)
        # Pillow turns TIFF images itself.
        turn = None if opened.format == "TIFF" else _TURNS.get(_orientation(opened))
        factor = _factor(opened, coarsest(*upright), turned=turn is not None)
        if factor > 1:
            opened.draft(None, (width // factor, height // factor))
        opened.load()
        image = _rgb(opened)
    if turn is not None:
        image = image.transpose(turn)
    image.info = {}  # else color profile and comment would be saved with whatever is made of it
    return image, factor


def _size(stream: IO[bytes]) -> Tuple[int, int]:
    with Image.open(stream, formats=_FORMATS) as image:
        return _upright(image)


def _upright(image: Image.Image) -> Tuple[int, int]:
    """Width and height of an open image when it is set upright."""
    width, height = image.size
    if isinstance(image, TiffImagePlugin.TiffImageFile):  # which old Pillows turn when they load it, newer ones at once
        width, height = int(image.tag_v2[_WIDTH]), int(image.tag_v2[_HEIGHT])
    return (height, width) if _orientation(image) in _LYING else (width, height)


def _factor(image: Image.Image, coarsest: float, turned: bool) -> int:
    """By how much an image may be reduced while it is decoded; only JPEG's decoder can."""
    if image.format != "JPEG":
        return 1
    for factor in (8, 4, 2):
        # Pixels that are cut at the right or lower border would be at the other one after a turn.
        whole = not (image.size[0] % factor or image.size[1] % factor)
        if factor <= coarsest and min(image.size) >= factor and (whole or not turned):
            return factor
    return 1


def _orientation(image: Image.Image) -> int:
    try:
        return image.getexif().get(_ORIENTATION, 1)
    except Exception:  # broken metadata around an image that is whole
        return 1


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode == "F":
        raise ImageError("floating-point pixels, whose range is unknown")
    if image.mode.startswith("I"):
        return _gray_of_16_bits(np.asarray(image))
    if image.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, _BACKGROUND), image)
    return image if image.mode == "RGB" else image.convert("RGB")


def _gray_of_16_bits(values: np.ndarray) -> Image.Image:
    values = values.astype(np.int64)
    if values.min() < 0 or values.max() > 65535:
        raise ImageError("pixels of 32 bits, whose range is unknown")
    return Image.fromarray(((values * 255 + 32767) // 65535).astype(np.uint8)).convert("RGB")


def _reason(error: Exception) -> str:
    text = str(error).split("\n")[0]
    if isinstance(error, Image.UnidentifiedImageError):
        return "not a JPEG, PNG, BMP, WebP or TIFF image"
    if isinstance(error, OSError) and error.strerror:
        return f"cannot be read: {error.strerror}"
    if "truncated" in text.lower() or isinstance(error, EOFError):
        return "the image is truncated"
    return f"the image is broken ({text[:100] or type(error).__name__})"
