"""The fifteen products and what can be wrong with each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from anomaly_sweep.datasets.synthetic import assemblies, objects, textures
from anomaly_sweep.datasets.synthetic.canvas import Drawing
from anomaly_sweep.datasets.synthetic.faults import Fault

Draw = Callable[[int, np.random.Generator, Fault | None], Drawing]


@dataclass(frozen=True, slots=True)
class Product:
    """One category of the synthetic data set.

    Parameters
    ----------
    name
        Category name; none is MVTec AD's, so results cannot be confused.
    draw
        Draws a picture from a random stream, with a defect of shape if one is given.
    defects
        Defect type -> range of its severity within 0 .. 1. Types that are not in `BLEMISHES` are
        defects of shape.
    """

    name: str
    draw: Draw
    defects: dict[str, tuple[float, float]]


def _texture(draw: Callable[[int, np.random.Generator], Drawing]) -> Draw:
    return lambda size, rng, _fault: draw(size, rng)


# The order is part of the random streams: append, never reorder.
PRODUCTS: tuple[Product, ...] = (
    Product(
        "linen", _texture(textures.linen), {"cut": (0.2, 0.8), "thread": (0.4, 1.0), "stain": (0.2, 0.9)}
    ),
    Product(
        "terrazzo",
        _texture(textures.terrazzo),
        {"crack": (0.5, 1.0), "stain": (0.5, 1.0), "hole": (0.4, 1.0)},
    ),
    Product(
        "marble",
        _texture(textures.marble),
        {"crack": (0.4, 1.0), "scratch": (0.4, 1.0), "contamination": (0.2, 0.9)},
    ),
    Product(
        "corduroy",
        _texture(textures.corduroy),
        {"distortion": (0.2, 0.9), "cut": (0.1, 0.7), "contamination": (0.0, 0.6)},
    ),
    Product(
        "veneer",
        _texture(textures.veneer),
        {"scratch": (0.4, 1.0), "hole": (0.2, 0.8), "discolour": (0.2, 0.9)},
    ),
    Product("washer", objects.washer, {"chipped": (0.0, 0.8), "scratch": (0.1, 0.9), "stain": (0.1, 0.9)}),
    Product(
        "gear", objects.gear, {"missing_tooth": (0.5, 1.0), "off_centre": (0.1, 1.0), "stain": (0.2, 0.9)}
    ),
    Product(
        "softgel", objects.softgel, {"dented": (0.1, 0.9), "seam_shifted": (0.3, 1.0), "crack": (0.1, 0.8)}
    ),
    Product(
        "bracket",
        objects.bracket,
        {"missing_hole": (0.0, 1.0), "bent_arm": (0.4, 1.0), "scratch": (0.3, 1.0)},
    ),
    Product("o_ring", objects.o_ring, {"gap": (0.0, 0.7), "bulge": (0.1, 0.9), "thread": (0.0, 0.7)}),
    Product(
        "chip", assemblies.chip, {"missing_leg": (0.4, 1.0), "misprint": (0.2, 1.0), "scratch": (0.2, 0.9)}
    ),
    Product(
        "bolt_head",
        objects.bolt_head,
        {"rounded": (0.0, 0.8), "stripped": (0.1, 0.9), "discolour": (0.0, 0.6)},
    ),
    Product(
        "drilled_plate",
        assemblies.drilled_plate,
        {"missing_hole": (0.0, 1.0), "off_centre": (0.4, 1.0), "scratch": (0.2, 0.9)},
    ),
    Product(
        "star_knob",
        assemblies.star_knob,
        {"broken_lobe": (0.2, 1.0), "crack": (0.3, 1.0), "stain": (0.4, 1.0)},
    ),
    Product(
        "connector",
        assemblies.connector,
        {"missing_pin": (0.0, 1.0), "bent_pin": (0.5, 1.0), "contamination": (0.3, 1.0)},
    ),
)
