"""A plan in words and figures, before anything is computed."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from anomaly_sweep.config import RANDOM, BackboneConf, RuntimeConf
from anomaly_sweep.estimators.create import build
from anomaly_sweep.features.cache.store import FeatureCache
from anomaly_sweep.features.shard import cache_at
from anomaly_sweep.fingerprint import fingerprint
from anomaly_sweep.sweep.plan.planner import Plan, ShardWork
from anomaly_sweep.sweep.run.executor import PROCESS_BYTES, on_cuda, worker_count
from anomaly_sweep.tasks.base import LocalizationTrial, Trial, reason_of

# Rates of one core of an ordinary CPU; a GPU is faster by one or two orders of magnitude. They make a rough
# forecast, nothing else.
_CORE_FLOPS = 50e9
_GPU_FLOPS = 10e12
_CLOSED_FORM_SECONDS = 5e-4
_FLOW_STEP_SECONDS = 3e-4


@dataclass(frozen=True)
class Forecast:
    """What one forward pass costs: floating point operations per image, and bytes a process holds."""

    flops: float
    parameter_bytes: float
    map_bytes: float  # of the largest map, per image
    unusable: dict[str, str] = field(default_factory=dict)  # levels that cannot be had -> why


def describe(plan: Plan, works: Sequence[ShardWork], runtime: RuntimeConf) -> str:
    """What a plan would compute, what is there already, and roughly what it costs.

    Parameters
    ----------
    works : sequence of ShardWork
        What is left to do.
    """
    cache = cache_at(runtime.cache_dir)
    forecasts, failed = _forecasts(works, cache)
    reasons = [result.reason for result in plan.failed.values()] + list(failed.values())
    planned = len(plan.fingerprints)
    known = planned - len(plan.failed) - sum(len(work.trials) for work in works)
    works = [work.only(set(work.trials) - failed.keys()) for work in works]
    works = [work for work in works if work.trials]
    trials = [(work, trial) for work in works for trial in work.trials.values()]
    vectors = [(work, trial) for work, trial in trials if isinstance(trial, Trial)]
    places = [(work, trial) for work, trial in trials if isinstance(trial, LocalizationTrial)]
    spectra = {(id(work), trial.levels, trial.pools) for work, trial in vectors}
    flows = [(work, trial) for work, trial in vectors if trial.is_flow]
    lines = [
        f"configurations      {len(plan.configurations)}",
        f"trials              {planned} distinct of "
        f"{sum(len(cell) for cell in plan.cells)} (configuration x category)",
        f"  known             {known}",
        f"  impossible        {len(plan.failed) + len(failed)}",
        f"  to compute        {len(trials)}, {len(flows)} of them flows, {len(places)} localizers",
        f"shards              {len(works)} to work through of {len(plan.works)}",
        f"spectra             {len(spectra)}",
    ]
    seconds = _CLOSED_FORM_SECONDS * (len(vectors) - len(flows))
    seconds += sum(_flow_seconds(trial, work) for work, trial in flows)
    workers = min(worker_count(runtime), max(1, len(works)))
    on_gpu = on_cuda(runtime)
    memory = PROCESS_BYTES
    for key, same in _by_network(works).items():
        missing = [work for work in same if work.needs_network(cache)]
        shard = same[0].shard
        images = sum(work.shard.n_train + len(work.shard.category.test) for work in missing)
        line = (
            f"features            {shard.backbone.name} at {shard.side} px: {len(same) - len(missing)} shards"
        )
        line += " cached"
        if missing:
            cost = forecasts[key]
            seconds += images * cost.flops / (_GPU_FLOPS if on_gpu else _CORE_FLOPS)
            memory = max(
                memory, PROCESS_BYTES + cost.parameter_bytes + 4 * runtime.batch_size * cost.map_bytes
            )
            line += f", {len(missing)} to make ({images} images, {cost.flops / 1e9:.1f} GFLOP each)"
        lines.append(line)
    minutes = seconds / workers / 60
    lines += [
        f"expected time       about {minutes:.0f} min on {workers} processes"
        if minutes >= 1
        else f"expected time       about {seconds / workers:.0f} s on {workers} processes",
        f"expected memory     about {workers * memory / 1e9:.1f} GB",
    ]
    lines += [f"! {reason}" for reason in dict.fromkeys(reasons)]
    return "\n".join(lines)


def _forecasts(works: Sequence[ShardWork], cache: FeatureCache) -> tuple[dict[str, Forecast], dict[str, str]]:
    """The forecast of each network that is needed, and why trials are impossible with it, by fingerprint."""
    forecasts: dict[str, Forecast] = {}
    failed: dict[str, str] = {}
    for key, same in _by_network(works).items():
        missing = [work for work in same if work.needs_network(cache)]
        if not missing:
            continue
        shard = same[0].shard
        levels = list(dict.fromkeys(level for work in missing for level in work.levels()))
        try:
            forecasts[key] = forecast(shard.backbone, shard.side, levels)
            unusable = forecasts[key].unusable
        except Exception as error:  # whatever making a network raises: its trials' failure
            unusable = dict.fromkeys(levels, reason_of(error, f"backbone {shard.backbone.name}"))
        for work in missing:
            for print_, trial in work.trials.items():
                for level in trial.levels:
                    if level in unusable:
                        failed[print_] = unusable[level]
    return forecasts, failed


def forecast(backbone: BackboneConf, side: int, levels: Sequence[str]) -> Forecast:
    """Cost of one image through a backbone as far as some levels, counted without computing it.

    Raises
    ------
    ConfigError
        If there is no such network.
    """
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from anomaly_sweep.features.backbone.create import create
    from anomaly_sweep.features.levels import check_nodes, look, read_levels

    meta = torch.device("meta")
    with meta, torch.inference_mode():
        model, _ = create(replace(backbone, weights=RANDOM))
        model.eval()
        check_nodes(model, backbone)
        looked = look(model, backbone, levels, side, meta)
        unusable = {level: found for level, found in looked.items() if isinstance(found, str)}
        largest = [0]

        def seen(_module: torch.nn.Module, _inputs: object, output: object) -> None:
            if isinstance(output, torch.Tensor):
                largest[0] = max(largest[0], output.numel())

        for module in model.modules():
            module.register_forward_hook(seen)
        with FlopCounterMode(display=False) as counter:
            usable = [level for level in levels if level not in unusable]
            if usable:
                image = torch.empty(1, 3, side, side)
                read_levels(model, backbone, image, usable, lambda _level, _maps: None)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    return Forecast(float(counter.get_total_flops()), 4.0 * parameters, 4.0 * largest[0], unusable)


def _flow_seconds(trial: Trial, work: ShardWork) -> float:
    settings = build(trial.estimator, seed=0).settings  # type: ignore[attr-defined]
    return float(settings.steps) * _FLOW_STEP_SECONDS * max(1.0, work.shard.n_train / 100)


def _by_network(works: Sequence[ShardWork]) -> dict[str, list[ShardWork]]:
    groups: dict[str, list[ShardWork]] = defaultdict(list)
    for work in works:
        groups[fingerprint(work.shard.backbone, work.shard.side)].append(work)
    return groups
