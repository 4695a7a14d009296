"""What the localization trials of a shard will cost."""

from __future__ import annotations

from anomaly_sweep.features.backbone.cost import NetworkCost
from anomaly_sweep.localization.create import build
from anomaly_sweep.localization.seeds import seeds_of_config
from anomaly_sweep.tasks.base import ShardWork
from anomaly_sweep.tasks.forecast import Rates
from anomaly_sweep.tasks.localization.trial import LocalizationTrial, trials_of

#: Kind of trials.
LOCALIZER = "localizers"
#: Ranking one test image's pixels, drawing and writing: seconds a pixel.
_PIXEL_SECONDS = 5e-7


def trial_costs(work: ShardWork, network: NetworkCost, rates: Rates) -> dict[str, tuple[str, float]]:
    """Fingerprint -> (kind, seconds), as :meth:`anomaly_sweep.tasks.base.Task.costs`."""
    pixels = len(work.shard.category.test) * work.shard.side**2
    return {
        trial.fingerprint: (
            LOCALIZER,
            len(seeds_of_config(trial.localizer))
            * (_operations(trial, work, network) / rates.flops + _PIXEL_SECONDS * pixels),
        )
        for trial in trials_of(work)
    }


def _operations(trial: LocalizationTrial, work: ShardWork, network: NetworkCost) -> float:
    """The localizer's own count; none where its maps are not known or do not suit it, told when it is run."""
    try:
        shapes = {level: network.shapes[level] for level in trial.levels}
        return build(trial.localizer).operations(
            shapes, len(work.shard.category.train), len(work.shard.category.test)
        )
    except Exception:
        return 0.0
