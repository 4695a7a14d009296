"""One picture of one product, with and without its defect."""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from anomaly_sweep.datasets.synthetic.blemishes import BLEMISHES
from anomaly_sweep.datasets.synthetic.camera import develop, expose, shot
from anomaly_sweep.datasets.synthetic.catalogue import Product
from anomaly_sweep.datasets.synthetic.faults import Fault

# Differences below this (of 1) drown in the sensor noise; they are taken back and not marked.
_VISIBLE = 3.0 / 255.0
_MIN_PIXELS = 4
_ATTEMPTS = 20


@dataclass(frozen=True, slots=True)
class Pair:
    """A picture without and with its defect; equal wherever the mask is not set.

    Parameters
    ----------
    clean, defective
        Shape ``(size, size, 3)``, uint8.
    mask
        Shape ``(size, size)``.
    """

    clean: NDArray[np.uint8]
    defective: NDArray[np.uint8]
    mask: NDArray[np.bool_]


def render_good(product: Product, size: int, key: tuple[int, ...]) -> NDArray[np.uint8]:
    """A defect-free picture, shape ``(size, size, 3)``, drawn from the random streams of ``key``."""
    conditions = shot(size, _stream(key, "camera"))
    drawing = product.draw(size, _stream(key, "scene"), None)
    return develop(expose(drawing.rgb, conditions), conditions)


def render_defective(product: Product, defect: str, size: int, key: tuple[int, ...]) -> Pair:
    """A picture with a defect, the same without, and the mask of where they differ."""
    conditions = shot(size, _stream(key, "camera"))
    drawing = product.draw(size, _stream(key, "scene"), None)
    clean = expose(drawing.rgb, conditions)
    rng = _stream(key, "defect")
    low, high = product.defects[defect]
    for _ in range(_ATTEMPTS):
        severity = float(rng.uniform(low, high))
        if defect in BLEMISHES:
            rgb = BLEMISHES[defect](drawing, severity, rng)
        else:
            rgb = product.draw(size, _stream(key, "scene"), Fault(defect, severity, rng)).rgb
        wrong = expose(rgb, conditions)
        differs = np.abs(wrong - clean).max(axis=-1) > _VISIBLE
        # A defect is one patch: close the pixels inside it that happen to agree.
        mask = differs | ndimage.binary_closing(differs, iterations=2)
        if np.count_nonzero(differs) >= _MIN_PIXELS:
            break
    else:
        raise RuntimeError(f"{defect} on {product.name} is invisible at {size} pixels (streams {key})")
    return Pair(
        clean=develop(clean, conditions),
        defective=develop(np.where(mask[..., None], wrong, clean), conditions),
        mask=mask,
    )


def _stream(key: tuple[int, ...], part: str) -> np.random.Generator:
    """A stream of its own for each part of each picture: no picture depends on another."""
    return np.random.default_rng([*key, zlib.crc32(part.encode())])
