"""How sure a mean or a difference is that was seen on several categories.

Intervals and tests are Student's t over the categories. With 5 to 15 of them the percentile bootstrap covers
83 to 92 % for a nominal 95 and BCa no more; t covers 95 % or more of normal and of symmetric heavy-tailed
differences, if less of strongly skewed ones (`tests/benchmarks/bench_verdicts.py` prints the rates).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special, stats

LEVEL = 0.95
#: One point is 0.01 of a metric.
POINTS = 100.0
#: With fewer categories than this an interval is too wide to print.
INTERVAL_CATEGORIES = 5
#: Differences of metrics (in points or shares) below this are rounding.
ROUNDING = 1e-12

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Interval:
    """An estimate and its interval; NaN ends where there is none."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Ranking:
    """Friedman's test of several treatments on the same categories.

    Attributes
    ----------
    mean_ranks
        Mean rank of each treatment; 1 is the best (the highest values).
    p
        That all treatments are the same (see `friedman_p`).
    pairs
        Holm-corrected p of each pair by Wilcoxon's signed ranks, keys ``(i, j)`` with i < j.
    """

    mean_ranks: Floats
    p: float
    pairs: dict[tuple[int, int], float]


def mean_interval(values: Floats, *, level: float = LEVEL) -> Interval:
    """Mean of categories with Student's t interval.

    Parameters
    ----------
    values : array of shape (n_categories,)
        Finite; for a comparison the difference of each category, so that it is paired. With one category
        there is no interval.
    level : float in (0, 1)
    """
    value = float(np.mean(values))
    half = _quantile(level, max(len(values) - 1, 1)) * _standard_error(values)
    return Interval(value, value - half, value + half)


def apart_interval(first: Floats, second: Floats, *, level: float = LEVEL) -> Interval:
    """Mean of ``second`` minus mean of ``first`` with Welch's interval: for categories that are not the same.

    Parameters
    ----------
    first, second : arrays of shape (n,) and (m,)
        Finite; with one value in either there is no interval.
    level : float in (0, 1)
    """
    value = float(np.mean(second) - np.mean(first))
    if min(len(first), len(second)) < 2:
        return Interval(value, math.nan, math.nan)
    parts = [_standard_error(values) ** 2 for values in (first, second)]
    if not sum(parts):
        return Interval(value, value, value)
    freedom = sum(parts) ** 2 / sum(p**2 / (len(v) - 1) for p, v in zip(parts, (first, second), strict=True))
    half = _quantile(level, freedom) * math.sqrt(sum(parts))
    return Interval(value, value - half, value + half)


def ratio_interval(over: Floats, under: Floats, *, level: float = LEVEL) -> Interval:
    """Ratio of two sums over the same categories with Fieller's interval.

    It holds the ratios r for which t does not tell the mean of ``over - r * under`` from 0.

    Parameters
    ----------
    over, under : arrays of shape (n_categories,)
        Finite.
    level : float in (0, 1)

    Returns
    -------
    Interval
        Ends are infinite on both sides where the mean of ``under`` is not told from 0, NaN with one category.
    """
    n = len(over)
    a, b = float(np.mean(over)), float(np.mean(under))
    if n < 2:
        return Interval(a / b, math.nan, math.nan)
    t2 = _quantile(level, n - 1) ** 2 / n
    (aa, ab), (_, bb) = t2 * np.cov(over, under)
    square, linear, constant = b * b - bb, a * b - ab, a * a - aa
    if square <= 0:
        return Interval(a / b, -math.inf, math.inf)
    root = math.sqrt(max(linear**2 - square * constant, 0.0))
    return Interval(a / b, (linear - root) / square, (linear + root) / square)


def p_above(values: Floats, bound: float) -> float:
    """One-sided p of the mean being at most ``bound``, by Student's t: small where it is above.

    Where all values are equal there is no spread to judge by: 0 above the bound, 1 at it and below. With one
    category NaN.
    """
    if len(values) < 2:
        return math.nan
    error = _standard_error(values)
    distance = float(np.mean(values)) - bound
    if abs(distance) <= ROUNDING:
        return 0.5 if error else 1.0
    if not error:
        return 0.0 if distance > 0 else 1.0
    return float(special.stdtr(len(values) - 1, -distance / error))


def least_interval(parts: Floats, *, level: float = LEVEL) -> Interval:
    """The least of several means with an interval for the least of the true ones.

    The least of the means seen leans below the least of the true ones, and so does a bootstrap of it. So the
    ends are put together from the intervals of the parts: the least lower end, each at the level itself (the
    least of the true means is one of them), and the least upper end, each corrected for their number by
    Bonferroni.

    Parameters
    ----------
    parts : array of shape (n_categories, n_parts)
        Finite.
    level : float in (0, 1)
    """
    corrected = 1 - (1 - level) / parts.shape[1]
    return Interval(
        min(mean_interval(part, level=level).value for part in parts.T),
        min(mean_interval(part, level=level).low for part in parts.T),
        min(mean_interval(part, level=corrected).high for part in parts.T),
    )


def p_all_above(parts: Floats, bound: float) -> float:
    """One-sided p of one mean or more being at most ``bound``: the largest of the parts (intersection-union).

    Parameters
    ----------
    parts : array of shape (n_categories, n_parts)
    """
    return max(p_above(part, bound) for part in parts.T)


def p_one_below(parts: Floats, bound: float) -> float:
    """One-sided p of no mean being below ``bound``: the smallest of the parts, by Bonferroni.

    Parameters
    ----------
    parts : array of shape (n_categories, n_parts)
    """
    return float(np.minimum(1.0, parts.shape[1] * min(p_above(-part, -bound) for part in parts.T)))


def _quantile(level: float, freedom: float) -> float:
    """Half the width of the central part of Student's t; of scipy's ways the fast one."""
    return float(special.stdtrit(freedom, (1 + level) / 2))


def _standard_error(values: Floats) -> float:
    """Of the mean; 0 where the values differ by rounding only, NaN with one value."""
    if len(values) < 2:
        return math.nan
    if float(np.ptp(values)) <= ROUNDING:
        return 0.0
    return float(np.std(values, ddof=1) / math.sqrt(len(values)))


def holm(p: Sequence[float]) -> list[float]:
    """P values corrected for their number by Holm's step-down method, in the order given."""
    order = np.argsort(p, kind="stable")
    adjusted = np.empty(len(p))
    steps = (len(p) - np.arange(len(p))) * np.asarray(p, dtype=np.float64)[order]
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return [float(value) for value in adjusted]


def signed_rank_p(differences: Floats) -> float:
    """Exact two-sided p of Wilcoxon's signed-rank test; 1 where all differences are zero.

    Ties share their mean rank and zeros keep theirs (Pratt), with the null distribution of just those
    ranks: AUROCs of few images are equal often. Differences within 1e-12 are equal.
    """
    values = np.round(np.asarray(differences, dtype=np.float64), 12)
    doubled = np.rint(2 * stats.rankdata(np.abs(values))).astype(int)  # mean ranks are whole or half
    doubled, positive = doubled[values != 0], values[values != 0] > 0
    if not len(doubled):
        return 1.0
    chance = np.zeros(doubled.sum() + 1)  # of each sum of the ranks that happen to be positive
    chance[0] = 1.0
    for rank in doubled:
        chance /= 2
        chance[rank:] += chance[: len(chance) - rank].copy()
    at = int(doubled[positive].sum())
    return min(1.0, 2 * float(min(chance[: at + 1].sum(), chance[at:].sum())))


def friedman_p(values: Floats) -> float:
    """P of Friedman's test; NaN with fewer than three treatments or two categories, or nothing but ties."""
    n, k = values.shape
    testable = n >= 2 and k >= 3 and bool(np.any(np.ptp(values, axis=1) > 0))
    return float(stats.friedmanchisquare(*values.T).pvalue) if testable else float("nan")


def rank(values: Floats) -> Ranking:
    """Friedman's test and all pairs after it.

    Parameters
    ----------
    values : array of shape (n_categories, n_treatments)
        Higher is better; finite.
    """
    ranks = stats.rankdata(-values, axis=1).mean(axis=0)
    pairs = list(itertools.combinations(range(values.shape[1]), 2))
    corrected = holm([signed_rank_p(values[:, i] - values[:, j]) for i, j in pairs])
    return Ranking(ranks, friedman_p(values), dict(zip(pairs, corrected, strict=True)))
