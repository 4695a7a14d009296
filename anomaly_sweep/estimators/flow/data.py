"""From matrices to whitened, padded stacks, and the batches of them that training steps see."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy import linalg
from torch import Tensor

from anomaly_sweep.errors import EstimatorError
from anomaly_sweep.estimators.flow.settings import Whitening

Floats = NDArray[np.float64]


def as_matrix(x: ArrayLike, *, least: int) -> Floats:
    """`x` as a finite float64 matrix of at least `least` rows and one column.

    Raises
    ------
    EstimatorError
        If it is not one.
    """
    matrix = np.asarray(x, dtype=np.float64)
    if matrix.ndim != 2:
        raise EstimatorError(f"flow: expected a matrix (samples, dimensions), got shape {matrix.shape}")
    if matrix.shape[0] < least or matrix.shape[1] < 1:
        raise EstimatorError(
            f"flow: needs at least {least} sample(s) and 1 dimension, got shape {matrix.shape}"
        )
    if not np.isfinite(matrix).all():
        raise EstimatorError(f"flow: {int((~np.isfinite(matrix)).sum())} values are NaN or infinite")
    return matrix


#: The least variance along a direction that whitening divides by, relative to the largest.
LEAST = 2.0**-40


@dataclass(frozen=True, eq=False)
class Whitener:
    """An affine map of the data, fitted to training samples.

    ``(x - mean) * scale``, and along the orthonormal rows of `directions` other factors in place of `scale`.

    Attributes
    ----------
    mean : float64 array, (d,)
    scale : float64 array, (d,)
        Where there are directions, the same in all dimensions.
    directions : float64 array, (r, d)
    factors : float64 array, (r,)
    """

    mean: Floats
    scale: Floats
    directions: Floats
    factors: Floats

    @classmethod
    def of(cls, x: Floats, how: Whitening) -> Whitener:
        """From the training data ``(n, d)``.

        "standard": mean 0 and variance 1 in every dimension; one that is constant up to rounding is centred
        only. Principal components differ in scale by many decades, and a flow on raw values would be trained
        on the largest alone.

        "ledoit_wolf": by the inverse root of the Ledoit-Wolf covariance (2004), the symmetric one, which does
        not depend on the signs or the order of eigenvectors; on uncorrelated dimensions it is a division of
        each by its shrunk standard deviation. Variances are at least `LEAST` of the largest, which matters
        where nothing is shrunk (two samples).

        Raises
        ------
        EstimatorError
            If the values are so large that their variance overflows.
        """
        with np.errstate(over="ignore", invalid="ignore"):
            mean, deviation = x.mean(0), x.std(0)
        if not (np.isfinite(mean).all() and np.isfinite(deviation).all()):
            raise EstimatorError(f"flow: values up to {np.abs(x).max():.3g} overflow when standardised")
        d = x.shape[1]
        constant = deviation <= 10 * np.finfo(np.float64).eps * np.abs(mean)
        if how == "standard" or constant.all() or not deviation.any():
            scale = 1 / np.where(constant | (deviation == 0), 1.0, deviation)
            return cls(mean, scale, np.empty((0, d)), np.empty(0))
        # In units of the largest deviation no square overflows or vanishes.
        unit = deviation.max()
        centred = (x - mean) / unit
        try:
            _, singular, directions = linalg.svd(centred, full_matrices=False)
        except linalg.LinAlgError as error:
            raise EstimatorError(f"flow: the SVD of {len(x)} samples in {d} dimensions failed") from error
        variances = singular**2 / len(x)
        shrinkage, average = ledoit_wolf(centred, variances)
        shrunk = (1 - shrinkage) * np.append(variances, 0.0) + shrinkage * average
        factors = 1 / (unit * np.sqrt(np.maximum(shrunk, LEAST * shrunk.max())))
        return cls(mean, np.full(d, factors[-1]), directions, factors[:-1])

    def __call__(self, x: Floats) -> Floats:
        """Whiten ``(n, d)``."""
        return self._map(x - self.mean, self.scale, self.factors)

    def inverse(self, white: Floats) -> Floats:
        """The samples ``(n, d)`` of whitened ones."""
        return self._map(white, 1 / self.scale, 1 / self.factors) + self.mean

    @property
    def log_det(self) -> float:
        """Logarithm of the determinant of the map."""
        rest = np.log(self.scale).sum() - len(self.factors) * np.log(self.scale[0])
        return float(rest + np.log(self.factors).sum()) if len(self.factors) else float(rest)

    def _map(self, x: Floats, scale: Floats, factors: Floats) -> Floats:
        if not len(factors):
            return x * scale
        along: Floats = x @ self.directions.T
        mapped: Floats = x * scale + (along * (factors - scale[0])) @ self.directions
        return mapped


def ledoit_wolf(centred: Floats, variances: Floats) -> tuple[float, float]:
    """Shrinkage and average variance (Ledoit & Wolf, 2004), from the covariance's non-zero eigenvalues.

    scikit-learn's ``ledoit_wolf_shrinkage`` of centred data ``(n, d)``: its sums over pairs of dimensions are
    sums over samples and over eigenvalues.
    """
    n, d = centred.shape
    average = variances.sum() / d
    squares = np.square(variances).sum()
    distance = squares / d - average**2
    error = (np.square(np.square(centred).sum(1)).sum() / n - squares) / (d * n)
    error = min(error, distance)
    return (error / distance if error > 0 else 0.0), float(average)


def pad(matrices: Sequence[Floats], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Matrices ``(n_i, d)`` as one tensor ``(S, d, max n_i)``, zero where a member has no sample."""
    padded = np.zeros((len(matrices), matrices[0].shape[1], max(len(x) for x in matrices)))
    for member, x in zip(padded, matrices, strict=True):
        member[:, : len(x)] = x.T
    return torch.from_numpy(padded).to(device, dtype)


def row_weights(sizes: Sequence[int], columns: int) -> Tensor:
    """``1 / n_i`` for a member's own columns and 0 for its padding, ``(S, columns)``."""
    n = torch.tensor(sizes)[:, None]
    return ((torch.arange(columns) < n) / n).float()


def batches(
    sizes: Sequence[int], generators: Sequence[torch.Generator], batch_size: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """Columns and weights of every step, each ``(S, min(batch_size, max(sizes)))``; it never ends."""
    streams = [
        _member_batches(n, generator, batch_size) for n, generator in zip(sizes, generators, strict=True)
    ]
    longest = min(batch_size, max(sizes))
    while True:
        columns = torch.zeros(len(sizes), longest, dtype=torch.int64)
        parts = [next(stream) for stream in streams]
        for row, part in zip(columns, parts, strict=True):
            row[: len(part)] = part
        yield columns, row_weights([len(part) for part in parts], longest)


def _member_batches(n: int, generator: torch.Generator, batch_size: int) -> Iterator[Tensor]:
    """Random orders of ``range(n)``, one an epoch, cut into batches; the last of an epoch may be short."""
    while True:
        yield from torch.split(torch.randperm(n, generator=generator), batch_size)
