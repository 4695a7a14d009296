"""The spectrum of one shard's training features, and the reductions as slices of it.

``none`` keeps the features as they are; PCA keeps the leading components, NPCA (Rippel et al. 2020) the
trailing ones. Components past the rank are rounding noise and belong to no reduction.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import linalg
from scipy.linalg import lapack

from anomaly_sweep.errors import EstimatorError

Matrix = NDArray[np.float64]


class Projection(NamedTuple):
    """Features in a spectrum's coordinates.

    Attributes
    ----------
    inside : ndarray of shape (m, rank)
        Coordinates along the components.
    outside : ndarray of shape (m,)
        Squared distance to the components' span: with it, nothing of a squared distance to a training row
        is lost (``|x - t|^2 = |inside_x - inside_t|^2 + outside_x``).
    """

    inside: Matrix
    outside: Matrix


@dataclass(frozen=True, eq=False)
class Spectrum:
    """PCA of training features.

    Attributes
    ----------
    singular_values : ndarray of shape (rank,)
        Of the centred training features, decreasing; variance = s**2 / (n - 1).
    train : ndarray of shape (n, rank)
        The training features in these coordinates: orthogonal columns with mean 0.
    n_features : int
        d, which is more than the rank where directions carry no variance.

    Notes
    -----
    Equal rows, among the training features or between them and features given later, get equal coordinates,
    bit by bit, and nothing outside: the distance between duplicates is 0 in every reduction.

    Float32 features are taken from an origin near their mean without rounding (see :func:`near_origin`), so
    coordinates are right to float64's resolution of the features' *spread*, however far from 0 they lie.
    """

    _origin: Matrix = field(repr=False)
    #: Of the training features from the origin.
    _mean: Matrix = field(repr=False)
    singular_values: Matrix
    train: Matrix
    n_features: int
    _features: Matrix = field(repr=False)
    _offset: Matrix = field(repr=False)
    #: Right singular vectors, all min(n, d) of them as rows, in the coordinates of ``_frame``.
    _right: Matrix = field(repr=False)
    _frame: _Frame | None = field(repr=False)

    @property
    def mean(self) -> Matrix:
        """Of the training features, (d,)."""
        return self._origin + self._mean

    @property
    def rank(self) -> int:
        """Number of directions with variance, at most min(d, n - 1)."""
        return len(self.singular_values)

    @classmethod
    def fit(cls, train: Matrix) -> Spectrum:
        """Spectrum of training features (n, d), n >= 2, finite, which must not change afterwards.

        The rank counts singular values above ``eps * max(n, d) * max(s_1, sqrt(n) * max|x|)``: numpy's
        tolerance for a matrix rank, with the size of the uncentred data in it, because centring leaves
        rounding errors of that size in directions without variance (dead or duplicated channels, n <= d).

        Raises
        ------
        EstimatorError
            If there are fewer than two rows, or all rows are the same, or the SVD does not converge.
        """
        n, d = train.shape
        if n < 2:
            raise EstimatorError(f"a spectrum needs at least 2 training images, got {n}")
        origin = near_origin(train)
        centred = train - origin
        mean = centred.mean(axis=0)
        centred -= mean
        # The SVD of a wide matrix is that of its square triangular factor, turned: what LAPACK does too,
        # but the long turn is then made for the test rows only, not for n components.
        frame = _Frame.of(centred) if n < d else None
        square = centred if frame is None else frame.triangle
        try:
            left, singular, right = linalg.svd(square, full_matrices=False, lapack_driver="gesdd")
        except (linalg.LinAlgError, ValueError) as error:
            raise EstimatorError(
                f"the SVD of {n} training images in {d} dimensions failed: {error}"
            ) from error
        size = max(float(singular[0]), float(np.sqrt(n) * np.abs(train).max()))
        rank = int((singular > np.finfo(np.float64).eps * max(n, d) * size).sum())
        if rank == 0:
            raise EstimatorError(
                f"the {n} training images have identical features: there is no variance to model"
            )
        # U s, not X V: its columns are orthogonal to the last digit however small their variance is. Their
        # means are rounding errors of the largest component's size, so they are taken out once more.
        coordinates = left[:, :rank] * singular[:rank]
        offset = coordinates.mean(axis=0)
        coordinates = (coordinates - offset)[first_equal_rows(train)]
        return cls(origin, mean, singular[:rank], coordinates, d, train, offset, right, frame)

    @cached_property
    def components(self) -> Matrix:
        """Orthonormal rows (rank, d) in order of decreasing variance."""
        kept = self._right[: self.rank]
        return kept if self._frame is None else self._frame.turn_back(kept)

    def project(self, features: Matrix) -> Projection:
        """Features (m, d) in the spectrum's coordinates, with what these leave out."""
        centred = features - self._origin
        centred -= self._mean
        if self._frame is None:
            outside = np.zeros(len(features))
        else:
            centred, outside = self._frame.turn(centred)
        inside = centred @ self._right.T
        outside += (inside[:, self.rank :] ** 2).sum(axis=1)
        inside = inside[:, : self.rank] - self._offset
        n = len(self._features)
        first = first_equal_rows(self._features, features)[n:]
        known = first < n
        inside[~known], outside[~known] = inside[first[~known] - n], outside[first[~known] - n]
        inside[known], outside[known] = self.train[first[known]], 0.0
        return Projection(inside, outside)

    def transform(self, features: Matrix) -> Matrix:
        """Features (m, d) in the spectrum's coordinates, (m, rank)."""
        return self.project(features).inside

    def keep(self, mode: str, rate: float = 1.0, basis: str = "rank") -> slice:
        """The components a reduction keeps (for ``none``: all of them, though ``none`` needs no basis).

        By count, k = round(rate * rank) or round(rate * d), at least 1 and at most the rank: PCA keeps the
        first k, NPCA the last k. By variance, the shortest prefix or suffix that explains at least the rate.

        Parameters
        ----------
        mode : {"none", "pca", "npca"}
        rate : float in (0, 1]
        basis : {"rank", "dims", "variance"}
            What the rate is a share of.
        """
        rank = self.rank
        if mode == "none":
            return slice(0, rank)
        if basis == "variance":
            share = self.singular_values**2
            if mode == "npca":
                share = share[::-1]
            explained = np.cumsum(share) / share.sum()
            # Sums differ from exact shares by rounding: 0.9 must be reached by 0.9 - 1e-16.
            k = int(np.searchsorted(explained, rate - 1e-12) + 1)
        else:
            k = round(rate * (rank if basis == "rank" else self.n_features))
        k = min(max(k, 1), rank)
        return slice(0, k) if mode == "pca" else slice(rank - k, rank)


def near_origin(train: Matrix) -> Matrix:
    """A point near the mean of training features (n, d), from which float32 features differ exactly, (d,).

    Features are made in float32. Their float64 mean has more digits than they: subtracting it leaves rounding
    errors of float64's resolution of the *mean*, which for features of 1e4 with a spread of 1e-3 is 1e-9 of
    the spread: enough to part distances that are equal. The mean rounded to float32 has 24 digits, as the
    features have, and the difference of two such numbers within a factor of 2**29 fits float64's 53.
    """
    with np.errstate(over="ignore"):
        rounded = train.mean(axis=0).astype(np.float32).astype(np.float64)
    return np.where(np.isfinite(rounded), rounded, 0.0)


def first_equal_rows(*parts: Matrix) -> NDArray[np.intp]:
    """For each row the index of the first row that equals it, bit by bit: its own where there is no other.

    Parameters
    ----------
    *parts : ndarrays of shape (n_i, d), float64
        Their rows are counted through.

    Returns
    -------
    ndarray of shape (sum of n_i,), intp
    """
    # Sums of integers are exact in any order: equal rows have equal sums. Rows with equal sums are compared.
    sums = np.concatenate([np.ascontiguousarray(part).view(np.uint64).sum(axis=1) for part in parts])
    first = np.arange(len(sums))
    _, inverse, counts = np.unique(sums, return_inverse=True, return_counts=True)
    alike = np.flatnonzero(counts[inverse] > 1).tolist()
    if alike:
        seen: dict[bytes, int] = {}
        rows = np.concatenate(parts)
        for row in alike:
            first[row] = seen.setdefault(rows[row].tobytes(), row)
    return first


#: Columns that LAPACK turns at once: the fastest of 16 to 128 on the sizes at hand.
_BLOCK = 48


@dataclass(frozen=True, eq=False)
class _Frame:
    """Orthonormal axes of a wide matrix's row space, kept as LAPACK's block reflectors."""

    reflectors: Matrix
    factors: Matrix
    #: The matrix in these axes, (n, n), lower triangular.
    triangle: Matrix

    @classmethod
    def of(cls, wide: Matrix) -> _Frame:
        """Axes of a matrix (n, d), n < d, whose memory they take."""
        n = len(wide)
        reflectors, factors, _ = lapack.dgeqrt(min(_BLOCK, n), wide.T, overwrite_a=True)
        return cls(reflectors, factors, np.tril(reflectors[:n].T))

    def turn(self, rows: Matrix) -> tuple[Matrix, Matrix]:
        """Rows (m, d) in these axes, (m, n), and their squared distance to the row space, (m,).

        The result takes the rows' memory.
        """
        turned = self._apply("T", rows)
        n = len(self.triangle)
        return turned[:, :n], (turned[:, n:] ** 2).sum(axis=1)

    def turn_back(self, rows: Matrix) -> Matrix:
        """Rows (m, n) in these axes as rows (m, d)."""
        padded = np.zeros((len(rows), len(self.reflectors)))
        padded[:, : rows.shape[1]] = rows
        return self._apply("N", padded)

    def _apply(self, transposed: str, rows: Matrix) -> Matrix:
        turned: Matrix = lapack.dgemqrt(
            self.reflectors, self.factors, rows.T, trans=transposed, overwrite_c=True
        )[0].T
        return turned
