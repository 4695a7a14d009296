"""The objects made of parts: chip, plate, knob, connector. See `objects` for the rules of drawing."""

from __future__ import annotations

import numpy as np

from anomaly_sweep.datasets.synthetic.canvas import Drawing, blend, box, cover, disc
from anomaly_sweep.datasets.synthetic.faults import Fault, angle_of, bite, pick, slip
from anomaly_sweep.datasets.synthetic.materials import ground, metal, place, plastic, pose


def chip(size: int, rng: np.random.Generator, fault: Fault | None) -> Drawing:
    """A black package with five legs a side and a printed mark. Faults: ``missing_leg``, ``misprint``."""
    f = pose(size, rng, 0.05)
    body = box(f.x, f.y, 0.42, 0.66, 0.03)
    which = pick(fault, 10) if fault else -1
    legs = np.full(f.x.shape, np.inf)
    for leg in range(10):
        side, row = (1.0 if leg < 5 else -1.0), leg % 5
        length = 0.16
        if fault and fault.kind == "missing_leg" and leg == which:
            length *= 0.6 * (1.0 - fault.severity)
        distance = box(f.x - side * (0.42 + length / 2), f.y - 0.25 * (row - 2), length / 2, 0.045, 0.01)
        legs = np.minimum(legs, distance)
    surface = ground(size, rng, (0.16, 0.40, 0.28))
    with_legs = place(surface, f, legs, metal(f, rng, legs, (1.15, 1.15, 1.1)))
    drawing = place(with_legs.rgb, f, body, plastic(f, rng, body, (0.17, 0.17, 0.18), 0.05))
    mx, my = slip(fault, "misprint", 0.05, 0.16)
    ink = cover(disc(f.x + 0.28, f.y + 0.5, 0.05), f.px)
    for row, half in enumerate((0.24, 0.17, 0.21)):
        bars = np.maximum(
            box(f.x - mx, f.y - my - 0.16 * (row - 1), half, 0.04),
            0.03 - np.abs(np.mod(f.x - mx, 0.1) - 0.05),
        )
        ink = np.maximum(ink, cover(bars, f.px))
    rgb = blend(drawing.rgb, 0.8 * ink, (0.72, 0.72, 0.70))
    return Drawing(rgb, np.maximum(with_legs.alpha, drawing.alpha))


def drilled_plate(size: int, rng: np.random.Generator, fault: Fault | None) -> Drawing:
    """An aluminium plate with nine holes. Faults: ``missing_hole``, ``off_centre`` hole."""
    f = pose(size, rng, 0.12)
    body = box(f.x, f.y, 0.74, 0.60, 0.08)
    which = pick(fault, 9) if fault else -1
    dx, dy = slip(fault, "off_centre", 0.03, 0.12)
    for hole in range(9):
        cx, cy = 0.48 * (hole % 3 - 1), 0.38 * (hole // 3 - 1)
        if hole == which:
            if fault and fault.kind == "missing_hole":
                continue
            cx, cy = cx + dx, cy + dy
        body = np.maximum(body, -disc(f.x - cx, f.y - cy, 0.1))
    paint = metal(f, rng, body, (0.98, 1.0, 1.06))
    return place(ground(size, rng, (0.30, 0.24, 0.20)), f, body, paint)


def star_knob(size: int, rng: np.random.Generator, fault: Fault | None) -> Drawing:
    """A red six-lobed knob, in any orientation, with a metal insert. Fault: ``broken_lobe``."""
    f = pose(size, rng, np.pi)
    angle = np.arctan2(f.y, f.x)
    body = np.hypot(f.x, f.y) - 0.6 - 0.12 * np.cos(6.0 * angle)
    if fault and fault.kind == "broken_lobe":
        body = bite(f, body, fault, pick(fault, 6) * np.pi / 3, 0.76)
    drawing = place(
        ground(size, rng, (0.72, 0.74, 0.78)), f, body, plastic(f, rng, body, (0.68, 0.17, 0.15), 0.2)
    )
    insert = disc(f.x, f.y, 0.2)
    rgb = blend(drawing.rgb, cover(insert, f.px), metal(f, rng, insert, (1.0, 1.0, 1.0)))
    return Drawing(blend(rgb, cover(disc(f.x, f.y, 0.09), f.px), (0.1, 0.1, 0.1)), drawing.alpha)


def connector(size: int, rng: np.random.Generator, fault: Fault | None) -> Drawing:
    """A white housing with two rows of six golden pins. Faults: ``missing_pin``, ``bent_pin``."""
    f = pose(size, rng, 0.06)
    body = box(f.x, f.y, 0.80, 0.42, 0.07)
    drawing = place(
        ground(size, rng, (0.34, 0.36, 0.40)), f, body, plastic(f, rng, body, (0.84, 0.83, 0.78), 0.06)
    )
    rgb = blend(drawing.rgb, cover(box(f.x, f.y, 0.69, 0.31, 0.03), f.px), (0.46, 0.45, 0.43))
    which = pick(fault, 12) if fault else -1
    turn = angle_of(fault) if fault else 0.0
    for pin in range(12):
        cx, cy = 0.22 * (pin % 6 - 2.5), 0.28 * (pin // 6 - 0.5)
        rgb = blend(rgb, cover(box(f.x - cx, f.y - cy, 0.075, 0.085, 0.01), f.px), (0.22, 0.22, 0.22))
        if fault and pin == which:
            if fault.kind == "missing_pin":
                continue
            if fault.kind == "bent_pin":
                reach = 0.03 + 0.06 * fault.severity
                cx, cy = cx + reach * np.cos(turn), cy + reach * np.sin(turn)
        tip = box(f.x - cx, f.y - cy, 0.042, 0.048, 0.015)
        shine = 0.8 + 0.25 * np.clip((cy - f.y) / 0.05, -1.0, 1.0)
        rgb = blend(rgb, cover(tip, f.px), shine[..., None] * np.array([0.95, 0.78, 0.38]))
    return Drawing(rgb, drawing.alpha)
