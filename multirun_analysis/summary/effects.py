"""Which group matters: shares of variance, marginal means, best configurations, accuracy against time."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from multirun_analysis.stats.intervals import LEVEL, SEED, Floats, Interval, bootstrap
from multirun_analysis.summary.configurations import Best, best, configurations, pareto
from multirun_analysis.summary.factorial import CATEGORY, Factorial, full_factorial, variance_shares
from multirun_analysis.summary.study import Study

SHARE_RESAMPLES = 400
POINTS = 100.0


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


def effects(study: Study) -> Effects:
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

    The intervals lean upward: categories drawn twice make what differs between categories look shared.
    """
    values, last = factorial.values, factorial.values.ndim - 1
    found = variance_shares(values)
    drawn = _drawn_shares(values, list(found))
    made = []
    for index, (axes, share) in enumerate(found.items()):
        names = tuple(factorial.factors[axis] for axis in axes)
        if axes == (last,):
            made.append(Share(names, share, None))
            continue
        low, high = np.nanquantile(drawn[:, index], [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
        within = share / (1 - found[last,]) if found[last,] < 1 else float("nan")
        made.append(Share(names, share, Interval(within, float(low), float(high))))
    return tuple(sorted(made, key=lambda share: -(share.within.value if share.within else -1.0)))


def marginals(factorial: Factorial) -> tuple[Marginal, ...]:
    """Every choice's mean over the full grid, its effect taken within each category."""
    made = []
    for axis, (factor, choices) in enumerate(zip(factorial.factors, factorial.choices, strict=True)):
        if factor == CATEGORY:
            continue
        others = tuple(i for i in range(factorial.values.ndim - 1) if i != axis)
        by_category = factorial.values.mean(axis=others).T  # categories x choices
        centred = POINTS * (by_category - by_category.mean(axis=1, keepdims=True))
        for index, choice in enumerate(choices):
            effect = bootstrap(centred[:, [index]], lambda means: means[..., 0])
            made.append(Marginal(factor, choice, float(by_category[:, index].mean()), effect))
    return tuple(made)


def _drawn_shares(values: Floats, keys: list[tuple[int, ...]]) -> Floats:
    """Shares within categories over resampled categories; shape (resamples, keys)."""
    last, n = values.ndim - 1, values.shape[-1]
    draws = np.random.default_rng(SEED).integers(n, size=(SHARE_RESAMPLES, n))
    drawn = []
    for draw in draws:
        found = variance_shares(values[..., draw])
        own = 1 - found[last,]
        drawn.append([found[key] / own if own > 0 else np.nan for key in keys])
    return np.array(drawn)
