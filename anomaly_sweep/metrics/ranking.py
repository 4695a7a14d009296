"""Metrics that depend on the order of the scores only, all from one sort."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from anomaly_sweep.errors import DatasetError, EstimatorError
from anomaly_sweep.metrics.ties import first_of_run

#: The recall at which ``fpr95`` is taken.
RECALL = 0.95


@dataclass(frozen=True)
class RankingMetrics:
    """Metrics of one or more scorings of the same samples, each an array of the scorings, in [0, 1].

    Samples with equal scores are flagged together, so each distinct score is a threshold, and all of them
    are.

    Attributes
    ----------
    auroc
        Area under the ROC curve: how often an anomalous sample is above a good one, ties counted half (the
        Mann-Whitney statistic).
    ap
        Average precision: mean over the anomalous samples of the precision at their score. As scikit-learn's,
        without interpolation.
    f1max
        The highest F1 of all thresholds. The threshold is chosen on the samples it is measured on, so this is
        what could be reached, not what would be.
    fpr95
        The lowest false positive rate at which at least 95 % of the anomalous samples are flagged. The one
        metric of which less is better.
    """

    auroc: NDArray[np.float64]
    ap: NDArray[np.float64]
    f1max: NDArray[np.float64]
    fpr95: NDArray[np.float64]


def ranking_metrics(scores: ArrayLike, labels: ArrayLike) -> RankingMetrics:
    """AUROC, average precision, F1max and FPR at 95 % recall of scores.

    Parameters
    ----------
    scores : array_like of shape (..., n)
        Higher = more anomalous. Each row along the last axis is a scoring of the same samples.
    labels : array_like of shape (n,)
        1 (or True) for anomalous, 0 for good.

    Raises
    ------
    EstimatorError
        If a score is NaN or infinite.
    DatasetError
        If there are no good or no anomalous samples.
    ValueError
        If the shapes do not agree.
    """
    values = np.asarray(scores, dtype=np.float64)
    positive = np.asarray(labels).astype(bool)
    if values.ndim == 0 or positive.shape != values.shape[-1:]:
        raise ValueError(f"scores and labels must be of one length, got {values.shape} and {positive.shape}")
    finite = np.isfinite(values)
    if not finite.all():
        raise EstimatorError(f"{int((~finite).sum())} of {values.size} scores are NaN or infinite")
    p = int(positive.sum())
    n = len(positive) - p
    if p == 0 or n == 0:
        raise DatasetError("AUROC needs both good and anomalous test images; one class is missing")
    order = np.argsort(-values, axis=-1)
    ranked = np.take_along_axis(values, order, axis=-1)
    new = ranked[..., 1:] != ranked[..., :-1]
    anomalous = positive[order]
    # Whole numbers: how many of each kind are flagged at each sample's own score, and before it.
    last = len(positive) - 1 - first_of_run(new[..., ::-1])[..., ::-1]
    tp, fp = (np.take_along_axis(np.cumsum(kind, axis=-1), last, axis=-1) for kind in (anomalous, ~anomalous))
    before = np.take_along_axis(np.cumsum(~anomalous, axis=-1) - ~anomalous, first_of_run(new), axis=-1)
    wrong = np.where(anomalous, fp + before, 0).sum(axis=-1)  # twice the pairs in the wrong order
    enough = math.ceil(RECALL * p - 1e-9)
    return RankingMetrics(
        auroc=(2 * p * n - wrong) / (2 * p * n),
        ap=np.where(anomalous, tp / (tp + fp), 0.0).sum(axis=-1) / p,
        f1max=(2 * tp / (tp + fp + p)).max(axis=-1),
        fpr95=np.where(tp >= enough, fp, n).min(axis=-1) / n,
    )
