"""Intervals and ranks against scipy, statsmodels and formulas."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from multirun_analysis.stats.intervals import Floats, bootstrap, holm, rank, signed_rank_p


def difference(means: Floats) -> Floats:
    return np.asarray(means[..., 1] - means[..., 0])


def test_the_interval_is_scipys_percentile_interval() -> None:
    values = np.random.default_rng(3).normal(size=(15, 2)) * [1, 2] + [0, 0.5]
    ours = bootstrap(values, difference)
    theirs = stats.bootstrap(
        (values[:, 1] - values[:, 0],), np.mean, n_resamples=10_000, method="percentile", rng=1
    ).confidence_interval
    width = theirs.high - theirs.low
    assert ours.value == pytest.approx((values[:, 1] - values[:, 0]).mean())
    assert ours.low == pytest.approx(theirs.low, abs=0.04 * width)
    assert ours.high == pytest.approx(theirs.high, abs=0.04 * width)
    assert bootstrap(values, difference) == ours  # the same seed, the same interval
    assert bootstrap(values, difference, seed=1) != ours


def test_the_comparison_is_paired() -> None:
    of_category = np.random.default_rng(0).normal(size=(15, 1)) * 10
    interval = bootstrap(np.hstack([of_category, of_category + 0.1]), difference)
    assert interval.low == pytest.approx(0.1) and interval.high == pytest.approx(0.1)


def test_the_interval_covers_as_often_as_it_says() -> None:
    rng = np.random.default_rng(11)
    drawn = [bootstrap(rng.normal(size=(30, 2)), difference, resamples=1000) for _ in range(200)]
    covered = sum(interval.low <= 0 <= interval.high for interval in drawn)
    assert 0.88 <= covered / 200 <= 0.99


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
    assert ranking.mean_ranks == pytest.approx(mean) and ranking.mean_ranks.argmin() == 3
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
    assert np.isnan(same.p) and list(same.mean_ranks) == [2, 2, 2] and set(same.pairs.values()) == {1.0}
    assert np.isnan(rank(np.array([[0.1, 0.2]])).p) and np.isnan(rank(np.array([[0.1, 0.2, 0.3]])).p)
