"""Reading pictures that nobody has vouched for."""

import io
import os
import warnings
from pathlib import Path
from typing import IO, Callable, List, Optional, Tuple, TypeVar, Union

import numpy as np
from PIL import Image

from fse.errors import DataError, PictureError

EXTENSIONS = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")

_Result = TypeVar("_Result")

# What Pillow may try. Its other readers are less used, and one of them (EPS) starts a program.
_FORMATS = ("JPEG", "PNG", "BMP", "WEBP", "TIFF")

# What shows through transparent pixels: neutral, so that neither dark nor light figures vanish.
_BACKGROUND = (128, 128, 128, 255)

_ORIENTATION = 0x0112
# EXIF orientation: whether to exchange rows and columns, then whether to reverse the rows, and the columns.
_TURNS = {
    2: (False, False, True),
    3: (False, True, True),
    4: (False, True, False),
    5: (True, False, False),
    6: (True, False, True),
    7: (True, True, True),
    8: (True, True, False),
}

# `decode` has a limit of its own, and Pillow's is one for the whole process.
Image.MAX_IMAGE_PIXELS = None
# Pillow warns about broken metadata, which nothing here uses.
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")


def find(folder: Path) -> List[str]:
    """The pictures below a folder, by file extension; hidden files are left out.

    Returns:
      Sorted paths relative to the folder, with `/`.

    Raises:
      DataError: a name cannot be written in UTF-8.
    """
    found = []
    for parent, _, names in os.walk(str(folder)):
        for name in names:
            path = Path(parent) / name
            if is_picture(name) and path.is_file():
                found.append(path.relative_to(folder).as_posix())
    for name in found:
        if name != name.encode("utf-8", "replace").decode("utf-8"):
            raise DataError("{}: the name of picture {!r} is not UTF-8; rename it".format(folder, name))
    return sorted(found)


def is_picture(name: str) -> bool:
    """Whether a file's name, without folders, is one of a picture."""
    return name.lower().endswith(EXTENSIONS) and not name.startswith(".")


def decode(source: Union[bytes, str, Path], max_pixels: int) -> np.ndarray:
    """Decodes a JPEG, PNG, BMP, WebP or TIFF picture, of several frames the first.

    The EXIF orientation is applied, transparent pixels show neutral grey, 16 bits are scaled to 8, and grey, palette
    and CMYK become RGB. Safe to call from several threads.

    Args:
      source: a path, or the bytes of a picture file.
      max_pixels: a picture with more is refused before it is decoded.

    Returns:
      uint8 [height, width, 3], RGB.

    Raises:
      PictureError: the picture cannot be used; the message is a short reason, without the picture's name.
    """
    return decode_coarsely(source, max_pixels, lambda width, height: 1.0)[0]


def decode_coarsely(
    source: Union[bytes, str, Path], max_pixels: int, coarsest: Callable[[int, int], float]
) -> Tuple[np.ndarray, int]:
    """Decodes as `decode` does, but a large JPEG picture, whose details are not wanted, to fewer pixels, and faster.

    A pixel of the result is the mean of `factor` x `factor` pixels of the picture, as JPEG's cosine transform gives it:
    what lies at (x, y) of the picture, from its outer corner, is at (x, y) / factor. At the right and lower border the
    last pixels may reach beyond the picture.

    Args:
      source, max_pixels: as of `decode`.
      coarsest: is told the picture's width and height, upright, and returns the largest factor that is good enough.

    Returns:
      uint8 [ceil(height / factor), ceil(width / factor), 3], RGB, and the factor: 1, 2, 4 or 8.

    Raises:
      PictureError: as of `decode`; those of `coarsest` pass.
    """
    return _read(source, lambda stream: _decode(stream, max_pixels, coarsest))


def size(source: Union[bytes, str, Path]) -> Tuple[int, int]:
    """Width and height of a picture in pixels, upright, from its header alone.

    Raises:
      PictureError: as of `decode`.
    """
    return _read(source, _size)


def _read(source: Union[bytes, str, Path], work: Callable[[IO[bytes]], _Result]) -> _Result:
    """What `work` makes of a picture file; whatever goes wrong in it is a PictureError."""
    try:
        with io.BytesIO(source) if isinstance(source, bytes) else open(str(source), "rb") as stream:
            if not stream.read(1):
                raise PictureError("the file is empty")
            stream.seek(0)
            return work(stream)
    except PictureError:
        raise
    except FileNotFoundError:
        raise PictureError("no such file") from None
    except Exception as error:  # a malformed file can make Pillow's readers trip over anything
        raise PictureError(_reason(error)) from None


def _decode(stream: IO[bytes], max_pixels: int, coarsest: Callable[[int, int], float]) -> Tuple[np.ndarray, int]:
    with Image.open(stream, formats=_FORMATS) as image:
        width, height = image.size
        if width * height > max_pixels:
            raise PictureError("{} x {} pixels, more than {}".format(width, height, max_pixels))
        if not width * height:
            raise PictureError("the picture has no pixels")
        turn = _turn(image)
        upright = (height, width) if turn and turn[0] else (width, height)
        factor = _factor(image, coarsest(*upright), turned=bool(turn))
        if factor > 1:
            image.draft(None, (width // factor, height // factor))
        image.load()
        picture = _rgb(image)
    if turn:
        exchange, rows, columns = turn
        picture = picture.transpose(1, 0, 2) if exchange else picture
        picture = np.ascontiguousarray(picture[:: -1 if rows else 1, :: -1 if columns else 1])
    return picture, factor


def _size(stream: IO[bytes]) -> Tuple[int, int]:
    with Image.open(stream, formats=_FORMATS) as image:
        width, height = image.size
        turn = _turn(image)
    return (height, width) if turn and turn[0] else (width, height)


def _turn(image: Image.Image) -> Optional[Tuple[bool, bool, bool]]:
    """How to set a picture upright, a value of `_TURNS`; None where there is nothing to do."""
    # Pillow turns TIFF pictures itself.
    return None if image.format == "TIFF" else _TURNS.get(_orientation(image))


def _factor(image: Image.Image, coarsest: float, turned: bool) -> int:
    """By how much a picture may be reduced while it is decoded; only JPEG's decoder can."""
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
    except Exception:  # broken metadata around a picture that is whole
        return 1


def _rgb(image: Image.Image) -> np.ndarray:
    if image.mode == "F":
        raise PictureError("floating-point pixels, whose range is unknown")
    if image.mode.startswith("I"):
        return _grey_of_16_bits(np.asarray(image))
    if image.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, _BACKGROUND), image)
    return np.asarray(image.convert("RGB"))


def _grey_of_16_bits(values: np.ndarray) -> np.ndarray:
    values = values.astype(np.int64)
    if values.min() < 0 or values.max() > 65535:
        raise PictureError("pixels of 32 bits, whose range is unknown")
    grey = ((values * 255 + 32767) // 65535).astype(np.uint8)
    return np.repeat(grey[:, :, None], 3, axis=2)


def _reason(error: Exception) -> str:
    text = str(error).split("\n")[0]
    if isinstance(error, Image.UnidentifiedImageError):
        return "not a JPEG, PNG, BMP, WebP or TIFF picture"
    if isinstance(error, OSError) and error.strerror:
        return "cannot be read: {}".format(error.strerror)
    if "truncated" in text.lower() or isinstance(error, EOFError):
        return "the picture is truncated"
    return "the picture is broken ({})".format(text[:100] or type(error).__name__)
