"""A plan in words and figures, before anything is computed."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

from anomaly_sweep import terminal
from anomaly_sweep.config import RuntimeConf
from anomaly_sweep.features.backbone.cost import network_cost
from anomaly_sweep.features.backbone.device import on_cuda
from anomaly_sweep.features.cache.store import FeatureCache, cache_at
from anomaly_sweep.sweep.plan.forecast import Forecast, key_of, make_forecast, network_key
from anomaly_sweep.sweep.plan.planner import Plan
from anomaly_sweep.sweep.run.local import PROCESS_BYTES, processes
from anomaly_sweep.tasks.base import ShardWork, reason_of


def describe_work(plan: Plan, works: Sequence[ShardWork], runtime: RuntimeConf) -> str:
    """:func:`describe` with the forecast of planned work, without making a network.

    Parameters
    ----------
    works : sequence of ShardWork
        What is left to do.
    """
    with terminal.busy("counting operations"):
        impossible = _impossible(works, cache_at(runtime.cache_dir))
        left = [work.only(set(work.trials) - impossible.keys()) for work in works]
        left = [work for work in left if work.trials]
        forecast = forecast_of(left, runtime, processes(left, runtime, measure=False))
    return describe(plan, left, forecast, impossible)


def describe(
    plan: Plan, works: Sequence[ShardWork], forecast: Forecast, impossible: Mapping[str, str] | None = None
) -> str:
    """What a plan would compute, what is there already, and roughly what it costs.

    Parameters
    ----------
    works : sequence of ShardWork
        What is left to do.
    forecast : Forecast
        Of that.
    impossible : mapping of str to str
        Trials that are neither there nor to be done -> why, beside the plan's own.
    """
    impossible = {trial_id: result.reason for trial_id, result in plan.failed.items()} | dict(
        impossible or {}
    )
    planned = len(plan.fingerprints)
    trials = [(work, trial) for work in works for trial in work.trials.values()]
    spectra = {(id(work), trial.spectrum) for work, trial in trials if trial.spectrum is not None}
    kinds = Counter(kind for shard in forecast.shards.values() for kind, _ in shard.trials.values())
    by_kind = ", ".join(f"{count} {kind}" for kind, count in kinds.items())
    lines = [
        f"configurations      {len(plan.configurations)}",
        f"trials              {planned} distinct of "
        f"{sum(len(cell) for cell in plan.cells)} (configuration x category)",
        f"  known             {planned - len(impossible) - len(trials)}",
        f"  impossible        {len(impossible)}",
        f"  to compute        {len(trials)}{by_kind and f': {by_kind}'}",
        f"shards              {len(works)} to work through of {len(plan.works)}",
        f"spectra             {len(spectra)}",
    ]
    for key, same in _by_network([work for work in works if work.levels()]).items():
        making = [shard for shard in (forecast.shards[key_of(work)] for work in same) if shard.images]
        shard = same[0].shard
        line = f"features            {shard.backbone.name} at {shard.side} px: "
        line += f"{len(same) - len(making)} shards cached"
        if making:
            network = forecast.networks[key]
            flops = max(network.flops.get(level, 0.0) for work in same for level in work.levels())
            images = sum(one.images for one in making)
            line += f", {len(making)} to make ({images} images, {flops / 1e9:.1f} GFLOP each)"
        lines.append(line)
    workers = f"{forecast.workers} process{'' if forecast.workers == 1 else 'es'}"
    lines.append(f"expected time       about {_duration(forecast.seconds)} on {workers}")
    cost = forecast.by_kind()
    whole = math.fsum(cost.values())
    lines += [f"  {kind:17} {100 * seconds / whole:.0f} % of it" for kind, seconds in cost.items()]
    lines.append(f"expected memory     about {forecast.memory_bytes / 1e9:.1f} GB")
    lines += [f"! {reason}" for reason in dict.fromkeys(impossible.values())]
    return "\n".join(lines)


def forecast_of(works: Sequence[ShardWork], runtime: RuntimeConf, workers: int) -> Forecast:
    """The forecast of planned work as this machine and these settings run it."""
    return make_forecast(
        works,
        runtime,
        cache_at(runtime.cache_dir),
        workers=workers,
        on_gpu=on_cuda(runtime.device),
        process_bytes=PROCESS_BYTES,
    )


def _duration(seconds: float) -> str:
    if seconds < 99.5:
        return f"{max(1.0, seconds):.0f} s"
    minutes = seconds / 60
    return f"{minutes:.0f} min" if minutes < 99.5 else f"{minutes / 60:.0f} h"


def _impossible(works: Sequence[ShardWork], cache: FeatureCache) -> dict[str, str]:
    """Why trials are impossible with networks that would have to be made, by fingerprint."""
    found: dict[str, str] = {}
    for same in _by_network(works).values():
        missing = [work for work in same if work.needs_network(cache)]
        if not missing:
            continue
        backbone, side = missing[0].shard.backbone, missing[0].shard.side
        try:
            unusable = dict(network_cost(backbone, side).unusable)
        except Exception as error:  # whatever making a network raises: its trials' failure
            reason = reason_of(error, f"backbone {backbone.name}")
            unusable = dict.fromkeys(backbone.levels, reason)
        for work in missing:
            for trial_id, trial in work.trials.items():
                for level in trial.levels:
                    if level in unusable:
                        found[trial_id] = unusable[level]
    return found


def _by_network(works: Sequence[ShardWork]) -> dict[str, list[ShardWork]]:
    groups: dict[str, list[ShardWork]] = defaultdict(list)
    for work in works:
        groups[network_key(work)].append(work)
    return groups
