"""Estimators: ``fit(train)``, then ``score_samples(test)`` -> float64 (n,), higher = more anomalous.

An estimator whose scores are distances (not negative, with a natural zero) says so by an attribute
``score_scale = "ratio"``; without one they are of an ``interval`` scale. See
:mod:`anomaly_sweep.metrics.ties`.
"""

from typing import Protocol, Self

import numpy as np
from numpy.typing import NDArray

from anomaly_sweep.metrics.ties import ScoreScale


class Estimator(Protocol):
    """What a trial needs of an estimator."""

    @property
    def score_scale(self) -> ScoreScale:
        """What its scores are."""
        ...

    def fit(self, X: NDArray[np.float64]) -> Self:
        """Fit to training features (n, d)."""
        ...

    def score_samples(self, X: NDArray[np.float64]) -> NDArray[np.float64]:
        """Anomaly scores (m,) of features (m, d); higher = more anomalous."""
        ...
