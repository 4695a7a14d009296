"""Defects of shape: what an object's drawing needs to draw itself wrong."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from anomaly_sweep.datasets.synthetic.canvas import Array, Frame, disc


@dataclass(frozen=True, slots=True)
class Fault:
    """One defect of shape.

    Parameters
    ----------
    kind
        Which one; the object's drawing knows its own.
    severity
        0 (hardly visible) .. 1 (plain).
    rng
        The defect's own random stream.
    """

    kind: str
    severity: float
    rng: np.random.Generator


def pick(fault: Fault, count: int) -> int:
    """One of ``count`` parts."""
    return int(fault.rng.integers(count))


def angle_of(fault: Fault) -> float:
    """Where around the object."""
    return float(fault.rng.uniform(-math.pi, math.pi))


def slip(fault: Fault | None, kind: str, least: float, most: float) -> tuple[float, float]:
    """How far a part is displaced: nowhere unless the fault is of this kind."""
    if fault is None or fault.kind != kind:
        return 0.0, 0.0
    length, angle = least + fault.severity * (most - least), angle_of(fault)
    # Along x at least 60 % of it: some parts can move sideways only.
    return length * math.copysign(max(abs(math.cos(angle)), 0.6), math.cos(angle)), length * math.sin(angle)


def bite(f: Frame, distance: Array, fault: Fault, angle: float, radius: float) -> Array:
    """The shape with a ragged piece broken out of it at ``radius``."""
    x, y = f.x - radius * math.cos(angle), f.y - radius * math.sin(angle)
    phase = fault.rng.uniform(0.0, 2.0 * math.pi, 2)
    turn = np.arctan2(y, x)
    ragged = 1.0 + 0.2 * np.sin(3.0 * turn + phase[0]) + 0.1 * np.sin(7.0 * turn + phase[1])
    hollow = disc(x, y, 0.06 + 0.12 * fault.severity) + 0.1 * (ragged - 1.0)
    return np.asarray(np.maximum(distance, -hollow))
