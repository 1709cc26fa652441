"""Renders views of images on the host, compiled by Numba: TensorFlow's operations take five times as long.

First the warp says where on the image each pixel of a view lies; its symmetry saves three quarters of the products (see
`_folded_basis`). Those places are rounded to 1/8192 of a pixel of the image, and the interpolation computes in whole
numbers, with the three channels of a pixel side by side in one of them. Nothing depends on what else is in the batch: a
image and a draw give the same bits on every rank of a machine.
"""

import functools
import hashlib
import pickle
from pathlib import Path
from typing import Any, Callable, Tuple

import numba
import numpy as np

from fse import geometry
from fse.inputs.augment import Draw

# Interpolation weights are multiples of 1/8192. A channel takes 21 bits of 64: 255 * 8192 just fits.
_BITS, _CHANNEL_BITS = 13, 21
_ONE = 1 << _BITS

# Numba would compute in float64 and in signed numbers of 64 bits wherever a constant is Python's own.
_f, _u = np.float32, np.uint64

# Numba makes vector instructions of a loop only where it stands alone in its function (so the release for Python 3.7),
# which is why what is compiled is in small functions.
_compiled = functools.partial(numba.njit, nogil=True, error_model="numpy")


def _kept(function: Callable[..., None]) -> Callable[..., None]:
    """Compiled in its first call, and kept for later processes in `__pycache__` or the user's cache folder if possible."""
    alone: Callable[..., None] = _compiled(function)
    # Numba names its files by the function, and could take those of another state of it for its own where writing them was
    # stopped half way, or goes on.
    code = Path(function.__code__.co_filename).read_bytes() + numba.__version__.encode()
    function.__qualname__ += "_" + hashlib.sha256(code).hexdigest()[:12]
    try:
        kept: Callable[..., None] = _compiled(function, cache=True)
    except RuntimeError:  # neither folder can be written to
        return alone

    def call(*given: Any) -> None:
        try:
            kept(*given)
        except (OSError, EOFError, pickle.UnpicklingError):  # there is no room, or what is there cannot be read
            alone(*given)

    return call


def render(images: np.ndarray, draw: Draw, view: int) -> np.ndarray:
    """Renders views by bilinear interpolation; beyond its edge an image goes on as its mirror image.

    Args:
      images: uint8 [batch, size, size, 3].
      draw: of that many images.
      view: width and height of a view in pixels, at the images' own resolution.

    Returns:
      float32 [batch * views, view, view, 3] in [-1, 1]; the views of an image follow one another.

    Raises:
      ValueError: the images are not such ones.
    """
    batch, views, controls, _ = draw.targets.shape
    size = images.shape[1]
    if images.dtype != np.uint8 or images.shape != (batch, size, size, 3):
        raise ValueError(f"wanted uint8 images [{batch}, size, size, 3], got {images.dtype} {list(images.shape)}")
    basis, fold, ends = _folded_basis(round(controls**0.5), view)
    # From half-widths of the view to pixels of the image, about its center; all x before all y.
    targets = np.swapaxes(fold @ (draw.targets * (view / 2.0)), 2, 3)
    rendered = _aligned((batch, views, view, view, 3))
    drawn = [np.ascontiguousarray(part, np.float32) for part in (targets, draw.gains, draw.offsets)]
    _render(np.ascontiguousarray(images), *drawn, basis, ends, rendered)
    return rendered.reshape(batch * views, view, view, 3)


def _aligned(shape: Tuple[int, ...]) -> np.ndarray:
    """An empty float32 array at a multiple of 64 bytes, which TensorFlow takes as it is; others it copies."""
    count = int(np.prod(shape))
    room = np.empty(count + 16, np.float32)
    first = -room.ctypes.data % 64 // room.itemsize
    return room[first : first + count].reshape(shape)


@functools.lru_cache(maxsize=None)
def _folded_basis(per_side: int, view: int) -> Tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The spline basis at a view's pixel centers, in a quarter of its products.

    Control points and pixels lie symmetrically, so sums and differences of the basis functions of control points that
    mirror one another are even or odd functions. Their sums over a quarter of the pixels are, but for signs, those of
    the other quarters as well.

    Returns:
      basis: float32 [C, pixels] over the upper left quarter of the view, row by row; with the middle if `view` is odd.
      fold: float64 [C, C], orthogonal: `basis` goes with `fold @ targets`.
      ends: int64 [5]: functions ends[i] … ends[i + 1] - 1 are even both ways, odd across, odd down, odd both ways.
    """
    identity, half = np.eye(per_side), per_side // 2
    pairs = (identity + identity[::-1])[: per_side - half], (identity - identity[::-1])[:half]
    even, odd = (pair / np.linalg.norm(pair, axis=1, keepdims=True) for pair in pairs)
    parts = [np.kron(down, across) for down, across in ((even, even), (even, odd), (odd, even), (odd, odd))]
    fold = np.concatenate(parts)
    ticks = geometry.centers(view)[: (view + 1) // 2]
    basis = geometry.spline_basis(geometry.grid(ticks, ticks), per_side) @ fold.T
    ends = np.cumsum([0] + [len(part) for part in parts])
    return np.ascontiguousarray(basis.T, np.float32), fold, ends.astype(np.int64)


@_kept
def _render(
    images: np.ndarray,
    targets: np.ndarray,
    gains: np.ndarray,
    offsets: np.ndarray,
    basis: np.ndarray,
    ends: np.ndarray,
    rendered: np.ndarray,
) -> None:
    """Fills `rendered` [batch, views, view, view, 3]; `targets` is float32 [batch, views, 2, C], as the basis wants it."""
    size, view = images.shape[1], rendered.shape[2]
    columns = (view + 1) // 2
    # One row and one pixel more, which are multiplied by nothing where a place is on the last row or column.
    packed = np.zeros(size * (size + 1) + 1, np.uint64)
    parts = np.empty((2, 4, basis.shape[1]), np.float32)
    across, down = np.empty(basis.shape[1], np.int32), np.empty(basis.shape[1], np.int32)
    colors = np.empty((view, view), np.uint64)
    for number in range(len(images)):
        _pack(images[number].reshape(-1), packed)
        for seen in range(rendered.shape[1]):
            parts[:] = _f(0.0)
            for kind in range(4):
                for control in range(ends[kind], ends[kind + 1]):
                    x, y = targets[number, seen, 0, control], targets[number, seen, 1, control]
                    _add(basis[control], x, y, parts[0, kind], parts[1, kind])
            for vertical in (1, -1):
                for horizontal in (1, -1):
                    _mirror(parts[0], _f(horizontal), _f(vertical), size, across)
                    _mirror(parts[1], _f(horizontal), _f(vertical), size, down)
                    quarter = colors[::vertical, ::horizontal]
                    for row in range(columns):
                        part = slice(row * columns, (row + 1) * columns)
                        _interpolate(packed, size, across[part], down[part], quarter[row])
            gain = gains[number, seen] * _f(2.0 / 255.0 / _ONE)
            offset = _f(2.0) * offsets[number, seen] - gains[number, seen]
            _recolor(colors.reshape(-1), gain, offset, rendered[number, seen].reshape(-1))


@_compiled
def _pack(image: np.ndarray, packed: np.ndarray) -> None:
    """Puts the channels of each pixel, uint8 [pixels * 3], into one number, uint64 [pixels]."""
    for pixel in range(len(image) // 3):
        red, green, blue = image[3 * pixel], image[3 * pixel + 1], image[3 * pixel + 2]
        packed[pixel] = _u(red) | _u(green) << _u(_CHANNEL_BITS) | _u(blue) << _u(2 * _CHANNEL_BITS)


@_compiled
def _add(function: np.ndarray, x: float, y: float, across: np.ndarray, down: np.ndarray) -> None:
    """Adds what a basis function [pixels] contributes to the places of pixels."""
    for pixel in range(len(function)):
        across[pixel] += function[pixel] * x
        down[pixel] += function[pixel] * y


@_compiled
def _mirror(parts: np.ndarray, horizontal: float, vertical: float, size: int, fixed: np.ndarray) -> None:
    """Brings together one coordinate of the pixels of a quarter of the view, and mirrors it into the image.

    Args:
      parts: float32 [4, pixels], in pixels from the image's center: see `_folded_basis`.
      horizontal, vertical: -1 for the pixels that mirror those of the basis, else 1.
      size: of the image.
      fixed: gets int32 [pixels], in 1/8192 of a pixel from the center of the image's first pixel.
    """
    period, half, last, one, rounding = _f(2 * size), _f(0.5) * _f(size), _f(size - 1), _f(_ONE), _f(0.5)
    periods = _f(1.0) / period
    for x in range(len(fixed)):
        place = (parts[0, x] + vertical * parts[2, x]) + horizontal * (parts[1, x] + vertical * parts[3, x])
        place = abs(place + half)
        place -= period * _f(np.int32(place * periods))
        place = _f(size) - abs(place - _f(size)) - _f(0.5)
        fixed[x] = np.int32(min(max(place, _f(0.0)), last) * one + rounding)


@_compiled
def _interpolate(packed: np.ndarray, size: int, across: np.ndarray, down: np.ndarray, colors: np.ndarray) -> None:
    """Packed colors, times 8192, at places between pixels."""
    for x in range(len(across)):
        u, v = across[x], down[x]
        above = _u((v >> _BITS) * size + (u >> _BITS))
        below = above + _u(size)
        u, v = u & (_ONE - 1), v & (_ONE - 1)
        both = (u * v) >> _BITS
        color = packed[above] * _u(_ONE - u - v + both) + packed[above + _u(1)] * _u(u - both)
        colors[x] = color + packed[below] * _u(v - both) + packed[below + _u(1)] * _u(both)


@_compiled
def _recolor(colors: np.ndarray, gain: np.ndarray, offset: np.ndarray, row: np.ndarray) -> None:
    """Unpacks colors into float32 [pixels * 3], times `gain` [3] plus `offset` [3], within [-1, 1]."""
    low, channel = _u((1 << _CHANNEL_BITS) - 1), _u(_CHANNEL_BITS)
    red, green, blue = gain[0], gain[1], gain[2]
    more_red, more_green, more_blue = offset[0], offset[1], offset[2]
    for x in range(len(colors)):
        packed = colors[x]
        row[3 * x] = min(max(_f(np.int32(packed & low)) * red + more_red, _f(-1.0)), _f(1.0))
        packed >>= channel
        row[3 * x + 1] = min(max(_f(np.int32(packed & low)) * green + more_green, _f(-1.0)), _f(1.0))
        packed >>= channel
        row[3 * x + 2] = min(max(_f(np.int32(packed)) * blue + more_blue, _f(-1.0)), _f(1.0))
