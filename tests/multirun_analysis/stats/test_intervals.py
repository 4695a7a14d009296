"""Intervals and ranks against scipy, statsmodels and formulas."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from multirun_analysis.stats.intervals import (
    Interval,
    apart_interval,
    holm,
    least_interval,
    mean_interval,
    p_above,
    p_all_above,
    p_one_below,
    rank,
    ratio_interval,
    signed_rank_p,
)


def test_the_interval_is_scipys() -> None:
    values = np.random.default_rng(3).normal(size=15)
    for level in (0.8, 0.95):
        theirs = stats.ttest_1samp(values, 0).confidence_interval(level)
        ours = mean_interval(values, level=level)
        assert (ours.value, ours.low, ours.high) == pytest.approx((values.mean(), theirs.low, theirs.high))
    one = mean_interval(np.array([0.3]))
    assert one.value == 0.3
    assert np.isnan([one.low, one.high]).all()


def test_the_interval_of_other_categories_is_welchs() -> None:
    rng = np.random.default_rng(3)
    first, second = rng.normal(size=15), rng.normal(1, 3, size=6)
    theirs = stats.ttest_ind(second, first, equal_var=False).confidence_interval()
    ours = apart_interval(first, second)
    assert (ours.value, ours.low, ours.high) == pytest.approx(
        (second.mean() - first.mean(), theirs.low, theirs.high)
    )
    assert apart_interval(np.ones(3), np.zeros(4)) == Interval(-1.0, -1.0, -1.0)
    assert np.isnan(apart_interval(first, second[:1]).low)


@given(st.integers(2, 15), st.integers(0, 10**6))
def test_the_interval_of_a_ratio_holds_what_is_not_told_from_it(n: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    under = rng.lognormal(size=n)
    over = under * rng.lognormal(2, 0.5, size=n)
    found = ratio_interval(over, under)
    assert found.value == pytest.approx(over.sum() / under.sum())
    if np.isfinite(found.low):
        assert found.low <= found.value <= found.high
        for end in (found.low, found.high):
            assert stats.ttest_1samp(over - end * under, 0).pvalue == pytest.approx(0.05, rel=1e-5)
    else:  # the sum below is not told from 0
        assert stats.ttest_1samp(under, 0).pvalue > 0.05 * (1 - 1e-9)
    assert np.isnan(ratio_interval(over[:1], under[:1]).low)


@given(st.integers(1, 5), st.integers(2, 12), st.floats(-1, 1), st.integers(0, 10**6))
def test_the_least_interval_agrees_with_its_p(parts: int, n: int, bound: float, seed: int) -> None:
    values = np.random.default_rng(seed).normal(0.5, 1, size=(n, parts))
    found = least_interval(values)
    above, below = p_all_above(values, bound), p_one_below(values, bound)
    each = [stats.ttest_1samp(part, bound, alternative="greater").pvalue for part in values.T]
    assert above == pytest.approx(max(each))
    assert below == pytest.approx(min(1, parts * min(1 - p for p in each)), abs=1e-12)
    if abs(above - 0.025) > 1e-9:
        assert (above < 0.025) == (found.low > bound)
    if abs(below - 0.025) > 1e-9:
        assert (below < 0.025) == (found.high < bound)
    assert p_above(values[:, 0], bound) == pytest.approx(each[0])


def test_intervals_cover_as_often_as_they_say() -> None:
    """Rates that a true 95 % would miss by chance less than once in 10^7."""
    rng = np.random.default_rng(11)
    for n in (5, 8, 15):
        drawn = [mean_interval(values) for values in rng.normal(size=(1000, n))]
        covered = sum(interval.low <= 0 <= interval.high for interval in drawn)
        assert stats.binom.ppf(1e-7, 1000, 0.95) <= covered <= stats.binom.isf(1e-7, 1000, 0.95)
    least = [least_interval(values) for values in rng.normal(size=(500, 8, 6))]
    covered = sum(interval.low <= 0 <= interval.high for interval in least)
    assert covered >= stats.binom.ppf(1e-7, 500, 0.95)
    # The mean of the least of six is far below 0, its interval is not.
    assert np.mean([interval.value for interval in least]) < -0.3


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_by_its_definition(p: list[float]) -> None:
    def by_hand(index: int) -> float:
        ordered = sorted(range(len(p)), key=lambda i: p[i])
        place = ordered.index(index)
        return min(1.0, max((len(p) - i) * p[ordered[i]] for i in range(place + 1)))

    assert holm(p) == pytest.approx([by_hand(index) for index in range(len(p))], abs=1e-12)


def test_holm_is_that_of_statsmodels() -> None:
    multitest = pytest.importorskip("statsmodels.stats.multitest", reason="statsmodels is not installed")
    p = np.random.default_rng(0).uniform(size=21) ** 3
    assert holm(list(p)) == pytest.approx(list(multitest.multipletests(p, method="holm")[1]))


def test_ranks_and_friedman_by_the_formula() -> None:
    values = np.random.default_rng(5).normal(size=(12, 4)) + np.arange(4) * 0.7
    n, k = values.shape
    order = (-values).argsort(axis=1).argsort(axis=1) + 1
    mean = order.mean(axis=0)
    statistic = 12 * n / (k * (k + 1)) * ((mean - (k + 1) / 2) ** 2).sum()
    ranking = rank(values)
    assert ranking.mean_ranks == pytest.approx(mean)
    assert ranking.mean_ranks.argmin() == 3
    assert ranking.p == pytest.approx(stats.chi2.sf(statistic, k - 1))
    single = {pair: stats.wilcoxon(values[:, pair[0]], values[:, pair[1]]).pvalue for pair in ranking.pairs}
    assert list(ranking.pairs) == [(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)]
    assert list(ranking.pairs.values()) == pytest.approx(holm(list(single.values())))


@given(st.lists(st.integers(-3, 3), min_size=1, max_size=9))
def test_signed_ranks_by_every_choice_of_signs(differences: list[int]) -> None:
    values = np.array(differences, dtype=float) / 7
    ranks = stats.rankdata(np.abs(values)) * (values != 0)
    seen = (ranks * np.sign(values)).sum()
    signs = itertools.product([-1, 1], repeat=len(values))
    by_chance = np.array([(ranks * np.array(sign)).sum() for sign in signs])
    expected = np.mean(np.abs(by_chance) >= abs(seen) - 1e-9)
    assert signed_rank_p(values) == pytest.approx(expected, abs=1e-12)


def test_signed_ranks_are_scipys_where_nothing_is_tied() -> None:
    for seed in range(5):
        values = np.random.default_rng(seed).normal(0.3, 1, size=15)
        assert signed_rank_p(values) == pytest.approx(stats.wilcoxon(values, method="exact").pvalue)
    many = np.random.default_rng(0).normal(0.2, 1, size=120)
    assert signed_rank_p(many) == pytest.approx(stats.wilcoxon(many, method="exact").pvalue)


def test_ties_and_too_little() -> None:
    assert signed_rank_p(np.zeros(9)) == 1.0
    assert signed_rank_p(np.array([0.0, 0.0, 0.0, 1.0])) > 0.2
    same = rank(np.ones((6, 3)))
    assert np.isnan(same.p)
    assert list(same.mean_ranks) == [2, 2, 2]
    assert set(same.pairs.values()) == {1.0}
    assert np.isnan(rank(np.array([[0.1, 0.2]])).p)
    assert np.isnan(rank(np.array([[0.1, 0.2, 0.3]])).p)
