"""A detection trial: what is done with a shard's pooled features."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from anomaly_sweep.config import PcaModeConf
from anomaly_sweep.estimators.create import capability_of
from anomaly_sweep.fingerprint import seed_of
from anomaly_sweep.tasks.base import ShardWork, Trial

#: Raised when the computation of a trial changes so that its numbers do.
TRIAL_VERSION = 2


@dataclass(frozen=True)
class DetectionTrial(Trial):
    """What is done with a shard's pooled features (``task=detection``).

    ``content`` is what the seed comes from: the training features' and the settings' identity, without the
    names of data set, category, backbone and level and without the test images. A trial that is given none
    has its fingerprint for it.
    """

    pools: tuple[str, ...]
    pca_mode: PcaModeConf
    estimator: dict[str, Any]
    content: str = ""

    @property
    def spectrum(self) -> tuple[Any, ...]:
        """Levels and pools: trials with the same of them read one spectrum."""
        return (self.levels, self.pools)

    @property
    def capability(self) -> str:
        """How its estimator can be computed together with others."""
        return capability_of(self.estimator)

    @property
    def seed(self) -> int:
        """Seed of everything random in the trial, where its estimator's config sets none."""
        return seed_of(self.content or self.fingerprint)


def trials_of(work: ShardWork) -> list[DetectionTrial]:
    """The trials of a detection shard."""
    return [trial for trial in work.trials.values() if isinstance(trial, DetectionTrial)]


def by(trials: Sequence[DetectionTrial], key: Callable[[DetectionTrial], Any]) -> list[list[DetectionTrial]]:
    """Groups of trials with equal keys, in order of first appearance."""
    groups: dict[str, list[DetectionTrial]] = {}
    for trial in trials:
        groups.setdefault(repr(key(trial)), []).append(trial)
    return list(groups.values())
