"""What a trial is and what comes out of it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from anomaly_sweep.config import Configuration, PcaModeConf
from anomaly_sweep.errors import AnomalySweepError
from anomaly_sweep.estimators.build import identity
from anomaly_sweep.features.shards import Shard
from anomaly_sweep.fingerprint import fingerprint, seed_of
from anomaly_sweep.tracking.names import STATUS_FAILED, STATUS_OK

log = logging.getLogger(__name__)

#: Raised when the computation of a trial changes so that its numbers do.
TRIAL_VERSION = 1


@dataclass(frozen=True)
class Trial:
    """What is done with a shard's features. The fingerprint covers everything that changes the result."""

    fingerprint: str
    levels: tuple[str, ...]
    pools: tuple[str, ...]
    pca_mode: PcaModeConf
    estimator: dict[str, Any]

    @property
    def is_flow(self) -> bool:
        """Whether its estimator is a flow, which is trained together with others."""
        return str(self.estimator["_target_"]).startswith("anomaly_sweep.estimators.flow.")

    @property
    def seed(self) -> int:
        """Seed of everything random in the trial."""
        return seed_of(self.fingerprint)


@dataclass(frozen=True)
class TrialResult:
    """Outcome of a trial. ``image_auroc`` is None exactly when it failed, for the ``reason``.

    ``fit_seconds`` and ``score_seconds`` are the estimator's own; features and spectrum, which trials share,
    are not in them. Trials that were computed together have equal shares of the time they took together.
    """

    fingerprint: str
    status: str
    image_auroc: float | None = None
    n_features: int | None = None
    n_train: int | None = None
    n_test: int | None = None
    fit_seconds: float | None = None
    score_seconds: float | None = None
    reason: str = ""

    @classmethod
    def failed(cls, print_: str, reason: str) -> TrialResult:
        """A hole with a reason."""
        return cls(print_, STATUS_FAILED, reason=reason)

    @property
    def ok(self) -> bool:
        """Whether there is a number."""
        return self.status == STATUS_OK


def features_fingerprint(shard: Shard, levels: Sequence[str]) -> str:
    """Identity of a shard's features at some levels."""
    return fingerprint(*(shard.about(split, level) for split in ("train", "test") for level in levels))


def settings_fingerprint(configuration: Configuration) -> str:
    """Identity of what a configuration does with features: every setting that changes a trial's value."""
    pca = configuration.pca_mode
    reduction = [pca.mode] if pca.mode == "none" else [pca.mode, pca.rate, pca.basis]
    return fingerprint(
        TRIAL_VERSION, configuration.pooling.kinds, reduction, identity(configuration.estimator)
    )


def guarded(trial: Trial, compute: Callable[..., TrialResult], *arguments: Any) -> TrialResult:
    """A trial's result, or what ``compute(*arguments)`` raised: a trial's failure is its own."""
    try:
        return compute(*arguments)
    except Exception as error:
        return TrialResult.failed(trial.fingerprint, reason_of(error, f"trial {trial.fingerprint}"))


def reason_of(error: Exception, what: str) -> str:
    """Why something failed; the trace of an error that is not meant for users goes to the log."""
    if isinstance(error, AnomalySweepError):
        return str(error)
    log.error("%s", what, exc_info=error)
    return f"{type(error).__name__}: {error}"


def by(trials: Sequence[Trial], key: Callable[[Trial], Any]) -> list[list[Trial]]:
    """Groups of trials with equal keys, in order of first appearance."""
    groups: dict[str, list[Trial]] = {}
    for trial in trials:
        groups.setdefault(repr(key(trial)), []).append(trial)
    return list(groups.values())
