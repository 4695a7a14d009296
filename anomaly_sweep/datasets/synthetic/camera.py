"""From a drawing to an 8-bit picture: light, lens and sensor, which vary more than defects do."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from anomaly_sweep.datasets.synthetic.canvas import Array, frame


@dataclass(frozen=True, slots=True)
class Shot:
    """The conditions of one photograph.

    Parameters
    ----------
    light
        Shape ``(size, size, 3)``: what the drawing is multiplied by.
    contrast
        Factor around mid grey.
    blur
        Deviation of the lens blur in pixels.
    grain
        Shape ``(size, size, 3)``: sensor noise, added last.
    """

    light: Array
    contrast: float
    blur: float
    grain: Array


def shot(size: int, rng: np.random.Generator) -> Shot:
    """Conditions drawn at random."""
    f = frame(size)
    angle = float(rng.uniform(0.0, 2.0 * math.pi))
    slope = float(rng.uniform(0.0, 0.10))
    gradient = 1.0 + slope * (math.cos(angle) * f.x + math.sin(angle) * f.y)
    brightness = float(np.clip(rng.normal(1.0, 0.06), 0.85, 1.15))
    hue = 1.0 + np.clip(rng.normal(0.0, 0.012, 3), -0.03, 0.03)
    contrast = float(np.clip(rng.normal(1.0, 0.05), 0.88, 1.12))
    blur = 0.5 * size / 128 * float(rng.uniform(0.9, 1.1))
    noise_level = float(rng.uniform(0.008, 0.014))
    grain = noise_level * rng.standard_normal((size, size, 3))
    return Shot(gradient[..., None] * brightness * hue, contrast, blur, grain)


def expose(rgb: Array, conditions: Shot) -> Array:
    """The picture on the sensor, before noise: shape ``(size, size, 3)``, 0 .. 1."""
    sharp = 0.5 + (rgb * conditions.light - 0.5) * conditions.contrast
    return np.asarray(
        np.clip(ndimage.gaussian_filter(sharp, (conditions.blur, conditions.blur, 0)), 0.0, 1.0)
    )


def develop(exposed: Array, conditions: Shot) -> NDArray[np.uint8]:
    """The 8-bit picture."""
    return np.rint(np.clip(exposed + conditions.grain, 0.0, 1.0) * 255.0).astype(np.uint8)
