"""Drawing primitives: a coordinate frame, signed distances with antialiased edges, smooth noise.

Lengths are in units of half the image's width, so a picture looks the same at every size.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Colour = Sequence[float]


@dataclass(frozen=True, slots=True)
class Frame:
    """Coordinates of the pixel centres as an object sees them.

    Parameters
    ----------
    x, y
        Shape ``(size, size)``; about -1 .. 1 over the image, x to the right, y down.
    px
        Width of one pixel in these coordinates.
    """

    x: Array
    y: Array
    px: float

    @property
    def size(self) -> int:
        """Pixels along a side."""
        return len(self.x)


@dataclass(frozen=True, slots=True)
class Drawing:
    """A picture before the camera.

    Parameters
    ----------
    rgb
        Shape ``(size, size, 3)``, about 0 .. 1.
    alpha
        Shape ``(size, size)``: how far the product covers a pixel, 0 .. 1.
    """

    rgb: Array
    alpha: Array


def frame(
    size: int, angle: float = 0.0, shift: tuple[float, float] = (0.0, 0.0), scale: float = 1.0
) -> Frame:
    """A frame turned by ``angle`` radians, moved by ``shift`` and enlarged by ``scale``."""
    axis = (np.arange(size) + 0.5) * (2.0 / size) - 1.0
    x, y = np.meshgrid(axis - shift[0], axis - shift[1])
    cos, sin = math.cos(angle) / scale, math.sin(angle) / scale
    return Frame(cos * x + sin * y, cos * y - sin * x, 2.0 / size / scale)


def disc(x: Array, y: Array, radius: float) -> Array:
    """Signed distance to a disc (negative inside)."""
    return np.asarray(np.hypot(x, y) - radius)


def box(x: Array, y: Array, half_width: float, half_height: float, corner: float = 0.0) -> Array:
    """Signed distance to a box with rounded corners."""
    dx, dy = np.abs(x) - half_width + corner, np.abs(y) - half_height + corner
    outside = np.hypot(np.maximum(dx, 0.0), np.maximum(dy, 0.0))
    return np.asarray(outside + np.minimum(np.maximum(dx, dy), 0.0) - corner)


def polygon(x: Array, y: Array, sides: int, inradius: float) -> Array:
    """Distance to a regular polygon (exact inside, near enough outside)."""
    sector = 2.0 * math.pi / sides
    angle = np.mod(np.arctan2(y, x) + sector / 2.0, sector) - sector / 2.0
    return np.asarray(np.hypot(x, y) * np.cos(angle) - inradius)


def polyline(x: Array, y: Array, points: Array) -> Array:
    """Distance to a chain of segments; ``points`` has shape ``(n, 2)``."""
    best = np.full(x.shape, np.inf)
    for (ax, ay), (bx, by) in pairwise(points):
        ux, uy = bx - ax, by - ay
        along = np.clip(((x - ax) * ux + (y - ay) * uy) / max(ux * ux + uy * uy, 1e-12), 0.0, 1.0)
        best = np.minimum(best, (x - ax - along * ux) ** 2 + (y - ay - along * uy) ** 2)
    return np.asarray(np.sqrt(best))


def cover(distance: Array, px: float) -> Array:
    """Antialiased coverage, 0 .. 1, of the region where ``distance`` is negative."""
    return np.clip(0.5 - distance / px, 0.0, 1.0)


def blend(rgb: Array, alpha: Array, colour: Array | Colour) -> Array:
    """``rgb`` with ``colour`` (one, or a picture) laid over it where ``alpha`` says."""
    return np.asarray(rgb + alpha[..., None] * (np.asarray(colour) - rgb))


def flat(size: int, colour: Colour) -> Array:
    """A picture of one colour."""
    return np.broadcast_to(np.asarray(colour, dtype=np.float64), (size, size, 3)).copy()


def noise(rng: np.random.Generator, size: int, sx: float, sy: float | None = None) -> Array:
    """Periodic Gaussian noise of mean 0 and deviation 1, smooth over lengths ``sx`` and ``sy``."""
    sigma_x, sigma_y = (s * size / 2.0 for s in (sx, sx if sy is None else sy))
    white = np.fft.rfft2(rng.standard_normal((size, size)))
    fx, fy = np.fft.rfftfreq(size)[None, :], np.fft.fftfreq(size)[:, None]
    field = np.fft.irfft2(white * np.exp(-2.0 * (np.pi**2) * ((sigma_x * fx) ** 2 + (sigma_y * fy) ** 2)))
    field -= field.mean()
    return np.asarray(field / max(float(field.std()), 1e-12))


def bevel(distance: Array, px: float, width: float, light: float) -> Array:
    """Shading, about -1 .. 1, of a rounded edge of the given width lit from the angle ``light``."""
    height = np.sqrt(np.clip(1.0 - np.clip(1.0 + distance / width, 0.0, 1.0) ** 2, 0.0, 1.0)) * width
    gy, gx = np.gradient(height, px)
    return np.asarray(np.clip(-(gx * math.cos(light) + gy * math.sin(light)), -1.0, 1.0))
