"""Features of a shard as matrices of rows and columns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from anomaly_sweep.errors import AnomalySweepError

#: Pool -> features (n, c) of one level.
Level = dict[str, NDArray[np.float32]]


@dataclass(frozen=True)
class ShardFeatures:
    """Features of a shard: ``train[level][pool]`` and ``test[level][pool]``, float32 (n, c).

    ``unusable`` says why a level that was asked for is not among them.
    """

    train: dict[str, Level]
    test: dict[str, Level]
    unusable: dict[str, str]

    def matrices(
        self, levels: Sequence[str], pools: Sequence[str]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Train and test features, level by level and pool by pool joined by concatenation, float64.

        Raises
        ------
        AnomalySweepError
            If a level is unusable, or its features are not all finite.
        """
        for level in levels:
            if level in self.unusable:
                raise AnomalySweepError(self.unusable[level])
        joined = []
        for split, name in ((self.train, "training"), (self.test, "test")):
            for level in levels:
                _check_finite(level, [split[level][p] for p in pools], name)
            parts = [split[level][p] for level in levels for p in pools]
            joined.append(np.concatenate(parts, axis=1, dtype=np.float64))
        return joined[0], joined[1]


def _check_finite(level: str, parts: Sequence[NDArray[np.float32]], split: str) -> None:
    bad = np.flatnonzero(~np.logical_and.reduce([np.isfinite(part).all(axis=1) for part in parts]))
    if len(bad):
        raise AnomalySweepError(
            f"the features of {len(bad)} of {len(parts[0])} {split} images at {level} hold NaN or infinity "
            f"(first: row {bad[0]}); check the weights and the normalisation"
        )
