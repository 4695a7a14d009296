"""A plan in words and figures, before anything is computed."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from anomaly_sweep.config import BackboneConf, RuntimeConf
from anomaly_sweep.estimators.create import build
from anomaly_sweep.features.shard import cache_at
from anomaly_sweep.fingerprint import fingerprint
from anomaly_sweep.sweep.plan.planner import Plan, ShardWork
from anomaly_sweep.sweep.run.executor import PROCESS_BYTES, on_cuda, worker_count
from anomaly_sweep.tasks.base import LocalizationTrial, Trial

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


def describe(plan: Plan, works: Sequence[ShardWork], runtime: RuntimeConf) -> str:
    """What a plan would compute, what is there already, and roughly what it costs.

    Parameters
    ----------
    works : sequence of ShardWork
        What is left to do.
    """
    cache = cache_at(runtime.cache_dir)
    trials = [(work, trial) for work in works for trial in work.trials.values()]
    vectors = [(work, trial) for work, trial in trials if isinstance(trial, Trial)]
    places = [(work, trial) for work, trial in trials if isinstance(trial, LocalizationTrial)]
    spectra = {(id(work), trial.levels, trial.pools) for work, trial in vectors}
    flows = [(work, trial) for work, trial in vectors if trial.is_flow]
    lines = [
        f"configurations      {len(plan.configurations)}",
        f"trials              {len(plan.fingerprints)} distinct of "
        f"{sum(len(cell) for cell in plan.cells)} (configuration x category)",
        f"  known             {len(plan.fingerprints) - len(trials) - len(plan.failed)}",
        f"  impossible        {len(plan.failed)}",
        f"  to compute        {len(trials)}, {len(flows)} of them flows, {len(places)} localizers",
        f"shards              {len(works)} to work through of {len(plan.works)}",
        f"spectra             {len(spectra)}",
    ]
    seconds = _CLOSED_FORM_SECONDS * (len(vectors) - len(flows))
    seconds += sum(_flow_seconds(trial, work) for work, trial in flows)
    workers = min(worker_count(runtime), max(1, len(works)))
    on_gpu = on_cuda(runtime)
    memory = PROCESS_BYTES
    for same in _by_network(works):
        missing = [work for work in same if work.needs_network(cache)]
        backbone, size = same[0].shard.backbone, same[0].shard.input_size
        images = sum(work.shard.n_train + len(work.shard.category.test) for work in missing)
        line = f"features            {backbone.name} at {size} px: {len(same) - len(missing)} shards cached"
        if missing:
            cost = forecast(backbone, size)
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
    lines += [f"! {reason}" for reason in dict.fromkeys(result.reason for result in plan.failed.values())]
    return "\n".join(lines)


def forecast(backbone: BackboneConf, size: int) -> Forecast:
    """Cost of one image through a backbone, counted without computing it."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from anomaly_sweep.features.backbone.torchvision_ops import ensure_torchvision_imports

    ensure_torchvision_imports()
    import timm

    with torch.device("meta"), torch.inference_mode():
        model = timm.create_model(backbone.model, pretrained=False, **backbone.kwargs).eval()
        largest = [0]

        def seen(_module: torch.nn.Module, _inputs: object, output: object) -> None:
            if isinstance(output, torch.Tensor):
                largest[0] = max(largest[0], output.numel())

        for module in model.modules():
            module.register_forward_hook(seen)
        with FlopCounterMode(display=False) as counter:
            getattr(model, "forward_features", model)(torch.empty(1, 3, size, size))
    parameters = sum(parameter.numel() for parameter in model.parameters())
    return Forecast(float(counter.get_total_flops()), 4.0 * parameters, 4.0 * largest[0])


def _flow_seconds(trial: Trial, work: ShardWork) -> float:
    settings = build(trial.estimator, seed=0).settings  # type: ignore[attr-defined]
    return float(settings.steps) * _FLOW_STEP_SECONDS * max(1.0, work.shard.n_train / 100)


def _by_network(works: Sequence[ShardWork]) -> list[list[ShardWork]]:
    groups: dict[str, list[ShardWork]] = defaultdict(list)
    for work in works:
        groups[fingerprint(work.shard.backbone, work.shard.input_size)].append(work)
    return list(groups.values())
