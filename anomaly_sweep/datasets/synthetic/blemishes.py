"""Defects of the surface: each lays one over a finished drawing, on the product."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from scipy import ndimage

from anomaly_sweep.datasets.synthetic.canvas import Array, Drawing, blend, cover, disc, frame, noise, polyline

Blemish = Callable[[Drawing, float, np.random.Generator], Array]


def scratch(drawing: Drawing, severity: float, rng: np.random.Generator) -> Array:
    """A bright, almost straight line with a dark side."""
    points = _walk(drawing, rng, 0.25 + 0.6 * severity, steps=4, wander=0.08)
    f = frame(drawing.alpha.shape[0])
    width = _width(f.px, 0.008 + 0.006 * severity)
    line = cover(polyline(f.x, f.y, points) - width, f.px)
    side = cover(polyline(f.x - width * 2.0, f.y - width * 2.0, points) - width, f.px)
    strength = (0.16 + 0.3 * severity) * drawing.alpha
    return drawing.rgb + (strength * (line - 0.6 * side))[..., None]


def crack(drawing: Drawing, severity: float, rng: np.random.Generator) -> Array:
    """A dark, jagged line that thins out."""
    points = _walk(drawing, rng, 0.3 + 0.6 * severity, steps=12, wander=0.7)
    f = frame(drawing.alpha.shape[0])
    width = _width(f.px, 0.006 + 0.008 * severity)
    line = cover(polyline(f.x, f.y, points) - width, f.px)
    return drawing.rgb * (1.0 - (0.25 + 0.45 * severity) * (line * drawing.alpha)[..., None])


def cut(drawing: Drawing, severity: float, rng: np.random.Generator) -> Array:
    """A short open slit: dark inside, frayed bright rims."""
    points = _walk(drawing, rng, 0.16 + 0.3 * severity, steps=3, wander=0.15)
    f = frame(drawing.alpha.shape[0])
    distance = polyline(f.x, f.y, points) + 0.008 * noise(rng, f.size, 0.02)
    rim = cover(distance - 0.04 - 0.01 * severity, 2.0 * f.px)
    slit = cover(distance - 0.016 - 0.012 * severity, f.px)
    rgb = blend(drawing.rgb, 0.25 * rim * drawing.alpha, drawing.rgb * 1.5)
    return rgb * (1.0 - (0.35 + 0.4 * severity) * (slit * drawing.alpha)[..., None])


def stain(drawing: Drawing, severity: float, rng: np.random.Generator) -> Array:
    """A soft darker patch, as of oil or water."""
    blob = _blob(drawing, rng, 0.12 + 0.16 * severity, edge=0.06)
    tint = 1.0 - (0.10 + 0.18 * severity) * np.array([0.8, 1.0, 1.25])
    return blend(drawing.rgb, blob * drawing.alpha, drawing.rgb * tint)


def discolour(drawing: Drawing, severity: float, rng: np.random.Generator) -> Array:
    """A patch of another hue and about the same brightness."""
    blob = _blob(drawing, rng, 0.10 + 0.15 * severity, edge=0.03)
    hue = np.array([(0.6, -0.25, -0.35), (-0.4, 0.3, -0.3), (-0.35, -0.2, 0.6)][int(rng.integers(3))])
    return blend(drawing.rgb, blob * drawing.alpha, drawing.rgb + (0.12 + 0.25 * severity) * hue)


def contamination(drawing: Drawing, severity: float, rng: np.random.Generator) -> Array:
    """A sprinkle of chips or dust."""
    centre = _spot(drawing, rng)
    f = frame(drawing.alpha.shape[0])
    rgb = drawing.rgb
    shade = float(rng.choice([0.12, 0.92]))
    for _ in range(3 + int(6 * severity)):
        x, y = centre + rng.normal(0.0, 0.12, 2)
        radius = _width(f.px, float(rng.uniform(0.014, 0.03 + 0.02 * severity)))
        grain = cover(disc(f.x - x, f.y - y, radius), f.px)
        rgb = blend(rgb, (0.45 + 0.4 * severity) * grain * drawing.alpha, (shade, 0.95 * shade, 0.85 * shade))
    # At least the one in the middle lies on the product.
    grain = cover(disc(f.x - centre[0], f.y - centre[1], 0.03), f.px) * drawing.alpha
    return blend(rgb, (0.45 + 0.4 * severity) * grain, (shade, 0.95 * shade, 0.85 * shade))


def hole(drawing: Drawing, severity: float, rng: np.random.Generator) -> Array:
    """A small punched hole with a raised rim."""
    blob = _blob(drawing, rng, 0.035 + 0.055 * severity, edge=0.02)
    rim = np.clip(ndimage.grey_dilation(blob, size=(3, 3)) - blob, 0.0, 1.0)
    rgb = blend(drawing.rgb, 0.3 * rim * drawing.alpha, (1.0, 1.0, 1.0))
    return blend(rgb, (0.5 + 0.4 * severity) * blob * drawing.alpha, (0.08, 0.07, 0.07))


def thread(drawing: Drawing, severity: float, rng: np.random.Generator) -> Array:
    """A curly fibre lying on the product."""
    points = _walk(drawing, rng, 0.5 + 0.6 * severity, steps=16, wander=0.35)
    f = frame(drawing.alpha.shape[0])
    fibre = cover(polyline(f.x, f.y, points) - _width(f.px, 0.010 + 0.006 * severity), f.px) * drawing.alpha
    colour = np.array([(0.9, 0.9, 0.88), (0.25, 0.2, 0.22), (0.65, 0.3, 0.3)][int(rng.integers(3))])
    return blend(drawing.rgb, (0.4 + 0.4 * severity) * fibre, colour)


def distortion(drawing: Drawing, severity: float, rng: np.random.Generator) -> Array:
    """The pattern pulled sideways in one place; its colours stay."""
    size = drawing.alpha.shape[0]
    centre = _spot(drawing, rng)
    f = frame(size)
    radius = 0.18 + 0.14 * severity
    falloff = np.clip(1.0 - (disc(f.x - centre[0], f.y - centre[1], 0.0) / radius) ** 2, 0.0, 1.0) ** 2
    angle, pull = float(rng.uniform(0.0, 2.0 * math.pi)), (0.05 + 0.10 * severity) * size / 2.0
    rows, columns = np.indices((size, size))
    where = (rows + pull * math.sin(angle) * falloff, columns + pull * math.cos(angle) * falloff)
    layers = [ndimage.map_coordinates(drawing.rgb[..., c], where, order=1, mode="nearest") for c in range(3)]
    return np.where((falloff > 0.0)[..., None], np.stack(layers, axis=-1), drawing.rgb)


def _spot(drawing: Drawing, rng: np.random.Generator) -> Array:
    """A point on the product, away from the picture's border."""
    size = drawing.alpha.shape[0]
    margin = max(1, size // 7)
    inside = np.zeros_like(drawing.alpha, dtype=bool)
    inside[margin:-margin, margin:-margin] = drawing.alpha[margin:-margin, margin:-margin] > 0.95
    index = np.flatnonzero(inside)
    row, column = divmod(int(index[int(rng.integers(index.size))]), size)
    return np.asarray((np.array([column, row]) + 0.5) * (2.0 / size) - 1.0)


def _walk(drawing: Drawing, rng: np.random.Generator, length: float, *, steps: int, wander: float) -> Array:
    """Points of a path of a given length whose middle lies on the product."""
    centre = _spot(drawing, rng)
    heading = float(rng.uniform(0.0, 2.0 * math.pi)) + np.cumsum(rng.normal(0.0, wander, steps))
    strides = np.stack([np.cos(heading), np.sin(heading)], axis=-1) * (length / steps)
    path = np.concatenate([np.zeros((1, 2)), np.cumsum(strides, axis=0)])
    return np.asarray(path - path[len(path) // 2] + centre)


def _blob(drawing: Drawing, rng: np.random.Generator, radius: float, *, edge: float) -> Array:
    """Coverage of an irregular patch."""
    centre = _spot(drawing, rng)
    f = frame(drawing.alpha.shape[0])
    phase = rng.uniform(0.0, 2.0 * math.pi, 3)
    x, y = f.x - centre[0], f.y - centre[1]
    turn = np.arctan2(y, x)
    waves = sum(0.16 / k * np.sin((k + 1) * turn + phase[k - 1]) for k in (1, 2, 3))
    return cover(np.hypot(x, y) - radius * (1.0 + waves), max(f.px, edge))


def _width(px: float, half: float) -> float:
    return max(half, 0.35 * px)  # a thinner line would fade away in small pictures


BLEMISHES: dict[str, Blemish] = {
    "scratch": scratch,
    "crack": crack,
    "cut": cut,
    "stain": stain,
    "discolour": discolour,
    "contamination": contamination,
    "hole": hole,
    "thread": thread,
    "distortion": distortion,
}
