"""The objects made of one piece. Each draws one product; a fault changes its shape and nothing else.

``rng`` is the normal picture's stream: every draw from it happens with or without the fault, so both
pictures agree wherever the fault is not. The fault's own choices come from ``fault.rng``.
"""

from __future__ import annotations

import math

import numpy as np

from anomaly_sweep.datasets.synthetic.canvas import Drawing, blend, box, cover, disc, flat, noise, polygon
from anomaly_sweep.datasets.synthetic.faults import Fault, angle_of, bite, pick, slip
from anomaly_sweep.datasets.synthetic.materials import ground, metal, place, plastic, pose


def washer(size: int, rng: np.random.Generator, fault: Fault | None) -> Drawing:
    """A steel washer in any orientation. Fault: ``chipped`` edge."""
    f = pose(size, rng, math.pi)
    body = disc(f.x, f.y, 0.72)
    if fault and fault.kind == "chipped":
        body = bite(f, body, fault, angle_of(fault), 0.74)
    distance = np.maximum(body, -disc(f.x, f.y, 0.33))
    return place(
        ground(size, rng, (0.23, 0.25, 0.29)), f, distance, metal(f, rng, distance, (1.0, 1.0, 1.03))
    )


def gear(size: int, rng: np.random.Generator, fault: Fault | None) -> Drawing:
    """A brass gear of 14 teeth. Faults: ``missing_tooth``, ``off_centre`` bore."""
    f = pose(size, rng, 0.25)
    teeth = 14
    angle = np.arctan2(f.y, f.x)
    wave = np.tanh(3.0 * np.cos(teeth * angle))
    if fault and fault.kind == "missing_tooth":
        middle = 2.0 * math.pi * pick(fault, teeth) / teeth
        here = np.abs(np.mod(angle - middle + math.pi, 2.0 * math.pi) - math.pi) < math.pi / teeth
        wave = np.where(here, wave - fault.severity * (wave + 1.0), wave)
    dx, dy = slip(fault, "off_centre", 0.03, 0.11)
    distance = np.maximum(np.hypot(f.x, f.y) - 0.68 - 0.07 * wave, -disc(f.x - dx, f.y - dy, 0.2))
    paint = metal(f, rng, distance, (1.08, 0.88, 0.52))
    ring = cover(np.abs(disc(f.x, f.y, 0.46)) - 0.025, f.px)
    return place(ground(size, rng, (0.80, 0.80, 0.78)), f, distance, paint * (1.0 - 0.25 * ring[..., None]))


def softgel(size: int, rng: np.random.Generator, fault: Fault | None) -> Drawing:
    """A two-coloured capsule. Faults: ``dented``, ``seam_shifted``."""
    f = pose(size, rng, 0.12)
    distance = box(f.x, f.y, 0.74, 0.33, 0.33)
    if fault and fault.kind == "dented":
        side = 1.0 if pick(fault, 2) else -1.0
        depth, centre = 0.02 + 0.07 * fault.severity, float(fault.rng.uniform(-0.45, 0.45))
        distance = distance + depth * np.exp(-(((f.x - centre) / 0.14) ** 2)) * (side * f.y > 0)
    seam = slip(fault, "seam_shifted", 0.04, 0.15)[0]
    left = cover(f.x - seam, 2.0 * f.px)
    colour = blend(flat(size, (0.93, 0.90, 0.80)), left, (0.72, 0.30, 0.22))
    value = 1.0 + 0.03 * noise(rng, size, 0.25) - 0.55 * (f.y / 0.33) ** 2 * 0.5
    gloss = np.exp(-(((f.y + 0.13) / 0.05) ** 2)) * cover(np.abs(f.x) - 0.5, 0.15)
    lip = cover(np.abs(f.x - seam - 0.03) - 0.008, f.px)
    paint = colour * value[..., None] * (1.0 - 0.2 * lip[..., None]) + 0.35 * gloss[..., None]
    return place(ground(size, rng, (0.55, 0.60, 0.66)), f, distance, paint)


def bracket(size: int, rng: np.random.Generator, fault: Fault | None) -> Drawing:
    """A cross-shaped bracket with a hole in each arm. Faults: ``missing_hole``, ``bent_arm``."""
    f = pose(size, rng, 0.2)
    which = pick(fault, 4) if fault else -1
    bent = fault.severity if fault and fault.kind == "bent_arm" else 0.0
    distance = np.full(f.x.shape, np.inf)
    holes = np.full(f.x.shape, np.inf)
    for arm, (ux, uy) in enumerate(((1, 0), (0, 1), (-1, 0), (0, -1))):
        along, across = f.x * ux + f.y * uy, f.y * ux - f.x * uy
        if arm == which and bent:
            across = across - (0.1 + 0.25 * bent) * np.clip(along - 0.2, 0.0, None) ** 1.5
        distance = np.minimum(distance, box(along - 0.37, across, 0.42, 0.17, 0.06))
        if not (fault and fault.kind == "missing_hole" and arm == which):
            holes = np.minimum(holes, disc(along - 0.6, across, 0.075))
    distance = np.maximum(distance, -holes)
    return place(
        ground(size, rng, (0.86, 0.84, 0.80)),
        f,
        distance,
        plastic(f, rng, distance, (0.20, 0.36, 0.62), 0.06),
    )


def o_ring(size: int, rng: np.random.Generator, fault: Fault | None) -> Drawing:
    """A black rubber ring. Faults: ``gap``, ``bulge``."""
    f = pose(size, rng, math.pi)
    radius, angle = np.hypot(f.x, f.y), np.arctan2(f.y, f.x)
    oval = 0.02 * np.cos(2.0 * angle)
    tube = np.full(f.x.shape, 0.12)
    if fault and fault.kind == "bulge":
        gap = np.mod(angle - angle_of(fault) + math.pi, 2.0 * math.pi) - math.pi
        tube = tube + (0.015 + 0.05 * fault.severity) * np.exp(-((gap / 0.2) ** 2))
    distance = np.abs(radius - 0.6 - oval) - tube
    if fault and fault.kind == "gap":
        distance = bite(f, distance, fault, angle_of(fault), 0.72)
    paint = plastic(f, rng, distance, (0.15, 0.15, 0.16), 0.12)
    return place(ground(size, rng, (0.78, 0.80, 0.80)), f, distance, paint)


def bolt_head(size: int, rng: np.random.Generator, fault: Fault | None) -> Drawing:
    """A bolt seen from above, in any orientation. Faults: ``rounded`` corner, ``stripped`` socket."""
    f = pose(size, rng, math.pi)
    distance = polygon(f.x, f.y, 6, 0.66)
    if fault and fault.kind == "rounded":
        distance = bite(f, distance, fault, math.pi / 6 + pick(fault, 6) * math.pi / 3, 0.80)
    socket = polygon(f.x, f.y, 6, 0.26)
    if fault and fault.kind == "stripped":
        socket = np.minimum(socket, disc(f.x, f.y, 0.28 + 0.05 * fault.severity))
    paint = metal(f, rng, distance, (0.92, 0.95, 1.0))
    chamfer = cover(np.abs(disc(f.x, f.y, 0.6)) - 0.012, f.px)
    paint = paint * (1.0 - 0.2 * chamfer[..., None])
    paint = blend(paint, cover(socket, f.px), (0.10, 0.10, 0.12))
    return place(ground(size, rng, (0.62, 0.52, 0.42)), f, distance, paint)
