"""MVG and k-NN in all reductions of one spectrum at once.

In a spectrum's coordinates the covariance is diagonal and every reduction is a prefix (PCA), a suffix (NPCA)
or all of the components (``none``, which has what lies outside the components too). So every quantity that a
reduction needs is a sum over its components, taken from the left or from the right: nothing is subtracted
that was added before, and the sums are as exact as those of a reduction on its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

from anomaly_sweep.errors import EstimatorError
from anomaly_sweep.estimators.gaussian import is_singular, singular
from anomaly_sweep.estimators.neighbors import nearest
from anomaly_sweep.estimators.spectrum import Projection, Spectrum

Matrix = NDArray[np.float64]

#: Distances to training images are taken by differences when the nearest one's square is below this share of
#: the squared distance to the mean. Above it, the expansion of the square is right to about 1e-13.
_NEAR = 2.0**-7

#: Distances held at once (8 bytes each); test images are taken in portions of this many.
_PORTION = 2**21


@dataclass(frozen=True)
class Reduction:
    """Components ``start`` to ``stop`` of a spectrum; ``whole`` is the features as they are (``none``)."""

    start: int
    stop: int
    whole: bool = False


@dataclass(frozen=True, eq=False)
class DiagonalGaussian:
    """A Gaussian in a spectrum's coordinates: precisions (rank,), 0 outside the reduction.

    ``outside`` is the precision of all directions outside the components.
    """

    precisions: Matrix
    outside: float


def fit_gaussians(
    spectrum: Spectrum, reductions: Sequence[Reduction], shrinkage: str
) -> list[DiagonalGaussian | EstimatorError]:
    """``MultivariateGaussian(shrinkage)`` on each reduction of the training features.

    Ledoit-Wolf and OAS shrinkage need the sums of the covariance's eigenvalues and of their squares, and
    Ledoit-Wolf the images' squared norms: formulas as in scikit-learn.

    Returns
    -------
    list
        One for each reduction; the error a reduction on its own would raise.
    """
    n, rank = spectrum.train.shape
    variances = spectrum.singular_values**2 / n
    sums = _Sums(reductions, rank)
    traces, squares = sums(variances[None])[0], sums(variances[None] ** 2)[0]
    quartics = (sums(spectrum.train**2) ** 2).mean(axis=0)
    fitted: list[DiagonalGaussian | EstimatorError] = []
    for reduction, trace, square, quartic in zip(reductions, traces, squares, quartics, strict=True):
        p = spectrum.n_features if reduction.whole else reduction.stop - reduction.start
        if p == 1 or shrinkage == "empirical":
            share = 0.0
        elif shrinkage == "oas":
            share = _oas(trace, square, n, p)
        else:
            share = _ledoit_wolf(trace, square, quartic, n, p)
        floor = share * trace / p
        part = slice(reduction.start, reduction.stop)
        shrunk = (1.0 - share) * variances[part] + floor
        has_outside = reduction.whole and p > rank
        if is_singular(np.append(shrunk, floor) if has_outside else shrunk):
            fitted.append(singular(shrinkage, n, p))
            continue
        precisions = np.zeros(rank)
        precisions[part] = 1.0 / shrunk
        # Without shrinkage nothing is outside: p equals the rank.
        fitted.append(DiagonalGaussian(precisions, 1.0 / floor if has_outside else 0.0))
    return fitted


def mahalanobis(gaussians: Sequence[DiagonalGaussian], test: Projection) -> Matrix:
    """Mahalanobis distances (gaussians, m) of projected features."""
    precisions = np.array([gaussian.precisions for gaussian in gaussians])
    squared = precisions.reshape(-1, test.inside.shape[1]) @ (test.inside**2).T
    squared += np.outer([gaussian.outside for gaussian in gaussians], test.outside)
    return np.sqrt(squared)


def neighbor_distances(
    spectrum: Spectrum,
    test: Projection,
    features: tuple[Matrix, Matrix],
    reductions: Sequence[Reduction],
    k: int,
) -> Matrix:
    """Distances to the k nearest training images in each reduction.

    Parameters
    ----------
    spectrum, test
        Training features' spectrum, and the test features in it.
    features : (ndarray of shape (n, d), ndarray of shape (m, d))
        The training and test features themselves.
    reductions : sequence of Reduction
        Each starting at 0 or stopping at the rank.
    k : int
        At most n.

    Returns
    -------
    ndarray of shape (reductions, m, k), in order of size
    """
    m, n = len(test.inside), len(spectrum.train)
    found = np.empty((len(reductions), m, k))
    rows = max(1, _PORTION // n)
    for begin in range(0, m, rows):
        part = slice(begin, begin + rows)
        portion = Projection(test.inside[part], test.outside[part])
        found[:, part] = _portion(spectrum.train, portion, (features[0], features[1][part]), reductions, k)
    return found


def _portion(
    train: Matrix, test: Projection, features: tuple[Matrix, Matrix], reductions: Sequence[Reduction], k: int
) -> Matrix:
    rank = train.shape[1]
    sums = _Sums(reductions, rank)
    train_norms, test_norms = sums(train**2), sums(test.inside**2)
    found = np.empty((len(reductions), len(test.inside), k))
    squares = np.empty((len(test.inside), len(train)))
    for index, products in _products(train, -2.0 * test.inside, reductions):
        reduction = reductions[index]
        norm = test_norms[:, index] + (test.outside if reduction.whole else 0.0)
        # |x - t|^2 = |x|^2 + (|t|^2 - 2 x t): the test image's own norm changes no order.
        np.add(products, train_norms[:, index], out=squares)
        squared = nearest(squares, k) + norm[:, None]
        near = squared[:, 0] <= _NEAR * norm
        np.sqrt(squared, out=found[index], where=~near[:, None])
        if near.any():
            part = slice(reduction.start, reduction.stop)
            x, y = features if reduction.whole else (train[:, part], test.inside[:, part])
            found[index, near] = nearest(cdist(y[near], x), k)
    return found


def _products(train: Matrix, test: Matrix, reductions: Sequence[Reduction]) -> Iterator[tuple[int, Matrix]]:
    """Inner products of all pairs, (m, n), in each reduction: the sum over ever more components."""
    rank = train.shape[1]
    from_left = sorted((r.stop, i) for i, r in enumerate(reductions) if r.start == 0)
    from_right = sorted(((r.start, i) for i, r in enumerate(reductions) if r.start > 0), reverse=True)
    for cuts, begin in ((from_left, 0), (from_right, rank)):
        total = np.zeros((len(test), len(train)))
        for cut, index in cuts:
            block = slice(min(begin, cut), max(begin, cut))
            total += test[:, block] @ train[:, block].T
            begin = cut
            yield index, total


class _Sums:
    """Sums over each reduction's components, as running sums over the blocks between all their ends."""

    def __init__(self, reductions: Sequence[Reduction], rank: int) -> None:
        self._begins = sorted({0, *(r.start for r in reductions), *(r.stop for r in reductions)} - {rank})
        place = {begin: i for i, begin in enumerate([*self._begins, rank])}
        self._prefix = np.array([r.start == 0 for r in reductions])
        self._place = np.array([place[r.stop] - 1 if r.start == 0 else place[r.start] for r in reductions])

    def __call__(self, values: Matrix) -> Matrix:
        """Sums (rows, reductions) of values (rows, rank) >= 0."""
        blocks = np.add.reduceat(values, self._begins, axis=1)
        left = np.cumsum(blocks, axis=1)
        right = np.cumsum(blocks[:, ::-1], axis=1)[:, ::-1]
        return np.where(self._prefix, left[:, self._place], right[:, self._place])


def _ledoit_wolf(trace: float, square: float, quartic: float, n: int, p: int) -> float:
    """Shrinkage from the sums of eigenvalues and their squares, and the mean fourth power of the norms."""
    mu = trace / p
    delta = (square - 2.0 * mu * trace + p * mu**2) / p
    beta = min((quartic - square) / (p * n), delta)
    return 0.0 if beta == 0 else float(beta / delta)


def _oas(trace: float, square: float, n: int, p: int) -> float:
    """As :func:`_ledoit_wolf`; 1 where all eigenvalues are equal but for rounding."""
    mu_squared = (trace / p) ** 2
    alpha = square / p**2
    denominator = (n + 1) * (alpha - mu_squared / p)
    return 1.0 if denominator <= 0 else float(min((alpha + mu_squared) / denominator, 1.0))
