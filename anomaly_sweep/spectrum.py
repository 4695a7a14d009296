"""The spectrum of one shard's training features, and the reductions as slices of it.

``none`` keeps the features as they are; PCA keeps the leading components, NPCA (Rippel et al. 2020) the
trailing ones. Components past the rank are rounding noise and belong to no reduction.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import linalg

from anomaly_sweep.config import PcaModeConf
from anomaly_sweep.errors import EstimatorError

Matrix = NDArray[np.float64]


@dataclass(frozen=True)
class Spectrum:
    """PCA of training features.

    Attributes
    ----------
    mean : ndarray of shape (d,)
    components : ndarray of shape (rank, d)
        Orthonormal rows in order of decreasing variance.
    singular_values : ndarray of shape (rank,)
        Of the centred training features; variance = s**2 / (n - 1).
    train : ndarray of shape (n, rank)
        The training features in these coordinates.
    n_features : int
        d, which is more than the rank where directions carry no variance.
    """

    mean: Matrix
    components: Matrix
    singular_values: Matrix
    train: Matrix
    n_features: int

    @property
    def rank(self) -> int:
        """Number of directions with variance, at most min(d, n - 1)."""
        return len(self.singular_values)

    @classmethod
    def fit(cls, train: Matrix) -> Spectrum:
        """Spectrum of training features (n, d), n >= 2, finite.

        The rank counts singular values above ``eps * max(n, d) * max(s_1, sqrt(n) * max|x|)``: numpy's
        tolerance for a matrix rank, with the size of the uncentred data in it, because centring leaves
        rounding errors of that size in directions without variance (dead or duplicated channels, n <= d).

        Raises
        ------
        EstimatorError
            If there are fewer than two rows, or all rows are the same.
        """
        n, d = train.shape
        if n < 2:
            raise EstimatorError(f"a spectrum needs at least 2 training images, got {n}")
        mean = train.mean(axis=0)
        left, singular, right = linalg.svd(train - mean, full_matrices=False, lapack_driver="gesdd")
        size = max(float(singular[0]), float(np.sqrt(n) * np.abs(train).max()))
        rank = int((singular > np.finfo(np.float64).eps * max(n, d) * size).sum())
        if rank == 0:
            raise EstimatorError(
                f"the {n} training images have identical features: there is no variance to model"
            )
        return cls(mean, right[:rank], singular[:rank], left[:, :rank] * singular[:rank], d)

    def transform(self, features: Matrix) -> Matrix:
        """Features (m, d) in the spectrum's coordinates, (m, rank)."""
        return (features - self.mean) @ self.components.T

    def keep(self, pca_mode: PcaModeConf) -> slice:
        """The components a reduction keeps (for ``none``: all of them, though ``none`` needs no basis).

        By count, k = round(rate * rank) or round(rate * d), at least 1 and at most the rank: PCA keeps the
        first k, NPCA the last k. By variance, the shortest prefix or suffix that explains at least the rate.
        """
        rank = self.rank
        if pca_mode.mode == "none":
            return slice(0, rank)
        if pca_mode.basis == "variance":
            share = self.singular_values**2
            if pca_mode.mode == "npca":
                share = share[::-1]
            explained = np.cumsum(share) / share.sum()
            # Sums differ from exact shares by rounding: 0.9 must be reached by 0.9 - 1e-16.
            k = int(np.searchsorted(explained, pca_mode.rate - 1e-12) + 1)
        else:
            k = round(pca_mode.rate * (rank if pca_mode.basis == "rank" else self.n_features))
        k = min(max(k, 1), rank)
        return slice(0, k) if pca_mode.mode == "pca" else slice(rank - k, rank)
