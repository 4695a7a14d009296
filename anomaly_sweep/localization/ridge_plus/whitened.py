"""A regression of reduced rank, and the matrix that makes its errors uncorrelated and of one size."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from anomaly_sweep.errors import EstimatorError


@dataclass(frozen=True)
class Whitened:
    """The whitened error of a prediction: ``white @ y - lift @ (kernel @ x)``, of centred x and y.

    Attributes
    ----------
    kernel : Tensor of shape (r, d)
        What is needed of x.
    lift : Tensor of shape (m, r)
    white : Tensor of shape (m, m)
    """

    kernel: Tensor
    lift: Tensor
    white: Tensor


def regress(xx: Tensor, xy: Tensor, yy: Tensor, *, alpha: float, epsilon: float, rank: int) -> Whitened:
    """Ridge regression of y on x, cut to a rank, and its errors' whitening.

    Parameters
    ----------
    xx, xy, yy : Tensor of shape (d, d), (d, m), (m, m), float64
        Covariances.
    alpha : float
        Penalty, relative to the mean variance of x.
    epsilon : float
        Added to the diagonal of the errors' covariance, relative to its mean.
    rank : int
        Directions of y that are predicted: those of the largest predicted variance, in units of the error's
        (reduced-rank regression; Izenman 1975). The others are compared with their mean.

    Raises
    ------
    EstimatorError
        If a matrix cannot be factorised.
    """
    d, m = xy.shape
    penalty = alpha * float(xx.diagonal().mean())
    weights = torch.cholesky_solve(xy, _cholesky(xx, penalty if penalty > 0 else 1.0)).T
    white = _whitening(_errors(xx, xy, yy, weights), epsilon)
    predicted = white @ weights @ xx @ weights.T @ white.T
    directions = torch.linalg.eigh(predicted).eigenvectors[:, -min(rank, m, d) :]
    kernel = directions.T @ white @ weights
    back = torch.linalg.solve_triangular(white, directions, upper=False)
    white = _whitening(_errors(xx, xy, yy, back @ kernel), epsilon)
    return Whitened(kernel, white @ back, white)


def _errors(xx: Tensor, xy: Tensor, yy: Tensor, weights: Tensor) -> Tensor:
    """Covariance of y less what weights (m, d) make of x."""
    cross = weights @ xy
    return yy - cross - cross.T + weights @ xx @ weights.T


def _whitening(covariance: Tensor, epsilon: float) -> Tensor:
    """The inverse of the Cholesky factor, lower triangular."""
    size = float(covariance.diagonal().mean())
    # Without any error every direction is as good as another.
    factor = _cholesky(covariance, epsilon * size if size > 0 else 1.0)
    eye = torch.eye(len(covariance), dtype=covariance.dtype, device=covariance.device)
    inverse: Tensor = torch.linalg.solve_triangular(factor, eye, upper=False)
    return inverse


def _cholesky(matrix: Tensor, ridge: float) -> Tensor:
    """The lower factor of a matrix with something added to its diagonal."""
    matrix = matrix.clone()
    matrix.diagonal().add_(ridge)
    factor: Tensor
    factor, failed = torch.linalg.cholesky_ex(matrix)
    if int(failed) or not bool(torch.isfinite(factor).all()):
        raise EstimatorError(
            f"ridge_plus: a covariance of {len(matrix)} features cannot be factorised; use a larger "
            "localizer.alpha or localizer.epsilon"
        )
    return factor
