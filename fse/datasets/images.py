"""Decode untrusted images."""

import contextlib
import io
import os
import threading
import warnings
from pathlib import Path
from typing import IO, Callable, Iterator, List, Tuple, TypeVar, Union

import numpy as np
from PIL import Image, TiffImagePlugin, UnidentifiedImageError

from fse.errors import DataError, ImageError

EXTENSIONS = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")

# A path, or the bytes of an image file.
ImageSource = Union[bytes, str, "os.PathLike[str]"]

_Result = TypeVar("_Result")

# The formats that Pillow may read. The others are rare, and its reader of one of them (EPS) starts a program.
_FORMATS = ("JPEG", "PNG", "BMP", "WEBP", "TIFF")

# The color behind transparent pixels: neutral, so that neither dark nor light objects vanish.
_BACKGROUND = (128, 128, 128, 255)

# TIFF and EXIF tags.
_WIDTH, _HEIGHT, _ORIENTATION = 0x0100, 0x0101, 0x0112

# The operation that turns an image with this EXIF orientation upright.
_UPRIGHT_OPERATIONS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_SWAPS_SIDES = (5, 6, 7, 8)  # orientations whose rows become columns


def list_images(folder: Path) -> List[str]:
    """Return the images below a folder, which are recognized by their extension; hidden files are left out.

    Returns:
      Sorted paths relative to the folder, with `/` between the parts.

    Raises:
      DataError: a name cannot be encoded in UTF-8.
    """
    names = []
    for parent, _, children in os.walk(folder):  # with strings, because Path objects take three times as long
        relative = os.path.relpath(parent, folder).replace(os.sep, "/")
        prefix = "" if relative == "." else relative + "/"
        for child in children:
            if is_image(child) and os.path.isfile(os.path.join(parent, child)):  # noqa: PTH113, PTH118
                names.append(prefix + child)
    for name in names:
        if name != name.encode("utf-8", "replace").decode("utf-8"):
            raise DataError(f"{folder}: the name of image {name!r} is not UTF-8; rename it")
    return sorted(names)


def is_image(name: str) -> bool:
    """Return whether a file name, without folders, has the extension of an image and is not hidden."""
    return name.lower().endswith(EXTENSIONS) and not name.startswith(".")


def decode(source: ImageSource, max_pixels: int) -> np.ndarray:
    """Decode a JPEG, PNG, BMP, WebP or TIFF image; of several frames the first.

    The EXIF orientation is applied, transparent pixels are blended with neutral gray, 16 bits are scaled to 8, and gray,
    palette and CMYK images become RGB. Several threads may call this function at once.

    Args:
      source: a path, or the bytes of an image file.
      max_pixels: an image with more pixels is refused before it is decoded.

    Returns:
      uint8 [height, width, 3], RGB.

    Raises:
      ImageError: the image is unusable. The message is a short reason, without the image's name.
    """
    return np.asarray(decode_reduced(source, max_pixels, lambda width, height: 1.0)[0])


def decode_reduced(
    source: ImageSource, max_pixels: int, max_factor: Callable[[int, int], float]
) -> Tuple[Image.Image, int]:
    """Decode like `decode`, but reduce a JPEG image while decoding it, which is faster.

    A pixel of the result is the mean of `factor` x `factor` pixels of the image, computed by JPEG's inverse cosine
    transform. The point (x, y) of the image, from its outer corner, is at (x, y) / factor in the result. The last pixels
    at the right and lower border may extend beyond the image.

    Args:
      source: see `decode`.
      max_pixels: see `decode`.
      max_factor: called with the width and height of the upright image; returns the largest useful factor.

    Returns:
      An RGB image of ceil(width / factor) x ceil(height / factor) pixels without metadata, and the factor: 1, 2, 4 or 8.

    Raises:
      ImageError: see `decode`. An `ImageError` that `max_factor` raises is passed on.
    """
    return _with_stream(source, lambda stream: _decode(stream, max_pixels, max_factor))


def upright_size(source: ImageSource) -> Tuple[int, int]:
    """Return width and height of an upright image in pixels; only the file's header is read.

    Raises:
      ImageError: see `decode`.
    """
    return _with_stream(source, _header_size)


class _PillowScope:
    """Settings of Pillow and of the module `warnings` that hold while any thread decodes an image.

    Both settings are global to the process. The first thread that begins to decode sets them, and the last one that
    finishes restores them.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._threads = 0
        self._restore = contextlib.ExitStack()

    @contextlib.contextmanager
    def active(self) -> Iterator[None]:
        """Keep the settings active during the block."""
        with self._lock:
            if not self._threads:
                self._set()
            self._threads += 1
        try:
            yield
        finally:
            with self._lock:
                self._threads -= 1
                if not self._threads:
                    self._restore.close()

    def _set(self) -> None:
        # Pillow warns about broken metadata, which this program does not use.
        self._restore.enter_context(warnings.catch_warnings())
        warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")
        # `decode` has a limit of its own, `max_pixels`.
        self._restore.callback(setattr, Image, "MAX_IMAGE_PIXELS", Image.MAX_IMAGE_PIXELS)
        Image.MAX_IMAGE_PIXELS = None


_PILLOW_SCOPE = _PillowScope()


def _with_stream(source: ImageSource, read: Callable[[IO[bytes]], _Result]) -> _Result:
    """Return what `read` returns for an image file; every exception in it becomes an `ImageError`."""
    try:
        with io.BytesIO(source) if isinstance(source, bytes) else open(source, "rb") as stream:
            if not stream.read(1):
                raise ImageError("the file is empty")
            stream.seek(0)
            with _PILLOW_SCOPE.active():
                return read(stream)
    except ImageError:
        raise
    except FileNotFoundError:
        raise ImageError("no such file") from None
    except Exception as error:  # a malformed file can make Pillow's readers raise anything
        raise ImageError(_reason(error)) from None


def _decode(stream: IO[bytes], max_pixels: int, max_factor: Callable[[int, int], float]) -> Tuple[Image.Image, int]:
    with Image.open(stream, formats=_FORMATS) as opened:
        width, height = opened.size
        if width * height > max_pixels:
            raise ImageError(f"{width} x {height} pixels, more than {max_pixels}")
        if not width * height:
            raise ImageError("the image has no pixels")
        upright = _upright(opened)
        # Pillow applies the orientation of TIFF images itself.
        operation = None if opened.format == "TIFF" else _UPRIGHT_OPERATIONS.get(_orientation(opened))
        factor = _reduction(opened, max_factor(*upright), turned=operation is not None)
        if factor > 1:
            opened.draft(None, (width // factor, height // factor))
        opened.load()
        image = _to_rgb(opened)
    if operation is not None:
        image = image.transpose(operation)
    image.info = {}  # otherwise color profile and comment are saved with images that are made from this one
    return image, factor


def _header_size(stream: IO[bytes]) -> Tuple[int, int]:
    with Image.open(stream, formats=_FORMATS) as image:
        return _upright(image)


def _upright(image: Image.Image) -> Tuple[int, int]:
    """Return width and height of an opened image after its orientation is applied."""
    width, height = image.size
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        # Old versions of Pillow turn TIFF images when they load them, new versions when they open them.
        width, height = int(image.tag_v2[_WIDTH]), int(image.tag_v2[_HEIGHT])
    return (height, width) if _orientation(image) in _SWAPS_SIDES else (width, height)


def _reduction(image: Image.Image, max_factor: float, turned: bool) -> int:
    """Return the factor by which an image is reduced while it is decoded; only Pillow's JPEG decoder can do that."""
    if image.format != "JPEG":
        return 1
    for factor in (8, 4, 2):
        # Incomplete pixels are at the right and lower border. Turning the image would move them to the other side, so
        # that coordinates would no longer be a multiple of the factor.
        divisible = not (image.size[0] % factor or image.size[1] % factor)
        if factor <= max_factor and min(image.size) >= factor and (divisible or not turned):
            return factor
    return 1


def _orientation(image: Image.Image) -> int:
    try:
        orientation: int = image.getexif().get(_ORIENTATION, 1)
        return orientation
    except Exception:  # broken metadata in an image whose pixels are intact
        return 1


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "F":
        raise ImageError("floating-point pixels, whose range is unknown")
    if image.mode.startswith("I"):
        return _from_16_bits(np.asarray(image))
    if image.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, _BACKGROUND), image)
    return image if image.mode == "RGB" else image.convert("RGB")


def _from_16_bits(values: np.ndarray) -> Image.Image:
    """Return a gray image as RGB; [0, 65535] is scaled to [0, 255] and rounded."""
    values = values.astype(np.int64)
    if values.min() < 0 or values.max() > 65535:
        raise ImageError("pixels of 32 bits, whose range is unknown")
    return Image.fromarray(((values * 255 + 32767) // 65535).astype(np.uint8)).convert("RGB")


def _reason(error: Exception) -> str:
    """Return the reason of an exception in a few words."""
    text = str(error).split("\n")[0]
    if isinstance(error, UnidentifiedImageError):
        return "not a JPEG, PNG, BMP, WebP or TIFF image"
    if isinstance(error, OSError) and error.strerror:
        return f"cannot be read: {error.strerror}"
    if "truncated" in text.lower() or isinstance(error, EOFError):
        return "the image is truncated"
    return f"the image is broken ({text[:100] or type(error).__name__})"
