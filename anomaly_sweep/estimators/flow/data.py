"""From matrices to padded, standardised stacks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from anomaly_sweep.errors import EstimatorError

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


@dataclass(frozen=True)
class Standardizer:
    """Mean and standard deviation of every dimension, float64 ``(d,)``.

    Principal components differ in scale by many decades; a flow on raw values would be trained on the
    largest alone.
    """

    mean: Floats
    scale: Floats

    @classmethod
    def of(cls, x: Floats) -> Standardizer:
        """From the training data. A dimension that is constant up to rounding is centred only.

        Raises
        ------
        EstimatorError
            If the values are so large that their variance overflows.
        """
        with np.errstate(over="ignore", invalid="ignore"):
            mean, scale = x.mean(0), x.std(0)
        if not (np.isfinite(mean).all() and np.isfinite(scale).all()):
            raise EstimatorError(f"flow: values up to {np.abs(x).max():.3g} overflow when standardised")
        constant = scale <= 10 * np.finfo(np.float64).eps * np.abs(mean)
        return cls(mean, np.where(constant | (scale == 0), 1.0, scale))

    def __call__(self, x: Floats) -> Floats:
        """Standardise ``(n, d)``."""
        standard: Floats = (x - self.mean) / self.scale
        return standard


def pad(matrices: Sequence[Floats], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Matrices ``(n_i, d)`` as one tensor ``(S, d, max n_i)``, zero where a member has no sample."""
    padded = np.zeros((len(matrices), matrices[0].shape[1], max(len(x) for x in matrices)))
    for member, x in zip(padded, matrices, strict=True):
        member[:, : len(x)] = x.T
    return torch.from_numpy(padded).to(device, dtype)
