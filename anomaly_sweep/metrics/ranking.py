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
    order = np.argsort(values, axis=-1, kind="stable")
    ranked = np.take_along_axis(values, order, axis=-1)
    limit = np.abs(values).max(axis=-1, initial=0.0, keepdims=True) * TIE_RESOLUTION
    starts = _starts(np.diff(ranked, axis=-1) > limit)
    settled = np.empty_like(values)
    np.put_along_axis(settled, order, np.take_along_axis(ranked, starts, axis=-1), axis=-1)
    return settled


def auroc(scores: ArrayLike, labels: ArrayLike) -> float:
    """Area under the ROC curve by ranks (the Mann-Whitney statistic), ties counted half.

    Parameters
    ----------
    scores : array_like of shape (n,)
        Higher = more anomalous.
    labels : array_like of shape (n,)
        1 (or True) for anomalous, 0 for good.

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
    return float(aurocs(values[None], labels)[0])


def aurocs(scores: ArrayLike, labels: ArrayLike) -> NDArray[np.float64]:
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
    order = np.argsort(values, axis=1)
    ranked = np.take_along_axis(values, order, axis=1)
    # Twice the mean 0-based rank of a run of ties is its first plus its last rank: integers, no rounding.
    new = np.diff(ranked, axis=1) > 0
    first = _starts(new)
    last = len(positive) - 1 - _starts(new[:, ::-1])[:, ::-1]
    rank_sum = np.where(positive[order], first + last, 0).sum(axis=1)
    area: NDArray[np.float64] = (rank_sum - n_positive * (n_positive - 1)) / (2 * n_positive * n_negative)
    return area


def _starts(new: NDArray[np.bool_]) -> NDArray[np.intp]:
    """Where each place's run starts, (..., n), if ``new`` (..., n - 1) tells which places start one."""
    places = np.arange(1, new.shape[-1] + 1)
    starts = np.maximum.accumulate(np.where(new, places, 0), axis=-1)
    return np.concatenate([np.zeros_like(starts, shape=(*new.shape[:-1], 1)), starts], axis=-1)
