"""How products look: their pose, the surface under them, metal and plastic."""

from __future__ import annotations

import numpy as np

from anomaly_sweep.datasets.synthetic.canvas import (
    Array,
    Drawing,
    Frame,
    bevel,
    blend,
    cover,
    flat,
    frame,
    noise,
)

_LIGHT = -2.2  # from the upper left


def pose(size: int, rng: np.random.Generator, turn: float, scale: float = 1.0) -> Frame:
    """A product put down by hand: turned by up to ``turn`` radians, slightly off the middle."""
    shift = (float(rng.normal(0.0, 0.02)), float(rng.normal(0.0, 0.02)))
    return frame(size, float(rng.uniform(-turn, turn)), shift, scale * float(rng.uniform(0.98, 1.02)))


def ground(size: int, rng: np.random.Generator, colour: tuple[float, float, float]) -> Array:
    """The surface the product lies on."""
    return (
        flat(size, colour) * (1.0 + 0.02 * noise(rng, size, 0.02) + 0.015 * noise(rng, size, 0.3))[..., None]
    )


def place(surface: Array, f: Frame, distance: Array, paint: Array) -> Drawing:
    """A painted object on a surface, with a soft shadow."""
    shadow = np.clip(0.55 - np.roll(distance, (f.size // 40, f.size // 40), (0, 1)) / 0.12, 0.0, 1.0)
    alpha = cover(distance, f.px)
    return Drawing(blend(surface * (1.0 - 0.3 * shadow[..., None]), alpha, paint), alpha)


def metal(f: Frame, rng: np.random.Generator, distance: Array, tint: tuple[float, float, float]) -> Array:
    """Turned or brushed metal with a bevelled edge."""
    grain = 0.03 * noise(rng, f.size, 0.15, 0.008) + 0.03 * noise(rng, f.size, 0.25)
    sheen = 0.07 * np.cos(2.0 * np.arctan2(f.y, f.x) + float(rng.normal(0.6, 0.25)))
    value = 0.62 + grain + sheen + 0.35 * bevel(distance, f.px, 0.07, _LIGHT)
    return np.asarray(value[..., None] * np.array(tint))


def plastic(
    f: Frame,
    rng: np.random.Generator,
    distance: Array,
    colour: tuple[float, float, float],
    width: float = 0.1,
) -> Array:
    """Moulded plastic: even colour, soft bevel."""
    value = 1.0 + 0.03 * noise(rng, f.size, 0.3) + 0.02 * noise(rng, f.size, 0.012)
    shade = 0.28 * bevel(distance, f.px, width, _LIGHT)
    return np.asarray(value[..., None] * np.array(colour) + shade[..., None])
