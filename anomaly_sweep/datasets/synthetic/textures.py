"""The five textures. Each draws one normal picture from its random stream."""

from __future__ import annotations

import numpy as np

from anomaly_sweep.datasets.synthetic.canvas import Array, Drawing, blend, cover, flat, frame, noise


def _whole(rgb: Array) -> Drawing:
    return Drawing(rgb, np.ones(rgb.shape[:2]))


def linen(size: int, rng: np.random.Generator) -> Drawing:
    """A plain weave of beige threads of uneven thickness."""
    f = frame(size, rng.normal(0.0, 0.03), tuple(rng.uniform(-1.0, 1.0, 2)), rng.uniform(0.96, 1.04))
    wobble = 0.015 * noise(rng, size, 0.25), 0.015 * noise(rng, size, 0.25)
    u, v = np.pi * 12.0 * (f.x + wobble[0]), np.pi * 12.0 * (f.y + wobble[1])
    over = 0.5 + 0.5 * np.tanh(4.0 * np.sin(u / 2) * np.sin(v / 2))
    warp = np.abs(np.cos(u / 2)) * (0.85 + 0.12 * noise(rng, size, 0.01, 0.5))
    weft = np.abs(np.cos(v / 2)) * (0.85 + 0.12 * noise(rng, size, 0.5, 0.01))
    value = 0.45 + 0.4 * (over * warp + (1.0 - over) * weft)
    return _whole(value[..., None] * np.array([0.92, 0.85, 0.70]))


def terrazzo(size: int, rng: np.random.Generator) -> Drawing:
    """Coloured stone chips in cement."""
    rgb = flat(size, (0.74, 0.73, 0.70)) + 0.015 * noise(rng, size, 0.02)[..., None]
    palette = np.array([[0.35, 0.34, 0.36], [0.62, 0.45, 0.36], [0.90, 0.88, 0.84], [0.50, 0.55, 0.52]])
    for colour in palette:
        for scale, level in ((0.07, 1.5), (0.035, 1.7)):
            field = noise(rng, size, scale)
            shade = colour + 0.05 * noise(rng, size, 0.15)[..., None]
            rgb = blend(rgb, np.clip((field - level) * 10.0 * scale * size / 4.5, 0.0, 1.0), shade)
    return _whole(rgb)


def marble(size: int, rng: np.random.Generator) -> Drawing:
    """Pale stone with grey veins."""
    f = frame(size, rng.normal(0.6, 0.15), tuple(rng.uniform(-1.0, 1.0, 2)))
    bend = 0.5 * noise(rng, size, 0.35) + 0.16 * noise(rng, size, 0.12) + 0.05 * noise(rng, size, 0.04)
    vein = np.exp(-np.abs(np.sin(3.2 * f.x + 1.6 * bend)) * 7.0)
    fine = np.exp(-np.abs(np.sin(5.0 * f.y + 2.3 * bend + 1.0)) * 16.0)
    value = 0.86 + 0.035 * noise(rng, size, 0.3) + 0.012 * noise(rng, size, 0.03) - 0.26 * vein - 0.12 * fine
    return _whole(
        value[..., None] * np.array([0.97, 0.97, 1.0]) + vein[..., None] * np.array([0.03, 0.01, -0.01])
    )


def corduroy(size: int, rng: np.random.Generator) -> Drawing:
    """Vertical ribs of dark green velvet."""
    f = frame(size, rng.normal(0.0, 0.05), (rng.uniform(-1.0, 1.0), 0.0), rng.uniform(0.95, 1.05))
    x = f.x + 0.012 * noise(rng, size, 0.2, 0.5)
    rib = np.abs(np.sin(np.pi * 5.5 * x))
    light = 0.12 * np.cos(np.pi * 11.0 * x + 0.8)
    value = (
        0.25 + 0.5 * rib**0.7 + light + 0.05 * noise(rng, size, 0.008, 0.04) + 0.05 * noise(rng, size, 0.3)
    )
    return _whole(value[..., None] * np.array([0.42, 0.62, 0.50]))


def veneer(size: int, rng: np.random.Generator) -> Drawing:
    """Wood veneer: long grain with pores."""
    f = frame(size, rng.normal(0.0, 0.04), tuple(rng.uniform(-1.0, 1.0, 2)))
    bend = 0.35 * noise(rng, size, 0.5, 0.25) + 0.02 * noise(rng, size, 0.2, 0.03)
    rings = np.sin(14.0 * (f.y + bend)) * 0.5 + 0.5
    pores = cover(1.9 - noise(rng, size, 0.07, 0.008), 0.6)
    value = 0.72 - 0.2 * rings**2 - 0.18 * pores + 0.025 * noise(rng, size, 0.2, 0.012)
    return _whole(value[..., None] * np.array([1.0, 0.74, 0.48]) + 0.04)
