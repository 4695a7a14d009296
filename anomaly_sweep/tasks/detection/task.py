"""Detection: one vector an image, reduced, under an estimator."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

from anomaly_sweep.config import DETECTION, Configuration, RuntimeConf
from anomaly_sweep.estimators.base import STACK
from anomaly_sweep.estimators.create import check_each, identity
from anomaly_sweep.features.backbone.cost import NetworkCost
from anomaly_sweep.features.backbone.device import on_cuda
from anomaly_sweep.features.cache.store import cache_at
from anomaly_sweep.features.pooled import features_of, make_block
from anomaly_sweep.features.shard import ImageRange
from anomaly_sweep.fingerprint import fingerprint
from anomaly_sweep.tasks.base import ShardWork, Task, Tick, TrialResult, reason_of
from anomaly_sweep.tasks.detection.forecast import trial_costs
from anomaly_sweep.tasks.detection.trial import TRIAL_VERSION, DetectionTrial, trials_of
from anomaly_sweep.tasks.forecast import Rates
from anomaly_sweep.tracking.names import GROUPS


class Detection(Task[Configuration, DetectionTrial]):
    """``task=detection``: the trials of Ono & Mori."""

    name = DETECTION
    paper = "ono_mori"
    groups = GROUPS
    takes_subsets = True
    lacks = ("pixel_auroc", "aupro", "aupro_mvtec")
    ranged_splits = ("train", "test")

    def configuration(self, nodes: Mapping[str, Any]) -> Configuration:
        """Of all nodes but the localizer."""
        configuration = Configuration(**{one.name: nodes[one.name] for one in fields(Configuration)})
        configuration.layer.of(configuration.backbone)
        configuration.pooling.check(configuration.backbone)
        return configuration

    def check(self, configurations: Sequence[Configuration]) -> None:
        """Build each distinct estimator once and throw it away."""
        check_each(configuration.estimator for configuration in configurations)

    def levels(self, configuration: Configuration) -> tuple[str, ...]:
        """Those of its layer."""
        return configuration.layer.of(configuration.backbone)

    def identity(self, configuration: Configuration) -> str:
        """Of pooling, reduction and estimator."""
        own = identity(configuration.estimator)
        return fingerprint(TRIAL_VERSION, configuration.pooling.kinds, _reduction(configuration), own)

    def seeding(self, configuration: Configuration) -> str:
        """Without how many seeds there are, and without versions."""
        settings = identity(configuration.estimator)
        for key in ("seed", "seeds"):
            settings.pop(key, None)
        return fingerprint(configuration.pooling.kinds, _reduction(configuration), settings)

    def trial(
        self, configuration: Configuration, fingerprint: str, levels: tuple[str, ...], content: str
    ) -> DetectionTrial:
        """Pooling, reduction and estimator of a configuration."""
        return DetectionTrial(
            fingerprint,
            levels,
            tuple(configuration.pooling.kinds),
            configuration.pca_mode,
            dict(configuration.estimator),
            content,
        )

    def run(
        self, work: ShardWork, runtime: RuntimeConf, tick: Tick, *, decoders: int = 1, budget: float = 0.0
    ) -> list[TrialResult]:
        """Features of a shard, then its trials; a failure of the features is every trial's failure."""
        from anomaly_sweep.tasks.detection.run import run_trials  # scikit-learn, scipy

        try:
            features = features_of(
                work.shard,
                work.levels(),
                cache_at(runtime.cache_dir),
                device=runtime.device,
                batch_size=runtime.batch_size,
                decoders=decoders,
                on_image=lambda count: tick(count, None),
            )
        except Exception as error:
            reason = reason_of(error, f"shard {work.shard.category.name}")
            failed = [TrialResult.failed(trial_id, reason) for trial_id in work.trials]
            for result in failed:
                tick(0, result)
            return failed
        return [
            result
            for part in work.parts()
            for result in run_trials(
                features.of(part.shard),
                part.shard.category.test_labels,
                trials_of(part),
                device=_flow_device(runtime.device),
                on_trial=lambda result: tick(0, result),
            )
        ]

    def units(self, work: ShardWork) -> list[list[str]]:
        """By spectrum; flows with one estimator config together, since they train in one stack."""
        groups: dict[str, list[str]] = {}
        for trial in trials_of(work):
            shared = trial.estimator if trial.capability == STACK else trial.spectrum
            groups.setdefault(repr(shared), []).append(trial.fingerprint)
        return list(groups.values())

    def make_features(
        self,
        work: ShardWork,
        images: Sequence[ImageRange],
        runtime: RuntimeConf,
        tick: Tick,
        *,
        decoders: int,
    ) -> None:
        """Pooled features."""
        for block in images:
            make_block(
                work.shard,
                work.levels(),
                block,
                cache_at(runtime.cache_dir),
                device=runtime.device,
                batch_size=runtime.batch_size,
                decoders=decoders,
                on_image=lambda count: tick(count, None),
            )

    def costs(self, work: ShardWork, network: NetworkCost, rates: Rates) -> dict[str, tuple[str, float]]:
        """Spectra, and estimators by what they compute."""
        return trial_costs(work, network, rates)


def _reduction(configuration: Configuration) -> list[Any]:
    pca = configuration.pca_mode
    return [pca.mode] if pca.mode == "none" else [pca.mode, pca.rate, pca.basis]


def _flow_device(device: str) -> str:
    """Flows train where the features are made; elsewhere than on CUDA they are faster on the CPU."""
    if not on_cuda(device):
        return "cpu"
    return "cuda" if device == "auto" else device


TASK = Detection()
