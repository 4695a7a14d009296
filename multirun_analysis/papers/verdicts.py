"""What the runs say of a statement: a figure, its interval over categories, and a verdict."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from multirun_analysis.stats.intervals import Floats, Interval, bootstrap, friedman_p, holm, signed_rank_p
from multirun_analysis.summary.matrix import Lacking, category_matrix
from multirun_analysis.summary.study import Study

HOLDS = "holds"
FAILS = "does not hold"
UNDECIDED = "undecided"
NOT_ENOUGH = "not enough runs"

#: With fewer categories than this, resampling them says nothing of other categories.
MIN_CATEGORIES = 5
POINTS = 100.0


@dataclass(frozen=True)
class Claim:
    """A statement and what the runs say of it.

    Attributes
    ----------
    name, statement
        Its key and its words.
    published
        The paper's own figure, in points where it is a difference.
    setting
        The choices it was checked at, and what the figure is.
    interval
        The figure with its 95 % interval over categories; None where trials lack.
    bound
        The figure has to be above (``above``) or below it for the statement to hold.
    p
        Of the decisive comparison by Wilcoxon's signed ranks, Holm-corrected where there are several.
    friedman_p
        That all choices compared are the same; NaN where there are two.
    unit
        Of the figure and its bound: ``points`` (0.01 of the metric) or ``times`` (a ratio).
    """

    name: str
    statement: str
    published: str
    setting: str
    interval: Interval | None
    bound: float
    above: bool
    categories: int
    verdict: str
    why: str
    p: float = float("nan")
    friedman_p: float = float("nan")
    unit: str = "points"


@dataclass(frozen=True)
class Statement:
    """What is the same whatever the runs say."""

    name: str
    text: str
    published: str
    setting: str = ""
    bound: float = 0.0
    above: bool = True


def verdict(interval: Interval, bound: float, *, above: bool, categories: int) -> tuple[str, str]:
    """What an interval says of "the figure is above (or below) the bound", and why.

    Returns
    -------
    tuple of str
        The verdict: it holds, or does not, where the whole interval lies on one side of the bound; and
        the reason where it is neither.
    """
    if categories < MIN_CATEGORIES:
        return NOT_ENOUGH, f"{categories} categories; an interval needs at least {MIN_CATEGORIES}"
    if interval.low > bound:
        return (HOLDS if above else FAILS), ""
    if interval.high < bound:
        return (FAILS if above else HOLDS), ""
    return UNDECIDED, f"the interval contains {bound:g}"


def check(
    study: Study,
    said: Statement,
    dimension: str,
    names: Sequence[str],
    at: dict[str, str],
    figure: Callable[[Floats], Floats],
    *,
    average_over: str | None = None,
    of: tuple[str, ...] | None = None,
    linear: bool = False,
) -> Claim:
    found = category_matrix(study, dimension, names, at, average_over=average_over, of=of)
    if isinstance(found, Lacking):
        return without(said, found.why)
    values = found.values
    p = pair_p(values) if len(names) == 2 else control_p(values)
    if linear:
        p = signed_rank_p(figure(values))
    return judge(said, values, figure, p)


def judge(said: Statement, values: Floats, figure: Callable[[Floats], Floats], p: float) -> Claim:
    """The verdict on values of shape (categories, choices)."""
    return decide(said, bootstrap(POINTS * values, figure), len(values), p, friedman_p(values))


def decide(
    said: Statement,
    interval: Interval,
    categories: int,
    p: float,
    friedman: float = float("nan"),
    unit: str = "points",
) -> Claim:
    """The verdict on a figure with its interval over categories."""
    decided, why = verdict(interval, said.bound, above=said.above, categories=categories)
    return Claim(
        said.name,
        said.text,
        said.published,
        said.setting,
        interval,
        said.bound,
        said.above,
        categories,
        decided,
        why,
        p,
        friedman,
        unit,
    )


def without(said: Statement, why: str) -> Claim:
    return Claim(
        said.name, said.text, said.published, said.setting, None, said.bound, said.above, 0, NOT_ENOUGH, why
    )


def pair_p(values: Floats) -> float:
    """The smallest of the pairs (0, 1), (2, 3), ... side by side, Holm-corrected."""
    return min(holm([signed_rank_p(values[:, i] - values[:, i + 1]) for i in range(0, values.shape[1], 2)]))


def control_p(values: Floats) -> float:
    """The first choice against the strongest of the others, Holm-corrected among all others."""
    corrected = holm([signed_rank_p(values[:, 0] - values[:, j]) for j in range(1, values.shape[1])])
    return corrected[int(np.argmax(values[:, 1:].mean(axis=0)))]
