"""How long localization takes, measured so that figures can be compared (docs/timing.md).

Warm-up runs first; the device is waited for before each look at the clock; every repeat goes through the
same images in batches of a stated size; backbone, scoring and map are timed apart; the localizer is fitted;
what is given is the median over the repeats with the quartiles, per image.
"""

from __future__ import annotations

import resource
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from anomaly_sweep.features.extract import normalised
from anomaly_sweep.features.maps import read_maps, synchronise
from anomaly_sweep.localization.base import Localizer, Maps
from anomaly_sweep.localization.render import render

if TYPE_CHECKING:
    from anomaly_sweep.features.backbone.network import Network

WARM_UP = 2
REPEATS = 9


@dataclass(frozen=True)
class Timing:
    """Seconds per image of one part.

    Attributes
    ----------
    part : str
        ``backbone`` (normalised images to feature maps), ``score`` (feature maps to a grid of scores,
        neighbourhoods and resizing between levels included) or ``map`` (upsampling and smoothing).
    batch : int
        Images in a call.
    seconds : tuple of float
        Of each repeat, divided by its images.
    """

    part: str
    batch: int
    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        """Seconds per image."""
        return statistics.median(self.seconds)

    @property
    def quartiles(self) -> tuple[float, float]:
        """The lower and the upper one, seconds per image."""
        low, _, high = statistics.quantiles(self.seconds, n=4, method="inclusive")
        return low, high


def measure(
    action: Callable[[], object],
    device: torch.device,
    *,
    warm_up: int = WARM_UP,
    repeats: int = REPEATS,
) -> list[float]:
    """Seconds of each repeat of an action; the device has finished when the clock is read."""
    for _ in range(warm_up):
        action()
    seconds = []
    for _ in range(repeats):
        synchronise(device)
        begun = time.perf_counter()
        action()
        synchronise(device)
        seconds.append(time.perf_counter() - begun)
    return seconds


def time_localizer(
    localizer: Localizer, maps: Maps, side: int, sigma: float, batch: int, **how: int
) -> list[Timing]:
    """The ``score`` and ``map`` parts of a fitted localizer.

    Parameters
    ----------
    maps : dict
        Level -> feature maps (n, c, h, w) of the images to score, float32 on the device.
    side : int
        Side of the anomaly maps, pixels.
    sigma : float
        Smoothing, pixels.
    batch : int
        Images in a call.
    **how
        ``warm_up`` and ``repeats`` of :func:`measure`.
    """
    first = next(iter(maps.values()))
    cut = [{level: maps[level][part] for level in localizer.levels} for part in _parts(len(first), batch)]
    grids: list[Tensor] = []

    def score() -> None:
        grids[:] = [localizer.score(part).grid for part in cut]

    def draw() -> None:
        for grid in grids:
            render(grid, side, sigma)

    return [
        Timing(name, batch, tuple(s / len(first) for s in measure(action, first.device, **how)))
        for name, action in (("score", score), ("map", draw))
    ]


def time_backbone(
    network: Network, images: Sequence[Any], levels: Sequence[str], batch: int, **how: int
) -> Timing:
    """The ``backbone`` part: uint8 images (h, w, 3), in memory, to the feature maps of some levels."""

    def run() -> None:
        for part in _parts(len(images), batch):
            read_maps(network, normalised(network, images[part]), levels)

    seconds = measure(run, network.device, **how)
    return Timing("backbone", batch, tuple(s / len(images) for s in seconds))


def peak_bytes(device: torch.device) -> int:
    """The most memory used so far: the device's for CUDA, else this process's (it never falls)."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _parts(n: int, batch: int) -> Iterator[slice]:
    return (slice(start, min(start + batch, n)) for start in range(0, n, batch))
