"""Metrics that depend on the order of the scores only."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from anomaly_sweep.errors import DatasetError, EstimatorError

#: Neighbouring scores closer than this share of the largest magnitude count as equal.
TIE_RESOLUTION = 2.0**-40


def settle_ties(scores: ArrayLike) -> NDArray[np.float64]:
    """Make scores equal that differ by rounding errors only.

    Scores that are equal in exact arithmetic (of duplicate images, of symmetric ones) come out of two correct
    computations in either order. All AUROCs of a sweep are computed on settled scores: in order of size,
    each one within 2**-40 (about 1e-12) of the largest magnitude above its neighbour takes its neighbour's
    value, so such pairs are ties, counted half. Gaps decide, not a grid: a grid has edges on which equal
    scores can come apart.

    Parameters
    ----------
    scores : array_like of shape (..., n), finite
        Each row along the last axis is settled by itself.

    Returns
    -------
    ndarray of the same shape, float64
        Each value is one of the row's scores, none is above its own score.
    """
    values = np.asarray(scores, dtype=np.float64)
    order, ranked, new = _ranked(values, TIE_RESOLUTION)
    settled = np.empty_like(values)
    np.put_along_axis(settled, order, np.take_along_axis(ranked, _starts(new), axis=-1), axis=-1)
    return settled


def auroc(scores: ArrayLike, labels: ArrayLike, *, settled: bool = False) -> float:
    """Area under the ROC curve by ranks (the Mann-Whitney statistic), ties counted half.

    Parameters
    ----------
    scores : array_like of shape (n,)
        Higher = more anomalous.
    labels : array_like of shape (n,)
        1 (or True) for anomalous, 0 for good.
    settled : bool
        Take the scores as :func:`settle_ties` makes them.

    Returns
    -------
    float in [0, 1]

    Raises
    ------
    EstimatorError
        If a score is NaN or infinite.
    DatasetError
        If there are no good or no anomalous samples.
    """
    values = np.asarray(scores, dtype=np.float64)
    if values.ndim != 1:
        raise ValueError(f"scores must be a vector, got shape {values.shape}")
    return float(aurocs(values[None], labels, settled=settled)[0])


def aurocs(scores: ArrayLike, labels: ArrayLike, *, settled: bool = False) -> NDArray[np.float64]:
    """:func:`auroc` of each row of scores, (t, n) -> (t,), on common labels (n,)."""
    values = np.asarray(scores, dtype=np.float64)
    positive = np.asarray(labels).astype(bool)
    if values.ndim != 2 or values.shape[1:] != positive.shape:
        raise ValueError(f"scores and labels must be of one length, got {values.shape} and {positive.shape}")
    finite = np.isfinite(values)
    if not finite.all():
        raise EstimatorError(f"{int((~finite).sum())} of {values.size} scores are NaN or infinite")
    n_positive = int(positive.sum())
    n_negative = len(positive) - n_positive
    if n_positive == 0 or n_negative == 0:
        raise DatasetError("AUROC needs both good and anomalous test images; one class is missing")
    order, _, new = _ranked(values, TIE_RESOLUTION if settled else 0.0)
    # Twice the mean 0-based rank of a run of ties is its first plus its last rank: integers, no rounding.
    twice = _starts(new) + len(positive) - 1 - _starts(new[:, ::-1])[:, ::-1]
    rank_sum = np.where(positive[order], twice, 0).sum(axis=1)
    area: NDArray[np.float64] = (rank_sum - n_positive * (n_positive - 1)) / (2 * n_positive * n_negative)
    return area


def _ranked(
    values: NDArray[np.float64], resolution: float
) -> tuple[NDArray[np.intp], NDArray[np.float64], NDArray[np.bool_]]:
    """Order of the last axis, the values in it, and which but the first are more than a tie's gap up."""
    order = np.argsort(values, axis=-1)
    ranked = np.take_along_axis(values, order, axis=-1)
    limit = np.maximum(ranked[..., -1:], -ranked[..., :1]) * resolution
    return order, ranked, np.diff(ranked, axis=-1) > limit


def _starts(new: NDArray[np.bool_]) -> NDArray[np.intp]:
    """Where each place's run starts, (..., n), if ``new`` (..., n - 1) tells which places start one."""
    starts = np.zeros((*new.shape[:-1], new.shape[-1] + 1), dtype=np.intp)
    np.multiply(new, np.arange(1, new.shape[-1] + 1), out=starts[..., 1:])
    return np.maximum.accumulate(starts, axis=-1)
