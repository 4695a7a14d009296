"""What the localization trials of a shard will cost."""

from __future__ import annotations

from anomaly_sweep.features.backbone.cost import NetworkCost
from anomaly_sweep.tasks.base import ShardForecast, ShardWork
from anomaly_sweep.tasks.forecast import LOCALIZER, Rates, decode_seconds, image_kind, image_seconds
from anomaly_sweep.tasks.localization.trial import LocalizationTrial, trials_of

#: Ranking one test image's pixels, drawing and writing: seconds a pixel.
_PIXEL_SECONDS = 5e-7


def shard_forecast(work: ShardWork, network: NetworkCost, rates: Rates) -> ShardForecast:
    """The forecast of one shard: all images go through the network.

    Parameters
    ----------
    network : NetworkCost
        Of its network at its input size.
    rates : Rates
        Of what the features are made on.
    """
    n_train, n_test = work.shard.n_train, len(work.shard.category.test)
    each = decode_seconds(work) + image_seconds(network, work.levels(), rates)
    trials = {
        trial.fingerprint: (LOCALIZER, _seconds(trial, network, work, rates.flops))
        for trial in trials_of(work)
    }
    return ShardForecast(n_train + n_test, f"{image_kind(work)} maps", each, trials)


def _seconds(trial: LocalizationTrial, network: NetworkCost, work: ShardWork, rate: float) -> float:
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
