"""Which group matters: shares of variance, marginal means, best configurations, accuracy against time."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd

from multirun_analysis.stats.intervals import POINTS, Interval, mean_interval
from multirun_analysis.stats.resampling import jackknife_ends
from multirun_analysis.summary.configurations import Best, best, configurations, pareto
from multirun_analysis.summary.factorial import CATEGORY, Factorial, full_factorial, variance_shares
from multirun_analysis.summary.study import DetectionStudy


@dataclass(frozen=True)
class Share:
    """What one group, or the interaction of two, accounts for.

    Attributes
    ----------
    of_all
        Share of all variance, the categories' own difficulty included.
    within
        Share of the variance within categories, with its interval over categories; None for the categories.
    """

    factors: tuple[str, ...]
    of_all: float
    within: Interval | None


@dataclass(frozen=True)
class Marginal:
    """A choice averaged over all others: its mean AUROC, and its difference to the mean, in points."""

    factor: str
    choice: str
    auroc: float
    effect: Interval


@dataclass(frozen=True)
class Effects:
    """Everything of a study; ``factorial`` is None where no full grid ran, ``best`` where nothing did."""

    factorial: Factorial | None
    shares: tuple[Share, ...]
    marginals: tuple[Marginal, ...]
    configurations: pd.DataFrame
    best: Best | None
    front: pd.DataFrame


def effects(study: DetectionStudy) -> Effects:
    """Work out all effects of a study."""
    factorial = full_factorial(study)
    rows = configurations(study)
    return Effects(
        factorial,
        shares(factorial) if factorial else (),
        marginals(factorial) if factorial else (),
        rows,
        best(rows, study.categories) if len(rows) else None,
        pareto(rows),
    )


def shares(factorial: Factorial) -> tuple[Share, ...]:
    """Shares of each factor and each pair, the largest within categories first, the categories last.

    The shares are those of the categories seen: chance differences among few of them make what is common to
    categories look larger. The intervals are of categories in general, by the jackknife over categories
    (Student's t of the pseudo-values of the share's logit), which takes that out; so a share can lie at its
    interval's upper end, or above. NaN where a share is 0 or 1.
    """
    values, last = factorial.values, factorial.values.ndim - 1
    found = variance_shares(values)
    within = _within(found, last)
    without = [
        _within(variance_shares(np.delete(values, category, axis=last)), last)
        for category in range(values.shape[last] if values.shape[last] > 2 else 0)
    ]
    shares = []
    for axes, share in found.items():
        names = tuple(factorial.factors[axis] for axis in axes)
        if axes == (last,):
            shares.append(Share(names, share, None))
            continue
        low, high = jackknife_ends(within[axes], np.array([each[axes] for each in without]))
        shares.append(Share(names, share, Interval(within[axes], low, high)))
    return tuple(sorted(shares, key=lambda share: -(share.within.value if share.within else -1.0)))


def marginals(factorial: Factorial) -> tuple[Marginal, ...]:
    """Every choice's mean over the full grid, its effect taken within each category."""
    marginals = []
    for axis, (factor, choices) in enumerate(zip(factorial.factors, factorial.choices, strict=True)):
        if factor == CATEGORY:
            continue
        others = tuple(i for i in range(factorial.values.ndim - 1) if i != axis)
        by_category = factorial.values.mean(axis=others).T  # categories x choices
        centred = POINTS * (by_category - by_category.mean(axis=1, keepdims=True))
        for index, choice in enumerate(choices):
            interval = mean_interval(centred[:, index])
            marginals.append(Marginal(factor, choice, float(by_category[:, index].mean()), interval))
    return tuple(marginals)


def _within(found: dict[tuple[int, ...], float], last: int) -> dict[tuple[int, ...], float]:
    """Shares of what is not between categories."""
    total = 1 - found[last,]
    return {axes: share / total if total > 0 else math.nan for axes, share in found.items()}
