"""What planned work will cost: one forecast, for the plan in words and for the time left of a running sweep.

Costs are operations counted from sizes (images, dimensions, places), turned into seconds by the rates of one
core of an ordinary CPU, or of a GPU. They are rough; what a sweep measures of its own work corrects them
while it runs, kind by kind (see :mod:`anomaly_sweep.sweep.run.progress`).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from anomaly_sweep.config import RuntimeConf
from anomaly_sweep.features.backbone.cost import NetworkCost, network_cost
from anomaly_sweep.features.cache.store import FeatureCache
from anomaly_sweep.fingerprint import fingerprint
from anomaly_sweep.tasks.base import ShardWork
from anomaly_sweep.tasks.forecast import CORE, GPU, IMAGES, ShardForecast

#: Starting a process with torch in it.
_START_SECONDS = 4.0
_NOMINAL_FLOPS, _NOMINAL_SHAPE = 2e9, (256, 14, 14)


@dataclass(frozen=True)
class Forecast:
    """All work: shards by :func:`key_of`, over so many processes."""

    shards: Mapping[str, ShardForecast]
    workers: int = 1
    memory_bytes: float = 0.0
    networks: Mapping[str, NetworkCost] = field(default_factory=dict)

    @property
    def start_seconds(self) -> float:
        """Before anything is done."""
        return _START_SECONDS if self.workers > 1 else 0.0

    @property
    def seconds(self) -> float:
        """From beginning to end."""
        return self.start_seconds + elapsed([shard.seconds for shard in self.shards.values()], self.workers)

    @property
    def images(self) -> int:
        """Passes of an image through a network."""
        return sum(shard.images for shard in self.shards.values())

    def by_kind(self) -> dict[str, float]:
        """Seconds in one process, by kind: images first, then kinds of trials."""
        seconds = {IMAGES: 0.0}
        for shard in self.shards.values():
            seconds[IMAGES] += shard.images * shard.image_seconds
            for kind, one in shard.trials.values():
                seconds[kind] = seconds.get(kind, 0.0) + one
        return {kind: value for kind, value in seconds.items() if value}


def elapsed(seconds: Iterable[float], workers: int) -> float:
    """How long pieces of work take over processes: none is split, so the longest is a bound."""
    pieces = list(seconds)
    return max(math.fsum(pieces) / max(1, workers), max(pieces, default=0.0))


def key_of(work: ShardWork) -> str:
    """A shard's name in a forecast."""
    return next(iter(work.trials))


def make_forecast(
    works: Sequence[ShardWork],
    runtime: RuntimeConf,
    cache: FeatureCache,
    *,
    workers: int,
    on_gpu: bool,
    process_bytes: float = 0.0,
) -> Forecast:
    """The forecast of planned work.

    Parameters
    ----------
    works : sequence of ShardWork
        What is left to do.
    workers : int
        Processes.
    on_gpu : bool
        Whether features are made and flows trained on a GPU.
    process_bytes : float
        What a process holds before it does anything.
    """
    from anomaly_sweep.features.backbone.network import CPU_BATCH

    networks: dict[str, NetworkCost] = {}
    shards = {}
    memory = process_bytes
    rates = GPU if on_gpu else CORE
    batch = runtime.batch_size if on_gpu else CPU_BATCH
    for work in works:
        key = network_key(work)
        if key not in networks:
            networks[key] = _cost_of(work)
        shards[key_of(work)] = work.forecast(networks[key], cache, rates)
        if shards[key_of(work)].images:
            cost = networks[key]
            held = cost.parameter_bytes + 4 * batch * cost.map_bytes
            memory = max(memory, process_bytes + held)
    return Forecast(shards, workers, workers * memory, networks)


def network_key(work: ShardWork) -> str:
    """What shards with one cost an image have in common."""
    return fingerprint(work.shard.backbone, work.shard.side)


def _cost_of(work: ShardWork) -> NetworkCost:
    """A nominal cost where the network cannot be counted: whoever makes it tells what is wrong with it."""
    if not work.levels():
        return NetworkCost({}, {}, {})
    backbone = work.shard.backbone
    try:
        return network_cost(backbone, work.shard.side)
    except Exception:
        levels = backbone.levels
        flops, shapes = dict.fromkeys(levels, _NOMINAL_FLOPS), dict.fromkeys(levels, _NOMINAL_SHAPE)
        return NetworkCost(flops, {}, shapes)
