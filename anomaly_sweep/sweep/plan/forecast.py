"""What planned work will cost: one forecast, for the plan in words and for the time left of a running sweep.

Costs are operations counted from sizes (images, dimensions, places), turned into seconds by the rates of one
core of an ordinary CPU, or of a GPU. They are rough; what a sweep measures of its own work corrects them
while it runs, kind by kind (see :mod:`anomaly_sweep.sweep.run.progress`).
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from anomaly_sweep.config import RANDOM, BackboneConf, PcaModeConf, RuntimeConf
from anomaly_sweep.estimators.create import build
from anomaly_sweep.features.cache.store import FeatureCache
from anomaly_sweep.fingerprint import fingerprint
from anomaly_sweep.sweep.plan.planner import ShardWork
from anomaly_sweep.tasks.base import LocalizationTrial, Trial
from anomaly_sweep.tasks.detection.shared_spectrum import is_shared

# Operations a second.
_CORE_FLOPS = 100e9
_GPU_FLOPS = 10e12
#: Bytes a second between memory and arithmetic: what networks of small (depthwise) products wait for.
_CORE_BYTES = 10e9
_GPU_BYTES = 500e9
#: Starting a process with torch in it.
_START_SECONDS = 4.0
#: Decoding and resizing an image, seconds a byte of its file.
_DECODE_SECONDS = 3e-8
#: What starting the operations of one trial takes, beside the operations.
_CLOSED_FORM_SECONDS = 5e-4
_OTHER_SECONDS = 5e-2
_FLOW_STEP_SECONDS = 1e-4
_FLOW_SHARE = 0.6
#: Ranking one test image's pixels, drawing and writing: seconds a pixel.
_PIXEL_SECONDS = 5e-7
#: Adam's work on a parameter, as rows of a step.
_ADAM_ROWS = 64

IMAGES, CLOSED_FORM, FLOW, OTHER, LOCALIZER = "images", "closed form", "flows", "other", "localizers"
KINDS = (IMAGES, CLOSED_FORM, FLOW, OTHER, LOCALIZER)


@dataclass(frozen=True)
class NetworkCost:
    """What one image costs in a network, and what it gives, level by level.

    Attributes
    ----------
    flops, moved : mapping of str to float
        Floating point operations, and bytes read and written, of a forward pass that ends after a level.
    shapes : mapping of str to (int, int, int)
        Channels, height and width of a level's maps.
    unusable : mapping of str to str
        Levels that cannot be had of such an image -> why.
    parameter_bytes, map_bytes : float
        Of all parameters; of the largest map.
    """

    flops: Mapping[str, float]
    moved: Mapping[str, float]
    shapes: Mapping[str, tuple[int, int, int]]
    unusable: Mapping[str, str] = field(default_factory=dict)
    parameter_bytes: float = 0.0
    map_bytes: float = 0.0


@dataclass(frozen=True)
class ShardForecast:
    """One shard's work.

    Attributes
    ----------
    images : int
        Passes of an image through the network that are left.
    image_kind : str
        Whose measured time tells of theirs.
    image_seconds : float
        Of one of them.
    trials : mapping
        Fingerprint -> (kind, seconds).
    """

    images: int
    image_kind: str
    image_seconds: float
    trials: Mapping[str, tuple[str, float]]

    @cached_property
    def seconds(self) -> float:
        """Of all of it, in one process."""
        return self.images * self.image_seconds + math.fsum(s for _, s in self.trials.values())


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
        """Seconds in one process, by kind."""
        seconds = dict.fromkeys(KINDS, 0.0)
        for shard in self.shards.values():
            seconds[IMAGES] += shard.images * shard.image_seconds
            for kind, one in shard.trials.values():
                seconds[kind] += one
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
    rates = _GPU if on_gpu else CORE
    batch = runtime.batch_size if on_gpu else CPU_BATCH
    for work in works:
        key = network_key(work)
        if key not in networks:
            networks[key] = _cost_of(work)
        shards[key_of(work)] = shard_forecast(work, networks[key], cache, rates)
        if shards[key_of(work)].images:
            cost = networks[key]
            held = cost.parameter_bytes + 4 * batch * cost.map_bytes
            memory = max(memory, process_bytes + held)
    return Forecast(shards, workers, workers * memory, networks)


def network_key(work: ShardWork) -> str:
    """What shards with one cost an image have in common."""
    return fingerprint(work.shard.backbone, work.shard.side)


@dataclass(frozen=True)
class Rates:
    """Of a processor: floating point operations, and bytes to and from memory, a second."""

    flops: float
    bytes: float


CORE, _GPU = Rates(_CORE_FLOPS, _CORE_BYTES), Rates(_GPU_FLOPS, _GPU_BYTES)


def shard_forecast(
    work: ShardWork, network: NetworkCost, cache: FeatureCache, rates: Rates = CORE
) -> ShardForecast:
    """The forecast of one shard.

    Parameters
    ----------
    network : NetworkCost
        Of its network at its input size.
    rates : Rates
        Of what the features are made on.
    """
    shard, rate = work.shard, rates.flops
    n_train, n_test = shard.n_train, len(shard.category.test)
    name = f"{IMAGES} {shard.backbone.name} {shard.side}"
    decode = _DECODE_SECONDS * _file_bytes(work)
    if work.localizations:
        each = decode + image_seconds(network, work.levels(), rates)
        trials = {
            trial.fingerprint: (LOCALIZER, _localizer_seconds(trial, network, work, rate))
            for trial in work.localizations
        }
        return ShardForecast(n_train + n_test, f"{name} maps", each, trials)
    missing = shard.missing(cache, work.levels())
    each = decode + image_seconds(network, missing, rates)
    return ShardForecast(
        n_train + n_test if missing else 0, name, each, _trials(work, network, n_train, n_test, rate)
    )


def _trials(
    work: ShardWork, network: NetworkCost, n_train: int, n_test: int, rate: float
) -> dict[str, tuple[str, float]]:
    groups: dict[tuple[tuple[str, ...], tuple[str, ...]], list[Trial]] = defaultdict(list)
    for trial in work.trials.values():
        if isinstance(trial, Trial):
            groups[trial.levels, trial.pools].append(trial)
    costs: dict[str, Callable[[int, int], float]] = {}
    found = {}
    for (levels, pools), trials in groups.items():
        d = len(pools) * sum(network.shapes[level][0] for level in levels if level in network.shapes)
        # One decomposition for all of them, then distances between the images in every direction.
        spectrum = 20.0 * n_train * d * min(n_train, d) / rate
        closed = _CLOSED_FORM_SECONDS + (spectrum + 2.0 * n_test * n_train * d / rate) / len(trials)
        for trial in trials:
            if trial.is_flow:
                estimator = fingerprint(trial.estimator)
                if estimator not in costs:
                    costs[estimator] = _flow_cost(trial.estimator, rate)
                kept = kept_components(trial.pca_mode, n_train, d)
                found[trial.fingerprint] = (FLOW, costs[estimator](n_train, kept))
            elif is_shared(trial):
                found[trial.fingerprint] = (CLOSED_FORM, closed)
            else:
                found[trial.fingerprint] = (OTHER, closed + _OTHER_SECONDS)
    return found


def kept_components(pca: PcaModeConf, n: int, d: int) -> int:
    """About how many components of n training vectors of d dimensions a reduction keeps; at least one."""
    if pca.mode == "none":
        return max(1, d)
    rank = max(1, min(d, n - 1))
    whole = d if pca.basis == "dims" else rank
    share = pca.rate if pca.basis != "variance" else pca.rate / (2 if pca.mode == "pca" else 1)
    return max(1, min(rank, round(share * whole)))


def flow_seconds(settings: Any, n: int, d: int, *, rate: float = _CORE_FLOPS) -> float:
    """Seconds of training a flow (``FlowSettings``) on n vectors of d dimensions, in a stack with others."""
    width = settings.width(d)
    layers = d / 2 * width + (settings.hidden_layers - 1) * width**2 + width * d
    parameters = settings.blocks * (2 if settings.coupling == "glow" else 1) * layers
    # Forward and twice that backward, two operations a parameter and row; small products are slower.
    step = 6 * parameters * (settings.rows(n) + _ADAM_ROWS) / (_FLOW_SHARE * rate)
    return float(settings.usual_steps * (_FLOW_STEP_SECONDS + step))


def _flow_cost(estimator: Mapping[str, Any], rate: float) -> Callable[[int, int], float]:
    flow = build(estimator, seed=0)
    settings, seeds = flow.settings, flow.seeds  # type: ignore[attr-defined]
    # Stacks of small products reach a small part of what a GPU can do.
    rate = min(rate, 10 * _CORE_FLOPS)
    return lambda n, d: seeds * flow_seconds(settings, n, d, rate=rate)


def _localizer_seconds(trial: LocalizationTrial, network: NetworkCost, work: ShardWork, rate: float) -> float:
    """Fitting, scoring and measuring a localizer of any kind, by what its kind computes at each place."""
    shard = work.shard
    n_train, n_test = shard.n_train, len(shard.category.test)
    shapes = [network.shapes[level] for level in trial.levels if level in network.shapes]
    if not shapes:
        return 1.0
    places = max(height * width for _, height, width in shapes)
    coarse = min(height * width for _, height, width in shapes)
    d = sum(channels for channels, _, _ in shapes)
    target = str(trial.localizer.get("_target_", "")).rpartition(".")[2]
    if target == "PatchCore":
        patches = n_train * places
        bank = max(1.0, float(trial.localizer.get("coreset", 0.01)) * patches)
        projected = trial.localizer.get("projection") or d
        operations = 2.0 * bank * patches * projected + 2.0 * n_test * places * bank * d
    elif target == "Padim":
        channels = trial.localizer.get("channels", 550)
        own = min(d, channels if isinstance(channels, int) else 550)
        operations = 2.0 * places * own**2 * (n_train + n_test) + places * own**3 / 3
    else:  # a regression between two levels, or what is like it
        operations = 2.0 * coarse * d**2 * (n_train + n_test) + d**3
    return operations / rate + _PIXEL_SECONDS * n_test * shard.side**2


def image_seconds(network: NetworkCost, levels: Sequence[str], rates: Rates = CORE) -> float:
    """Seconds of one image through a network as far as some levels."""
    flops = max((network.flops.get(level, 0.0) for level in levels), default=0.0)
    moved = max((network.moved.get(level, 0.0) for level in levels), default=0.0)
    return flops / rates.flops + moved / rates.bytes


def _file_bytes(work: ShardWork) -> int:
    """Of one image; its files are of one kind."""
    category = work.shard.category
    for record in (*category.train[:1], *category.test[:1]):
        try:
            return record.path.stat().st_size
        except OSError:  # told when it is read
            continue
    return 0


_NOMINAL_FLOPS, _NOMINAL_SHAPE = 2e9, (256, 14, 14)
_counted: dict[str, NetworkCost] = {}


def network_cost(backbone: BackboneConf, side: int) -> NetworkCost:
    """Count a network's operations on one square image, without computing anything.

    Raises
    ------
    ConfigError
        If there is no such network.
    """
    key = fingerprint(backbone, side)
    if key not in _counted:
        _counted[key] = _count(backbone, side)
    return _counted[key]


def _cost_of(work: ShardWork) -> NetworkCost:
    """A nominal cost where the network cannot be counted: whoever makes it tells what is wrong with it."""
    backbone = work.shard.backbone
    try:
        return network_cost(backbone, work.shard.side)
    except Exception:
        levels = backbone.levels
        flops, shapes = dict.fromkeys(levels, _NOMINAL_FLOPS), dict.fromkeys(levels, _NOMINAL_SHAPE)
        return NetworkCost(flops, {}, shapes)


def _count(backbone: BackboneConf, side: int) -> NetworkCost:
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from anomaly_sweep.features.backbone.create import create
    from anomaly_sweep.features.backbone.levels import check_nodes, look, read_levels

    flops: dict[str, float] = {}
    moved: dict[str, float] = {}
    written = 0
    meta = torch.device("meta")
    largest = 0
    with meta, torch.inference_mode():
        model, _ = create(replace(backbone, weights=RANDOM))
        model.eval()
        check_nodes(model, backbone)
        looked = look(model, backbone, list(backbone.levels), side, meta)
        shapes = {level: found for level, found in looked.items() if not isinstance(found, str)}
        unusable = {level: found for level, found in looked.items() if isinstance(found, str)}

        def seen(module: torch.nn.Module, _inputs: object, output: object) -> None:
            nonlocal largest, written
            if isinstance(output, torch.Tensor):
                largest = max(largest, output.numel())
                written += output.numel() if next(module.children(), None) is None else 0

        for module in model.modules():
            module.register_forward_hook(seen)
        with FlopCounterMode(display=False) as counter:

            def visit(level: str, _maps: torch.Tensor) -> None:
                flops[level] = float(counter.get_total_flops())
                moved[level] = 4.0 * 2 * written  # each value is written once and read once

            if shapes:
                read_levels(model, backbone, torch.empty(1, 3, side, side), list(shapes), visit)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    return NetworkCost(flops, moved, shapes, unusable, 4.0 * parameters, 4.0 * largest)
