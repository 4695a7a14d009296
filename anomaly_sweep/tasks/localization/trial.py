"""A localization trial: what is done with a shard's feature maps."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from anomaly_sweep.config import LocalizationConf
from anomaly_sweep.tasks.base import ShardWork, Trial
from anomaly_sweep.tasks.localization.outputs import are_there, outputs_of

#: Raised when the computation of a trial changes so that its numbers do.
LOCALIZATION_VERSION = 3


@dataclass(frozen=True)
class LocalizationTrial(Trial):
    """What is done with a shard's feature maps (``task=localization``)."""

    localizer: dict[str, Any]
    task: LocalizationConf

    def outputs(self, cache_dir: Path) -> dict[str, Path]:
        """Its pictures and maps."""
        return outputs_of(cache_dir, self.fingerprint, self.task)

    def has_outputs(self, cache_dir: Path) -> bool:
        """Whether the pictures and maps that its task asks for are there."""
        return are_there(cache_dir, self.fingerprint, self.task)


def trials_of(work: ShardWork) -> list[LocalizationTrial]:
    """The trials of a localization shard."""
    return [trial for trial in work.trials.values() if isinstance(trial, LocalizationTrial)]
