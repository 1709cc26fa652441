"""Rendering of views on the CPU, compiled by Numba: five times as fast as TensorFlow's operations.

Each view goes through three steps:

1. The warp gives, for every pixel of the view, a position in the image. The symmetry of the control points saves three
   quarters of the products (see `_folded_basis`).
2. Positions are rounded to 1/8192 of an image pixel, and bilinear interpolation computes in integers, with the three
   channels of a pixel packed into one number of 64 bits.
3. Contrast and brightness are applied as the channels are unpacked.

An image and its samples give the same bits on every rank of a machine, as nothing depends on the rest of the batch.
"""

import functools
import hashlib
import pickle
from pathlib import Path
from typing import Any, Callable, Tuple

import numba
import numpy as np

from fse import geometry
from fse.inputs.augment import ViewSamples

# Interpolation weights are multiples of 1/8192 = 2^-13. A channel takes 21 bits of 64, as 255 * 8192 < 2^21.
_FRACTION_BITS, _CHANNEL_BITS = 13, 21
_ONE = 1 << _FRACTION_BITS

# Python constants would make Numba compute in float64 and in signed integers of 64 bits, so each one is wrapped.
_f, _u = np.float32, np.uint64

# Numba vectorizes a loop only if it is alone in its function (seen with 0.56, the last release for Python 3.7). That is
# why the compiled code consists of small functions.
_compiled = functools.partial(numba.njit, nogil=True, error_model="numpy")


def _compiled_once(function: Callable[..., None]) -> Callable[..., None]:
    """Compile a function at its first call, and cache the machine code on disk for later processes.

    The cache is in `__pycache__` beside this file or in the user's cache folder. If neither can be written to, or the
    disk is full, or a cached file is damaged, the function is compiled in this process instead.
    """
    uncached: Callable[..., None] = _compiled(function)
    # Numba names a cache file by the function and trusts the source's time and size. If a write is interrupted, code of an
    # older version can be left under the same name; a name with a hash of the code rules that out.
    code = Path(function.__code__.co_filename).read_bytes() + numba.__version__.encode()
    function.__qualname__ += "_" + hashlib.sha256(code).hexdigest()[:12]
    try:
        cached: Any = _compiled(function, cache=True)
    except RuntimeError:  # no folder can be written to
        return uncached

    def call(*arguments: Any) -> None:
        try:
            cached(*arguments)
        except (OSError, EOFError, pickle.UnpicklingError):
            # Either the machine code could not be saved, and is in memory all the same; or a file could not be read.
            (cached if cached.signatures else uncached)(*arguments)

    return call


def render(images: np.ndarray, samples: ViewSamples, view: int) -> np.ndarray:
    """Render views by bilinear interpolation. Beyond its edges an image continues as its own mirror image.

    Args:
      images: uint8 [batch, size, size, 3].
      samples: warps and colors of the views of those images.
      view: width and height of a view in pixels, at the resolution of the images.

    Returns:
      float32 [batch * views, view, view, 3] in [-1, 1]; the views of an image are adjacent.

    Raises:
      ValueError: the images have another type or shape.
    """
    batch, views, controls, _ = samples.destinations.shape
    size = images.shape[1]
    if images.dtype != np.uint8 or images.shape != (batch, size, size, 3):
        raise ValueError(f"images must be uint8 [{batch}, size, size, 3], got {images.dtype} {list(images.shape)}")
    basis, fold, ends = _folded_basis(round(controls**0.5), view)
    # From half-widths of the view to pixels of the image, still relative to its center: [batch, views, C, 2], then
    # [batch, views, 2, C], so that the compiled code reads all x in a row.
    coefficients = np.swapaxes(fold @ (samples.destinations * (view / 2.0)), 2, 3)
    rendered = _aligned_empty((batch, views, view, view, 3))
    contiguous = [np.ascontiguousarray(part, np.float32) for part in (coefficients, samples.gains, samples.offsets)]
    _render(np.ascontiguousarray(images), *contiguous, basis, ends, rendered)
    return rendered.reshape(batch * views, view, view, 3)


def _aligned_empty(shape: Tuple[int, ...]) -> np.ndarray:
    """Return an uninitialized float32 array at a multiple of 64 bytes. TensorFlow copies arrays that are not aligned."""
    count = int(np.prod(shape))
    buffer = np.empty(count + 16, np.float32)
    first = -buffer.ctypes.data % 64 // buffer.itemsize
    return buffer[first : first + count].reshape(shape)


@functools.lru_cache(maxsize=None)
def _folded_basis(per_side: int, view: int) -> Tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the spline basis at a view's pixel centers, folded so that it takes a quarter of the products.

    Control points and pixels both lie symmetrically about the center. The sum of the basis functions of two control
    points that mirror one another is an even function, their difference an odd one. Sorting the functions by symmetry
    splits a warp into four parts: even (E) or odd (O) in y, then in x. It is enough to evaluate each part at the pixels
    (x, y) of one quarter of the view, because the other three quarters differ only in signs:

        warp(sx * x, sy * y) = EE + sx * EO + sy * OE + sx * sy * OO        with sx, sy = -1 or +1

    Returns:
      basis: float32 [C, pixels] over the upper left quarter of the view, row by row; includes the middle row and column
        if `view` is odd.
      fold: float64 [C, C], orthogonal: `fold @ destinations` are the coefficients that go with `basis`.
      ends: int64 [5]: part i, in the order EE, EO, OE, OO, consists of functions ends[i] … ends[i + 1] - 1.
    """
    identity, half = np.eye(per_side), per_side // 2
    sums, differences = (identity + identity[::-1])[: per_side - half], (identity - identity[::-1])[:half]
    even, odd = (rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (sums, differences))
    # Control points are listed row by row, so the y factor of a Kronecker product comes first.
    parts = [np.kron(in_y, in_x) for in_y, in_x in ((even, even), (even, odd), (odd, even), (odd, odd))]
    fold = np.concatenate(parts)
    ticks = geometry.centers(view)[: (view + 1) // 2]
    basis = geometry.spline_basis(geometry.grid(ticks, ticks), per_side) @ fold.T
    ends = np.cumsum([0] + [len(part) for part in parts])
    return np.ascontiguousarray(basis.T, np.float32), fold, ends.astype(np.int64)


@_compiled_once
def _render(
    images: np.ndarray,
    coefficients: np.ndarray,
    gains: np.ndarray,
    offsets: np.ndarray,
    basis: np.ndarray,
    ends: np.ndarray,
    rendered: np.ndarray,
) -> None:
    """Fill `rendered`, float32 [batch, views, view, view, 3].

    Args:
      images: uint8 [batch, size, size, 3].
      coefficients: float32 [batch, views, 2, C], x and y of the folded basis, in pixels from the image's center.
      gains: float32 [batch, views, 3].
      offsets: float32 [batch, views, 3].
      basis: float32 [C, pixels of a quarter]; see `_folded_basis`.
      ends: int64 [5]; see `_folded_basis`.
      rendered: the array to fill.
    """
    size, view = images.shape[1], rendered.shape[2]
    columns = (view + 1) // 2
    # One row and one pixel more than the image: interpolation at the last row or column reads them, with weight zero.
    packed = np.zeros(size * (size + 1) + 1, np.uint64)
    parts = np.empty((2, 4, basis.shape[1]), np.float32)  # x and y of the parts EE, EO, OE, OO
    x_fixed, y_fixed = np.empty(basis.shape[1], np.int32), np.empty(basis.shape[1], np.int32)
    colors = np.empty((view, view), np.uint64)
    for image in range(len(images)):
        _pack(images[image].reshape(-1), packed)
        for seen in range(rendered.shape[1]):
            parts[:] = _f(0.0)
            for part in range(4):
                for function in range(ends[part], ends[part + 1]):
                    x, y = coefficients[image, seen, 0, function], coefficients[image, seen, 1, function]
                    _accumulate(basis[function], x, y, parts[0, part], parts[1, part])
            for y_sign in (1, -1):
                for x_sign in (1, -1):
                    _to_fixed(parts[0], _f(x_sign), _f(y_sign), size, x_fixed)
                    _to_fixed(parts[1], _f(x_sign), _f(y_sign), size, y_fixed)
                    # Reversed strides put the pixels of a mirrored quarter where they belong.
                    quarter = colors[::y_sign, ::x_sign]
                    for row in range(columns):
                        pixels = slice(row * columns, (row + 1) * columns)
                        _interpolate(packed, size, x_fixed[pixels], y_fixed[pixels], quarter[row])
            # A color c in 0 … 255 * 8192 becomes 2 * (0.5 + gain * (c / (255 * 8192) - 0.5) + offset) - 1.
            gain = gains[image, seen] * _f(2.0 / 255.0 / _ONE)
            offset = _f(2.0) * offsets[image, seen] - gains[image, seen]
            _recolor(colors.reshape(-1), gain, offset, rendered[image, seen].reshape(-1))


@_compiled
def _pack(image: np.ndarray, packed: np.ndarray) -> None:
    """Pack the channels of each pixel, uint8 [pixels * 3], into one number, uint64 [pixels]."""
    for pixel in range(len(image) // 3):
        red, green, blue = image[3 * pixel], image[3 * pixel + 1], image[3 * pixel + 2]
        packed[pixel] = _u(red) | _u(green) << _u(_CHANNEL_BITS) | _u(blue) << _u(2 * _CHANNEL_BITS)


@_compiled
def _accumulate(function: np.ndarray, x: float, y: float, x_part: np.ndarray, y_part: np.ndarray) -> None:
    """Add a basis function [pixels], times its coefficients x and y, to one part of the warp."""
    for pixel in range(len(function)):
        x_part[pixel] += function[pixel] * x
        y_part[pixel] += function[pixel] * y


@_compiled
def _to_fixed(parts: np.ndarray, x_sign: float, y_sign: float, size: int, fixed: np.ndarray) -> None:
    """Combine the parts of one coordinate for a quarter of the view, mirror it into the image, and round it.

    Args:
      parts: float32 [4, pixels], the parts EE, EO, OE, OO in pixels from the image's center.
      x_sign: -1 for a quarter on the right side of the view, else 1.
      y_sign: -1 for a quarter on the lower side of the view, else 1.
      size: width and height of the image in pixels.
      fixed: filled with int32 [pixels], in 1/8192 of a pixel from the center of the image's first pixel.
    """
    period, half, last, one, rounding = _f(2 * size), _f(0.5) * _f(size), _f(size - 1), _f(_ONE), _f(0.5)
    periods = _f(1.0) / period
    for x in range(len(fixed)):
        place = (parts[0, x] + y_sign * parts[2, x]) + x_sign * (parts[1, x] + y_sign * parts[3, x])
        # From the first edge, and mirrored about it; the mirrored image repeats after twice its size.
        place = abs(place + half)
        place -= period * _f(np.int32(place * periods))
        # Mirrored about the last edge, and from the center of the first pixel.
        place = _f(size) - abs(place - _f(size)) - _f(0.5)
        fixed[x] = np.int32(min(max(place, _f(0.0)), last) * one + rounding)


@_compiled
def _interpolate(packed: np.ndarray, size: int, x_fixed: np.ndarray, y_fixed: np.ndarray, colors: np.ndarray) -> None:
    """Interpolate packed colors at positions in 1/8192 of a pixel. Each channel of the result is times 8192."""
    for x in range(len(x_fixed)):
        u, v = x_fixed[x], y_fixed[x]
        above = _u((v >> _FRACTION_BITS) * size + (u >> _FRACTION_BITS))
        below = above + _u(size)
        u, v = u & (_ONE - 1), v & (_ONE - 1)
        # The four weights (1-u)(1-v), u(1-v), (1-u)v and uv, written so that they add up to exactly 8192.
        both = (u * v) >> _FRACTION_BITS
        color = packed[above] * _u(_ONE - u - v + both) + packed[above + _u(1)] * _u(u - both)
        colors[x] = color + packed[below] * _u(v - both) + packed[below + _u(1)] * _u(both)


@_compiled
def _recolor(colors: np.ndarray, gain: np.ndarray, offset: np.ndarray, row: np.ndarray) -> None:
    """Unpack colors into float32 [pixels * 3], times `gain` [3] plus `offset` [3], clipped to [-1, 1]."""
    low, channel = _u((1 << _CHANNEL_BITS) - 1), _u(_CHANNEL_BITS)
    red_gain, green_gain, blue_gain = gain[0], gain[1], gain[2]
    red_offset, green_offset, blue_offset = offset[0], offset[1], offset[2]
    for x in range(len(colors)):
        packed = colors[x]
        row[3 * x] = min(max(_f(np.int32(packed & low)) * red_gain + red_offset, _f(-1.0)), _f(1.0))
        packed >>= channel
        row[3 * x + 1] = min(max(_f(np.int32(packed & low)) * green_gain + green_offset, _f(-1.0)), _f(1.0))
        packed >>= channel
        row[3 * x + 2] = min(max(_f(np.int32(packed)) * blue_gain + blue_offset, _f(-1.0)), _f(1.0))
