"""What the runs say of a statement: a figure, its interval over categories, and a verdict.

A statement is that one or several mean differences are on the right side of a bound. It *holds* where each of
them is (an intersection-union test: each at the level itself) and *does not hold* where one of them is on the
wrong side (each corrected for their number). All else is undecided: that a difference was not seen is no
proof that there is none. Statements that are checked together are corrected together, by Holm's method.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from multirun_analysis.stats.intervals import (
    LEVEL,
    POINTS,
    Floats,
    Interval,
    holm,
    least_interval,
    p_above,
    p_all_above,
    p_one_below,
    ratio_interval,
)
from multirun_analysis.summary.category_matrix import Lacking, category_matrix
from multirun_analysis.summary.study import DetectionStudy

HOLDS = "holds"
FAILS = "does not hold"
UNDECIDED = "undecided"
NOT_ENOUGH = "not enough runs"

#: With fewer categories than this there is no verdict: t then rests on the differences being normal.
MIN_CATEGORIES = 8
#: How often a verdict among those given together may be wrong.
ALPHA = 1 - LEVEL

#: Where the figures have to be: above the bound, below it, or nearer to 0 than it.
Side = Literal["above", "below", "within"]


@dataclass(frozen=True)
class Statement:
    """What is the same whatever the runs say.

    Attributes
    ----------
    name, text
        Its key and its words.
    published
        The paper's own figure, in points where it is a difference.
    setting
        The choices it is checked at, and what the figure is.
    bound, side
        Where the figures have to be for it to hold.
    unit
        Of the figure and its bound: ``points`` (0.01 of the metric) or ``times`` (a ratio).
    """

    name: str
    text: str
    published: str
    setting: str = ""
    bound: float = 0.0
    side: Side = "above"
    unit: str = "points"

    @property
    def asked(self) -> str:
        """The bound in words."""
        figure = f"{self.bound:g}{' times' if self.unit == 'times' else ''}"
        return {"above": f"> {figure}", "below": f"< {figure}", "within": f"\N{PLUS-MINUS SIGN}{figure}"}[
            self.side
        ]


@dataclass(frozen=True)
class Claim:
    """A statement and what the runs say of it.

    Attributes
    ----------
    statement
        The statement.
    interval
        The figure with its 95 % interval over categories, this statement taken alone; None where trials
        lack. Of several differences the one that is nearest to (or farthest over) the bound.
    categories
        How many stand behind it.
    p_holds, p_fails
        One-sided p against the statement not holding, and against its not failing; NaN where there is none.
    holm_p
        Two-sided, corrected for the statements checked together.
    verdict, why
        What it comes to, and the reason where it is neither that it holds nor that it does not.
    """

    statement: Statement
    interval: Interval | None
    categories: int
    verdict: str
    why: str
    p_holds: float = math.nan
    p_fails: float = math.nan
    holm_p: float = math.nan

    @property
    def p(self) -> float:
        """Two-sided p of the figure being at its bound, this statement taken alone."""
        return float(np.minimum(1.0, 2 * np.minimum(self.p_holds, self.p_fails)))  # NaN stays


def check(
    study: DetectionStudy,
    statement: Statement,
    dimension: str,
    names: Sequence[str],
    at: dict[str, str],
    differences: Callable[[Floats], Floats],
    *,
    average_over: str | None = None,
    of: tuple[str, ...] | None = None,
) -> Claim:
    """A statement on AUROCs at several choices of a dimension.

    Parameters
    ----------
    names
        The choices.
    differences
        Maps AUROCs of shape (categories, choices) to the differences that the statement is on, of shape
        (categories, differences).
    average_over, of
        See `category_matrix`.
    """
    found = category_matrix(study, dimension, names, at, average_over=average_over, of=of)
    if isinstance(found, Lacking):
        return without(statement, found.why)
    return judge(statement, differences(found.values))


def judge(statement: Statement, differences: Floats) -> Claim:
    """What differences say of a statement, before it is decided (see `together`).

    Parameters
    ----------
    differences : array of shape (categories, differences)
        Of the metric, not in points.
    """
    parts, bound = oriented(POINTS * differences, statement)
    least = least_interval(parts)
    return _open(
        statement, _turned(least, statement), len(parts), p_all_above(parts, bound), p_one_below(parts, bound)
    )


def judge_ratio(statement: Statement, over: Floats, under: Floats) -> Claim:
    """As `judge`, of the ratio of two sums over the categories being above the bound."""
    excess = over - statement.bound * under
    return _open(
        statement, ratio_interval(over, under), len(excess), p_above(excess, 0.0), p_above(-excess, 0.0)
    )


def oriented(differences: Floats, statement: Statement) -> tuple[Floats, float]:
    """Differences in points as parts that all have to be above a bound, and that bound."""
    if statement.side == "above":
        return differences, statement.bound
    if statement.side == "below":
        return -differences, -statement.bound
    return np.hstack([statement.bound - differences, statement.bound + differences]), 0.0


def together(claims: Sequence[Claim]) -> list[Claim]:
    """Decide statements that are checked together: at most 5 % of such lists hold a wrong verdict.

    Holm's method over the two-sided p of all that have one.
    """
    tested = [i for i, claim in enumerate(claims) if not math.isnan(claim.p)]
    corrected = dict(zip(tested, holm([claims[i].p for i in tested]), strict=True))
    return [_decided(claim, corrected.get(i, math.nan)) for i, claim in enumerate(claims)]


def without(statement: Statement, why: str) -> Claim:
    """A statement for which trials lack."""
    return Claim(statement, None, 0, NOT_ENOUGH, why)


def _open(statement: Statement, figure: Interval, categories: int, p_holds: float, p_fails: float) -> Claim:
    return Claim(statement, figure, categories, UNDECIDED, "not decided yet", p_holds, p_fails)


def _turned(least: Interval, statement: Statement) -> Interval:
    """The least of the oriented parts as the figure of the statement."""
    if statement.side == "above":
        return least
    shift = statement.bound if statement.side == "within" else 0.0
    value, low, high = (shift - end for end in (least.value, least.high, least.low))
    return Interval(value, max(low, 0.0) if statement.side == "within" else low, high)


def _decided(claim: Claim, holm_p: float) -> Claim:
    if claim.interval is None:
        return claim
    claim = replace(claim, holm_p=holm_p)
    if claim.categories < MIN_CATEGORIES:
        why = f"{claim.categories} categories; a verdict needs at least {MIN_CATEGORIES}"
        return replace(claim, verdict=NOT_ENOUGH, why=why)
    if holm_p <= ALPHA:
        return replace(claim, verdict=HOLDS if claim.p_holds < claim.p_fails else FAILS, why="")
    alone = f"; p alone is {claim.p:.3f}" if claim.p <= ALPHA else ""
    why = f"not told from {claim.statement.bound:g} among the statements checked together{alone}"
    return replace(claim, verdict=UNDECIDED, why=why)
