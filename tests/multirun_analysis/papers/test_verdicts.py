"""Verdicts against scipy's tests, values worked out by hand, and truths that are known."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from multirun_analysis.papers.verdicts import (
    ALPHA,
    FAILS,
    HOLDS,
    NOT_ENOUGH,
    UNDECIDED,
    Claim,
    Statement,
    judge,
    judge_ratio,
    together,
    without,
)
from multirun_analysis.stats.intervals import Floats, holm

ABOVE = Statement("a", "above", "", bound=-1.0)
BELOW = Statement("b", "below", "", bound=1.0, side="below")
WITHIN = Statement("w", "within", "", bound=0.1, side="within")
TIMES = Statement("t", "times", "", bound=8.0, unit="times")
#: A simulation is out of bounds by chance less often than this.
CHANCE = 1e-7


def alone(statement: Statement, differences: Floats) -> Claim:
    """The verdict on one statement that is checked by itself; differences in points."""
    (claim,) = together([judge(statement, differences / 100)])
    return claim


def sides(statement: Statement, differences: Floats) -> tuple[float, float]:
    """P that it holds and that it does not, by scipy's one-sided t tests."""

    def p(column: Floats, bound: float, alternative: str) -> float:
        return float(stats.ttest_1samp(column, bound, alternative=alternative).pvalue)

    columns = list(differences.T)
    if statement.side == "above":
        up = [p(c, statement.bound, "greater") for c in columns]
        down = [p(c, statement.bound, "less") for c in columns]
    elif statement.side == "below":
        up = [p(c, statement.bound, "less") for c in columns]
        down = [p(c, statement.bound, "greater") for c in columns]
    else:  # two one-sided tests of each
        up = [p(c, -statement.bound, "greater") for c in columns] + [
            p(c, statement.bound, "less") for c in columns
        ]
        down = [p(c, -statement.bound, "less") for c in columns] + [
            p(c, statement.bound, "greater") for c in columns
        ]
    return max(up), min(1.0, len(down) * min(down))


@pytest.mark.parametrize("statement", [ABOVE, BELOW, WITHIN])
@pytest.mark.parametrize("parts", [1, 3])
def test_p_are_scipys(statement: Statement, parts: int) -> None:
    for seed in range(4):
        rng = np.random.default_rng(seed)
        differences = rng.normal(rng.normal(0, 0.5, parts), 0.7, size=(11, parts))
        claim = alone(statement, differences)
        assert (claim.p_holds, claim.p_fails) == pytest.approx(sides(statement, differences), rel=1e-9)
        assert claim.p == claim.holm_p == min(1.0, 2 * min(claim.p_holds, claim.p_fails))


def test_equivalence_is_that_of_statsmodels() -> None:
    weightstats = pytest.importorskip("statsmodels.stats.weightstats", reason="statsmodels is not installed")
    rng = np.random.default_rng(0)
    before = rng.normal(90, 2, size=10)
    after = before + rng.normal(0.02, 0.05, size=10)
    expected = weightstats.ttost_paired(after, before, -WITHIN.bound, WITHIN.bound)[0]
    assert alone(WITHIN, (after - before)[:, None]).p_holds == pytest.approx(expected)


@settings(deadline=None)
@given(
    st.sampled_from([ABOVE, BELOW, WITHIN]),
    st.integers(1, 4),
    st.integers(8, 15),
    st.floats(-2, 2),
    st.floats(0.01, 3),
    st.integers(0, 10**6),
)
def test_the_verdict_alone_is_where_the_interval_lies(
    statement: Statement, parts: int, n: int, centre: float, spread: float, seed: int
) -> None:
    claim = alone(statement, np.random.default_rng(seed).normal(centre, spread, size=(n, parts)))
    interval = claim.interval
    assert interval is not None
    assert interval.low <= interval.value <= interval.high
    over, under = interval.low > statement.bound, interval.high < statement.bound
    expected = {HOLDS: over, FAILS: under} if statement.side == "above" else {HOLDS: under, FAILS: over}
    decided = next((word for word, true in expected.items() if true), UNDECIDED)
    if abs(claim.p - ALPHA) > 1e-9:
        assert claim.verdict == decided
    assert (claim.why == "") == (decided != UNDECIDED)


def test_figures_by_hand() -> None:
    differences = np.array([[0.0, 3.0], [2.0, 5.0]] * 4)  # means 1 and 4, both of sd sqrt(8/7)
    half = math.sqrt(8 / 7 / 8)
    plain, corrected = (float(stats.t.isf(tail, 7)) * half for tail in (0.025, 0.0125))
    claim = alone(ABOVE, differences)
    assert claim.interval is not None
    assert (claim.interval.value, claim.interval.low, claim.interval.high) == pytest.approx(
        (1, 1 - plain, 1 + corrected)
    )
    claim = alone(BELOW, differences)  # the largest decides
    assert claim.interval is not None
    assert (claim.interval.value, claim.interval.low, claim.interval.high) == pytest.approx(
        (4, 4 - corrected, 4 + plain)
    )
    claim = alone(WITHIN, -differences)  # the larger of the two sizes, each looked at from both sides
    assert claim.interval is not None
    four = float(stats.t.isf(0.025 / 4, 7)) * half
    assert (claim.interval.value, claim.interval.low, claim.interval.high) == pytest.approx(
        (4, 4 - four, 4 + plain)
    )
    assert [statement.asked for statement in (ABOVE, BELOW, WITHIN, TIMES)] == [
        "> -1",
        "< 1",
        "±0.1",
        "> 8 times",
    ]


def test_a_ratio_is_judged_by_the_difference_at_its_bound() -> None:
    rng = np.random.default_rng(4)
    under = rng.uniform(1, 2, size=9)
    over = under * rng.normal(9.5, 1, size=9)
    (claim,) = together([judge_ratio(TIMES, over, under)])
    up, down = (
        float(stats.ttest_1samp(over - 8 * under, 0, alternative=a).pvalue) for a in ("greater", "less")
    )
    assert (claim.p_holds, claim.p_fails) == pytest.approx((up, down))
    assert claim.interval is not None
    assert claim.interval.value == pytest.approx(over.sum() / under.sum())
    assert (claim.verdict == HOLDS) == (claim.interval.low > 8)


def test_statements_are_corrected_together() -> None:
    rng = np.random.default_rng(1)
    claims = [judge(ABOVE, rng.normal(shift, 1, size=(9, 1)) / 100) for shift in (0.0, 1.0, -3.0, 9.0, -0.9)]
    lacking = without(ABOVE, "no trials")
    decided = together([*claims, lacking])
    assert [claim.holm_p for claim in decided[:-1]] == pytest.approx(holm([claim.p for claim in claims]))
    assert decided[-1] == lacking
    assert math.isnan(lacking.p)
    assert lacking.verdict == NOT_ENOUGH
    assert [claim.verdict for claim in decided[2:4]] == [FAILS, HOLDS]
    # What a statement alone would decide is not decided by eleven like it.
    wave = np.array([[1.0], [-1.0]] * 4)  # its mean has the standard error sqrt(1 / 7)
    one = judge(ABOVE, (-1 + 3 * math.sqrt(1 / 7) + wave) / 100)
    assert one.p == pytest.approx(2 * stats.t.sf(3, 7))
    assert together([one])[0].verdict == HOLDS
    many = together([one] * 11)
    assert {claim.verdict for claim in many} == {UNDECIDED}
    assert many[0].why == f"not told from -1 among the statements checked together; p alone is {one.p:.3f}"


def test_few_categories_have_a_figure_and_no_verdict() -> None:
    for n, expected in ((7, NOT_ENOUGH), (8, HOLDS)):
        claim = alone(ABOVE, np.linspace(4, 5, n)[:, None])
        assert claim.verdict == expected
        assert claim.interval is not None
        assert claim.interval.low > 0
    one = alone(ABOVE, np.array([[4.0, 5.0]]))
    assert one.verdict == NOT_ENOUGH
    assert one.interval is not None
    assert one.interval.value == pytest.approx(4.0)
    assert all(math.isnan(x) for x in (one.interval.low, one.interval.high, one.p, one.holm_p))


@pytest.mark.parametrize(
    ("statement", "value", "expected"),
    [
        (WITHIN, 0.0, HOLDS),  # noise that changes nothing at all
        (WITHIN, 0.1, UNDECIDED),  # exactly at the bound
        (WITHIN, -0.3, FAILS),
        (ABOVE, 0.0, HOLDS),
        (ABOVE, -1.0, UNDECIDED),
        (ABOVE, -1.1, FAILS),
        (BELOW, 1.0, UNDECIDED),
    ],
)
def test_differences_without_any_spread(statement: Statement, value: float, expected: str) -> None:
    of_category = np.random.default_rng(0).uniform(0.5, 0.9, size=8)
    same = 100 * ((of_category + value / 100) - of_category)  # equal up to rounding
    assert alone(statement, np.column_stack([same, same])).verdict == expected


# Simulations: a rate may be above what it has to be by chance of 1e-7 only.


def rate(
    statement: Statement, draw: Callable[[np.random.Generator], Floats], times: int = 500
) -> dict[str, int]:
    rng = np.random.default_rng(7)
    words = [alone(statement, draw(rng)).verdict for _ in range(times)]
    return {word: words.count(word) for word in (HOLDS, FAILS, UNDECIDED)}


def most(times: int, share: float) -> int:
    return int(stats.binom.isf(CHANCE, times, share))


@pytest.mark.parametrize("spread", [0.02, 1.0, 4.0])
def test_noise_that_changes_nothing_is_not_found_to_change_something(spread: float) -> None:
    found = rate(WITHIN, lambda rng: rng.normal(0, spread, size=(8, 2)))
    assert found[FAILS] <= most(500, ALPHA / 2)
    if spread == 0.02:  # five standard errors from either bound: t has 7 degrees of freedom
        assert found[HOLDS] > 500 - most(500, 0.01)


@pytest.mark.parametrize("statement", [ABOVE, BELOW, WITHIN])
@pytest.mark.parametrize("parts", [1, 6])
def test_at_the_bound_neither_verdict_comes_often(statement: Statement, parts: int) -> None:
    """Differences that share a choice, as the first against each other one: all exactly at the bound."""

    def draw(rng: np.random.Generator) -> Floats:
        return np.asarray(statement.bound + rng.normal(size=(8, 1)) + rng.normal(size=(8, parts)))

    found = rate(statement, draw)
    assert found[HOLDS] <= most(500, ALPHA / 2)
    assert found[FAILS] <= most(500, ALPHA / 2)


def test_the_best_of_many_equals_is_not_taken_for_better_than_the_first() -> None:
    """Seven equal poolings: the first is as good as the others, whichever of them came out best."""
    best = Statement("best", "", "")

    def draw(rng: np.random.Generator) -> Floats:
        values = rng.normal(size=(8, 7))
        return values[:, :1] - values[:, 1:]

    found = rate(best, draw)
    assert found[FAILS] <= most(500, ALPHA / 2)
    assert found[HOLDS] <= most(500, ALPHA / 2)


def test_a_list_of_statements_at_their_bounds_rarely_holds_a_verdict() -> None:
    rng = np.random.default_rng(3)
    wrong = 0
    for _ in range(150):
        shared = rng.normal(size=(8, 1))
        claims = [judge(ABOVE, (-1 + shared + rng.normal(size=(8, 2))) / 100) for _ in range(11)]
        wrong += any(claim.verdict in (HOLDS, FAILS) for claim in together(claims))
    assert wrong <= most(150, ALPHA)
