"""How sure an AUROC, or the difference of two on the same images, is: DeLong's method by midranks.

DeLong, DeLong & Clarke-Pearson (1988) with the algorithm of Sun & Xu (2014): O(n log n) instead of all pairs.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from multirun_analysis.stats.intervals import LEVEL

Integers = NDArray[np.int64]
Labels = NDArray[np.bool_]


@dataclass(frozen=True)
class Area:
    """An AUROC (or a difference of two), DeLong's variance of it, and the normal interval.

    The variance and the interval are NaN where they cannot be had: see `area` and `compared`.
    """

    value: float
    variance: float
    low: float
    high: float


@dataclass(frozen=True)
class Comparison:
    """Two AUROCs on the same images, their difference (first minus second) and its two-sided p."""

    first: Area
    second: Area
    difference: Area
    p: float


def area(scores: ArrayLike, labels: ArrayLike, *, level: float = LEVEL) -> Area:
    """AUROC with DeLong's variance and interval, which ends at 0 and 1.

    Parameters
    ----------
    scores : array_like of shape (n,), finite
        Higher is more anomalous; equal ones count half.
    labels : array_like of shape (n,)
        1 (or True) for anomalous, 0 for good; both occur.
    level : float in (0, 1)

    Returns
    -------
    Area
        The variance is NaN where a class has one image only. It is 0 where every image is ranked alike within
        its class (as at an AUROC of 1): that says nothing of how sure the value is, and the interval is NaN.
    """
    positive = np.asarray(labels).astype(bool)
    return _area(*_counts(scores, positive), level, (0.0, 1.0))


def compared(first: ArrayLike, second: ArrayLike, labels: ArrayLike, *, level: float = LEVEL) -> Comparison:
    """Two scorings of the same images, paired.

    Parameters
    ----------
    first, second : array_like of shape (n,), finite
    labels : array_like of shape (n,)
        As for `area`.
    level : float in (0, 1)

    Returns
    -------
    Comparison
        Where the variance of the difference is 0 there is no interval; p is then 1 if the difference is 0 too
        (the two rank alike), NaN if it is not. With one image in a class all of these are NaN.
    """
    positive = np.asarray(labels).astype(bool)
    ours, theirs = _counts(first, positive), _counts(second, positive)
    difference = _area(ours[0] - theirs[0], ours[1] - theirs[1], level, (-1.0, 1.0))
    if difference.variance > 0:
        p = 2 * float(stats.norm.sf(abs(difference.value) / np.sqrt(difference.variance)))
    else:
        p = 1.0 if difference.variance == 0 and difference.value == 0 else float("nan")
    return Comparison(_area(*ours, level, (0.0, 1.0)), _area(*theirs, level, (0.0, 1.0)), difference, p)


def _counts(scores: ArrayLike, positive: Labels) -> tuple[Integers, Integers]:
    """DeLong's structural components as whole numbers.

    For each good image twice the anomalous ones below it (those above, mirrored: of the same variance), and
    for each anomalous image twice the good ones below it; equal ones count once.
    """
    values = np.asarray(scores, dtype=np.float64)
    if values.shape != positive.shape or values.ndim != 1:
        raise ValueError(f"scores and labels must be vectors of one length: {values.shape}, {positive.shape}")
    if positive.all() or not positive.any():
        raise ValueError("one class is missing")
    if not np.isfinite(values).all():
        raise ValueError("scores must be finite")
    every = _twice_midranks(values)
    good_below = every[positive] - _twice_midranks(values[positive])
    bad_below = every[~positive] - _twice_midranks(values[~positive])
    return bad_below, good_below


def _twice_midranks(values: NDArray[np.float64]) -> Integers:
    """Twice the ranks, ties sharing their mean: whole, so that equal components are equal."""
    ranks: Integers = np.rint(2 * stats.rankdata(values)).astype(np.int64)
    return ranks


def _area(good: Integers, bad: Integers, level: float, ends: tuple[float, float]) -> Area:
    """Mean, variance and interval from what `_counts` gives, or from differences of it."""
    m, n = len(bad), len(good)
    value = float(bad.sum() / (2 * m * n))
    if min(m, n) < 2:
        return Area(value, float("nan"), float("nan"), float("nan"))
    variance = float(np.var(bad / (2 * n), ddof=1) / m + np.var(good / (2 * m), ddof=1) / n)
    if np.ptp(bad) == 0 and np.ptp(good) == 0:  # exactly, where the floats above may leave a rest
        return Area(value, 0.0, float("nan"), float("nan"))
    half = float(stats.norm.isf((1 - level) / 2)) * variance**0.5
    return Area(value, variance, max(ends[0], value - half), min(ends[1], value + half))
