"""Estimators: ``fit(train)``, then ``score_samples(test)`` -> float64 (n,), higher = more anomalous."""

from typing import Protocol, Self

import numpy as np
from numpy.typing import NDArray


class Estimator(Protocol):
    """What a trial needs of an estimator."""

    def fit(self, X: NDArray[np.float64]) -> Self:
        """Fit to training features (n, d)."""
        ...

    def score_samples(self, X: NDArray[np.float64]) -> NDArray[np.float64]:
        """Anomaly scores (m,) of features (m, d); higher = more anomalous."""
        ...
