"""What the detection trials of a shard will cost."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import Any

from anomaly_sweep.config import PcaModeConf
from anomaly_sweep.estimators.base import SPECTRUM, STACK
from anomaly_sweep.estimators.create import build
from anomaly_sweep.features.backbone.cost import NetworkCost
from anomaly_sweep.fingerprint import fingerprint
from anomaly_sweep.tasks.base import ShardWork
from anomaly_sweep.tasks.detection.trial import DetectionTrial, trials_of
from anomaly_sweep.tasks.forecast import CORE, Rates

#: Kinds of trials.
CLOSED_FORM, FLOW, OTHER = "closed form", "flows", "other"
#: What starting the operations of one trial takes, beside the operations.
_CLOSED_FORM_SECONDS = 5e-4
_OTHER_SECONDS = 5e-2
_FLOW_STEP_SECONDS = 1e-4
_FLOW_SHARE = 0.6
#: Adam's work on a parameter, as rows of a step.
_ADAM_ROWS = 64


def trial_costs(work: ShardWork, network: NetworkCost, rates: Rates = CORE) -> dict[str, tuple[str, float]]:
    """Fingerprint -> (kind, seconds), as :meth:`anomaly_sweep.tasks.base.Task.costs`."""
    n_train, n_test, rate = work.shard.n_train, len(work.shard.category.test), rates.flops
    groups: dict[tuple[tuple[str, ...], tuple[str, ...]], list[DetectionTrial]] = defaultdict(list)
    for trial in trials_of(work):
        groups[trial.levels, trial.pools].append(trial)
    costs: dict[str, Callable[[int, int], float]] = {}
    found = {}
    for (levels, pools), trials in groups.items():
        d = len(pools) * sum(network.shapes[level][0] for level in levels if level in network.shapes)
        # One decomposition for all of them, then distances between the images in every direction.
        spectrum = 20.0 * n_train * d * min(n_train, d) / rate
        closed = _CLOSED_FORM_SECONDS + (spectrum + 2.0 * n_test * n_train * d / rate) / len(trials)
        for trial in trials:
            if trial.capability == STACK:
                estimator = fingerprint(trial.estimator)
                if estimator not in costs:
                    costs[estimator] = _flow_cost(trial.estimator, rate)
                kept = kept_components(trial.pca_mode, n_train, d)
                found[trial.fingerprint] = (FLOW, costs[estimator](n_train, kept))
            elif trial.capability == SPECTRUM:
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


def flow_seconds(settings: Any, n: int, d: int, *, rate: float = CORE.flops) -> float:
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
    rate = min(rate, 10 * CORE.flops)
    return lambda n, d: seeds * flow_seconds(settings, n, d, rate=rate)
