"""How sure a difference is that was seen on several categories."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import stats

RESAMPLES = 10_000
SEED = 0
LEVEL = 0.95

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Interval:
    """An estimate and its interval."""

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


def bootstrap(
    values: Floats,
    statistic: Callable[[Floats], Floats],
    *,
    level: float = LEVEL,
    resamples: int = RESAMPLES,
    seed: int = SEED,
) -> Interval:
    """A function of column means, with its percentile interval over resampled categories.

    All columns of a category are drawn together, so that the comparison stays paired.

    Parameters
    ----------
    values : array of shape (n_categories, n_columns)
        Finite.
    statistic
        Maps means of shape ``(..., n_columns)`` to shape ``(...)``.
    level
        Share of the resamples inside the interval, in (0, 1).
    """
    weights = _weights(len(values), resamples, seed)
    drawn = statistic(np.einsum("rn,nk->rk", weights, values))  # too small for threads of a BLAS
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(statistic(values.mean(axis=0))), float(low), float(high))


@lru_cache(maxsize=4)
def _weights(n: int, resamples: int, seed: int) -> Floats:
    """The weight of each of n categories in each resample; rows sum to 1."""
    return np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), size=resamples) / n


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
    for own in doubled:
        chance /= 2
        chance[own:] += chance[: len(chance) - own].copy()
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
