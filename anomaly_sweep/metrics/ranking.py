"""Metrics that depend on the order of the scores only."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import rankdata

from anomaly_sweep.errors import DatasetError, EstimatorError

#: Scores closer than this share of the largest magnitude's power of two count as equal.
TIE_RESOLUTION = 2.0**-40


def settle_ties(scores: ArrayLike) -> NDArray[np.float64]:
    """Round scores so that values equal but for rounding errors become equal.

    Duplicate images have equal scores in exact arithmetic; two correct computations may order them either
    way. All AUROCs of a sweep are computed on scores rounded to 2**-40 (about 1e-12) of the smallest power
    of two that no magnitude exceeds, so such pairs are ties, counted half.

    Parameters
    ----------
    scores : array_like of any shape, finite

    Returns
    -------
    ndarray of the same shape, float64
    """
    values = np.asarray(scores, dtype=np.float64)
    largest = float(np.abs(values).max(initial=0.0))
    if largest == 0.0:
        return values + 0.0
    grid = 2.0 ** np.ceil(np.log2(largest)) * TIE_RESOLUTION
    return np.round(values / grid) * grid


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
    positive = np.asarray(labels).astype(bool)
    if values.ndim != 1 or values.shape != positive.shape:
        raise ValueError(
            f"scores and labels must be vectors of one length, got {values.shape} and {positive.shape}"
        )
    if not np.isfinite(values).all():
        raise EstimatorError(
            f"{int((~np.isfinite(values)).sum())} of {len(values)} scores are NaN or infinite"
        )
    n_positive = int(positive.sum())
    n_negative = len(values) - n_positive
    if n_positive == 0 or n_negative == 0:
        raise DatasetError("AUROC needs both good and anomalous test images; one class is missing")
    rank_sum = rankdata(values)[positive].sum()
    return float((rank_sum - n_positive * (n_positive + 1) / 2) / (n_positive * n_negative))
