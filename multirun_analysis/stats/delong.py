"""How sure an AUROC, or the difference of two on the same images, is: DeLong's method by midranks.

DeLong, DeLong & Clarke-Pearson (1988) with the algorithm of Sun & Xu (2014): O(n log n) instead of all pairs.
An AUROC's interval is taken on the logit scale (Pepe 2003, section 5.2.4), where it is nearer to normal. At
an AUROC of exactly 0 or 1, where DeLong's variance is 0, it is Newcombe's (2006, method 5), whose variance is
that of the AUROC asked about.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import optimize, special, stats

from multirun_analysis.stats.intervals import LEVEL

Integers = NDArray[np.int64]
Labels = NDArray[np.bool_]


@dataclass(frozen=True)
class Area:
    """An AUROC (or a difference of two), DeLong's variance of it, and its interval.

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
    """AUROC with DeLong's variance and an interval inside [0, 1].

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
        The variance is NaN where a class has one image only, and so is the interval. The variance is 0 where
        every image is ranked alike within its class: that says nothing of how sure the value is. At an AUROC
        of 0 or 1 the interval then ends there, and how far it reaches follows from the numbers of images; at
        any other (as where all scores are equal) it is NaN.
    """
    positive = np.asarray(labels).astype(bool)
    return _area(*_counts(scores, positive), level)


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
    difference = _area_difference(ours[0] - theirs[0], ours[1] - theirs[1], level)
    if difference.variance > 0:
        p = 2 * float(stats.norm.sf(abs(difference.value) / np.sqrt(difference.variance)))
    else:
        p = 1.0 if difference.variance == 0 and difference.value == 0 else float("nan")
    return Comparison(_area(*ours, level), _area(*theirs, level), difference, p)


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


def _area(good: Integers, bad: Integers, level: float) -> Area:
    """An AUROC from what `_counts` gives."""
    value, variance = _moments(good, bad)
    if variance > 0:
        return Area(value, variance, *_logit_interval(value, variance, level))
    if variance == 0 and value in (0.0, 1.0):
        reach = _reach(len(bad), len(good), level)
        return Area(value, variance, *((1 - reach, 1.0) if value else (0.0, reach)))
    return Area(value, variance, float("nan"), float("nan"))


def _area_difference(good: Integers, bad: Integers, level: float) -> Area:
    """A difference of two AUROCs from the differences of what `_counts` gives."""
    value, variance = _moments(good, bad)
    if not variance > 0:
        return Area(value, variance, float("nan"), float("nan"))
    half = _deviations(level) * variance**0.5
    return Area(value, variance, max(-1.0, value - half), min(1.0, value + half))


def _moments(good: Integers, bad: Integers) -> tuple[float, float]:
    """The mean and DeLong's variance; the variance is NaN where a class has one image."""
    m, n = len(bad), len(good)
    value = float(bad.sum() / (2 * m * n))
    if min(m, n) < 2:
        return value, float("nan")
    if np.ptp(bad) == 0 and np.ptp(good) == 0:  # exactly, where the floats below may leave a rest
        return value, 0.0
    return value, float(np.var(bad / (2 * n), ddof=1) / m + np.var(good / (2 * m), ddof=1) / n)


def _deviations(level: float) -> float:
    return float(stats.norm.isf((1 - level) / 2))


def _logit_interval(value: float, variance: float, level: float) -> tuple[float, float]:
    half = _deviations(level) * variance**0.5 / (value * (1 - value))
    low, high = special.expit(special.logit(value) + np.array([-half, half]))
    return float(low), float(high)


def _reach(m: int, n: int, level: float) -> float:
    """How far Newcombe's interval reaches from an AUROC of 0 or 1 with m and n images in the classes.

    The farthest error e with e <= z sd(e), where the variance is Hanley and McNeil's of the AUROC 1 - e with
    both numbers of images in its inner terms replaced by their mean.
    """
    square, inner = _deviations(level) ** 2, (m + n) / 2 - 1

    def over(error: float) -> float:
        # e^2 - z^2 V(1 - e), divided by e > 0
        spread = (1 - error) * (1 + inner * error / (1 + error) + inner * (1 - error) / (2 - error))
        return error - square * spread / (m * n)

    return float(optimize.brentq(over, 0.0, 1.0))
