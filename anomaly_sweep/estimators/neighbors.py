"""Distance to the nearest training images (k-NN)."""

from __future__ import annotations

from typing import ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

from anomaly_sweep.checks import one_of, whole
from anomaly_sweep.errors import EstimatorError
from anomaly_sweep.estimators.base import SPECTRUM, Capability, check_is_fitted, check_samples
from anomaly_sweep.metrics.ties import ScoreScale

AGGREGATIONS = ("mean", "kth")


class NearestNeighborDistance:
    """Euclidean distance to the k nearest training images.

    Distances are taken by differences, not by the expansion of the square, so that the distance between
    two equal vectors is exactly 0.

    Parameters
    ----------
    k : int
        Number of neighbours, at least 1 and at most the number of training images.
    aggregation : {"mean", "kth"}
        Mean of the k distances, or the k-th.

    Raises
    ------
    ConfigError
        For a value out of range.
    """

    computed: ClassVar[Capability] = SPECTRUM

    score_scale: ClassVar[ScoreScale] = "ratio"

    def __init__(self, k: int = 1, aggregation: str = "mean") -> None:
        whole("estimator.k", k, 1)
        one_of("estimator.aggregation", aggregation, AGGREGATIONS)
        self.k = k
        self.aggregation = aggregation

    def fit(self, X: NDArray[np.float64]) -> Self:
        """Keep the training features (n, d).

        Raises
        ------
        EstimatorError
            If k is above n, or the features are not finite.
        """
        check_samples("k-NN", X)
        if self.k > len(X):
            raise too_few(self.k, len(X))
        self._train = X
        self.n_features_in_ = X.shape[1]
        return self

    def score_samples(self, X: NDArray[np.float64]) -> NDArray[np.float64]:
        """Distances (m,) of (m, d).

        Raises
        ------
        EstimatorError
            Before `fit`, or if the features are not finite or have another d.
        """
        check_is_fitted("k-NN", self)
        check_samples("k-NN", X, self.n_features_in_)
        return aggregate(nearest(cdist(X, self._train), self.k), self.k, self.aggregation)


def nearest(distances: NDArray[np.float64], k: int) -> NDArray[np.float64]:
    """The k smallest of each row, (m, n) -> (m, k), in order. The rows themselves are rearranged."""
    distances.partition(k - 1, axis=1)
    return np.sort(distances[:, :k], axis=1)


def aggregate(ordered: NDArray[np.float64], k: int, aggregation: str) -> NDArray[np.float64]:
    """Scores (..., m) from at least k smallest distances in order, (..., m, >= k)."""
    mean = aggregation == "mean"
    score: NDArray[np.float64] = ordered[..., :k].mean(axis=-1) if mean else ordered[..., k - 1]
    return score


def too_few(k: int, n: int) -> EstimatorError:
    """The error of a k that n training images cannot serve."""
    return EstimatorError(f"estimator.k={k} is above the number of training images, {n}")
