"""DeLong's method against all pairs, scikit-learn, the bootstrap and values worked out by hand."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn.metrics import roc_auc_score

from multirun_analysis.stats.delong import area, compared
from multirun_analysis.stats.intervals import Floats


def kernel(bad: Floats, good: Floats) -> Floats:
    """1 for each pair in order, 1/2 for a tie."""
    return np.where(bad[:, None] > good, 1.0, np.where(bad[:, None] == good, 0.5, 0.0))


def brute_covariance(scorings: Floats, labels: Floats) -> Floats:
    """S10 / m + S01 / n of DeLong et al., from all pairs."""
    pairs = [kernel(scores[labels == 1], scores[labels == 0]) for scores in scorings]
    s10 = np.cov([each.mean(axis=1) for each in pairs])
    s01 = np.cov([each.mean(axis=0) for each in pairs])
    m, n = pairs[0].shape
    return np.asarray(s10 / m + s01 / n)


tied = st.integers(2, 9).flatmap(
    lambda m: st.integers(2, 9).flatmap(
        lambda n: st.tuples(
            st.just(m),
            *(st.lists(st.integers(-4, 4).map(float), min_size=m + n, max_size=m + n) for _ in range(2)),
        )
    )
)


@settings(max_examples=200, deadline=None)
@given(tied)
def test_ties_and_all_against_all_pairs(case: tuple[int, list[float], list[float]]) -> None:
    m, first, second = case
    labels = np.array([1] * m + [0] * (len(first) - m))
    scorings = np.array([first, second])
    covariance = brute_covariance(scorings, labels)
    found = compared(first, second, labels)
    for own, scores, variance in zip((found.first, found.second), scorings, np.diag(covariance), strict=True):
        assert own.value == pytest.approx(roc_auc_score(labels, scores), abs=1e-12)
        assert own.variance == pytest.approx(variance, abs=1e-12)
        assert repr(own) == repr(area(scores, labels))  # NaN too
    expected = covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1]
    assert found.difference.value == pytest.approx(found.first.value - found.second.value, abs=1e-12)
    assert found.difference.variance == pytest.approx(expected, abs=1e-12)
    if found.difference.variance > 0:
        z = found.difference.value / math.sqrt(expected)
        assert found.p == pytest.approx(2 * stats.norm.cdf(-abs(z)), rel=1e-6)
    # Turned round, it is the same test of the opposite difference.
    other = compared(second, first, labels)
    assert other.difference.value == -found.difference.value
    assert other.p == pytest.approx(found.p, nan_ok=True)
    # As are other images' order and any increasing change of the scores.
    shuffled = np.random.default_rng(0).permutation(len(labels))
    assert compared(np.exp(scorings[0])[shuffled], scorings[1][shuffled], labels[shuffled]).p == (
        pytest.approx(found.p, nan_ok=True)
    )


def test_worked_out_by_hand() -> None:
    # Anomalous 3, 5, 5; good 1, 3. Of the anomalous, each's share of good below: (1 + 1/2)/2, 1, 1; of the
    # good, each's share of anomalous above: 1, (1/2 + 1 + 1)/3.
    labels = [1, 1, 1, 0, 0]
    found = area([3, 5, 5, 1, 3], labels)
    assert found.value == pytest.approx(11 / 12)
    s10 = Fraction(1, 2) * (Fraction(1, 6) ** 2 + 2 * Fraction(1, 12) ** 2)
    s01 = 2 * Fraction(1, 12) ** 2
    assert found.variance == pytest.approx(float(s10 / 3 + s01 / 2))
    # On the logit scale: ln 11, with the standard error sd / (11/12 * 1/12).
    half = 1.959963984540054 * math.sqrt(found.variance) * 144 / 11
    ends = [1 / (1 + math.exp(-logit)) for logit in (math.log(11) - half, math.log(11) + half)]
    assert [found.low, found.high] == pytest.approx(ends)
    # Against 3, 1, 5; good 2, 4: shares 1/2, 0, 1 and 2/3, 1/3.
    both = compared([3, 5, 5, 1, 3], [3, 1, 5, 2, 4], labels)
    assert both.difference.value == pytest.approx(11 / 12 - 1 / 2)
    bad, good = np.array([1 / 4, 1, 0]), np.array([1 / 3, 1 / 2])
    assert both.difference.variance == pytest.approx(bad.var(ddof=1) / 3 + good.var(ddof=1) / 2)


def test_the_variance_is_about_that_of_the_bootstrap() -> None:
    rng = np.random.default_rng(1)
    labels = np.repeat([1, 0], [90, 60])
    first = rng.normal(size=150) + labels
    second = first + rng.normal(size=150)
    found = compared(first, second, labels)
    drawn = []
    for _ in range(2000):
        rows = np.concatenate([rng.integers(0, 90, 90), rng.integers(90, 150, 60)])
        areas = [kernel(s[rows[:90]], s[rows[90:]]).mean() for s in (first, second)]
        drawn.append((*areas, areas[0] - areas[1]))
    for own, deviation in zip(
        (found.first, found.second, found.difference), np.std(drawn, axis=0, ddof=1), strict=True
    ):
        assert math.sqrt(own.variance) == pytest.approx(deviation, rel=0.08)
    difference = found.difference
    assert difference.high - difference.value == pytest.approx(
        1.96 * math.sqrt(difference.variance), rel=1e-3
    )
    assert found.first.high - found.first.value < found.first.value - found.first.low  # nearer to 1


def test_the_test_keeps_its_level() -> None:
    rng = np.random.default_rng(2)
    labels = np.repeat([1, 0], 40)
    p = []
    for _ in range(600):
        common = rng.normal(size=80) + labels
        p.append(compared(common + rng.normal(size=80), common + rng.normal(size=80), labels).p)
    assert 0.03 < np.mean(np.array(p) < 0.05) < 0.08


def test_where_there_is_no_variance() -> None:
    labels = [1, 1, 0, 0, 0]
    perfect, constant = [5, 4, 3, 2, 1], [7, 7, 7, 7, 7]
    found = area(constant, labels)
    assert (found.value, found.variance) == (0.5, 0.0)
    assert math.isnan(found.low)
    assert compared(perfect, [50, 44, 3, 2, 2], labels).p == 1.0
    assert math.isnan(compared(perfect, constant, labels).p)
    # Different scores that rank alike: not different, though far from perfect.
    found_pair = compared([1, 4, 3, 2, 0], [10, 40, 30, 20, 0], labels)
    assert (found_pair.p, found_pair.difference.variance) == (1.0, 0.0)
    assert found_pair.first.variance > 0


@pytest.mark.parametrize(("m", "n"), [(2, 3), (20, 60), (141, 20)])
@pytest.mark.parametrize("level", [0.9, 0.95])
def test_at_an_area_of_1_the_interval_is_newcombes(m: int, n: int, level: float) -> None:
    """The AUROCs that are z standard deviations from 1, by Hanley and McNeil's variance, found by halving."""
    labels = [1] * m + [0] * n
    perfect = area(range(m + n, 0, -1), labels, level=level)
    assert (perfect.value, perfect.variance, perfect.high) == (1.0, 0.0, 1.0)
    z, mean = stats.norm.isf((1 - level) / 2), (m + n) / 2

    def within_reach(a: float) -> bool:
        q1, q2 = a / (2 - a), 2 * a * a / (1 + a)
        return (1 - a) ** 2 <= z * z * (a * (1 - a) + (mean - 1) * (q1 + q2 - 2 * a * a)) / (m * n)

    low, high = 0.0, 1.0 - 1e-9
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (low, middle) if within_reach(middle) else (middle, high)
    assert perfect.low == pytest.approx(low, abs=1e-9)
    inverted = area(range(m + n), labels, level=level)
    assert (inverted.value, inverted.low) == (0.0, 0.0)
    assert inverted.high == pytest.approx(1 - perfect.low, abs=1e-12)


@pytest.mark.parametrize("truth", [0.9, 0.99])
def test_intervals_cover_near_1(truth: float) -> None:
    """20 good and 60 anomalous images: a true .92 fails once in 10^7; the plain one covers .89 and .74."""
    rng = np.random.default_rng(6)
    labels = np.repeat([1, 0], [60, 20])
    apart = math.sqrt(2) * stats.norm.ppf(truth)
    areas = [area(rng.normal(size=80) + apart * labels, labels) for _ in range(1000)]
    assert sum(a.low <= truth <= a.high for a in areas) >= stats.binom.ppf(1e-7, 1000, 0.92)
    assert all(0 <= a.low < a.value <= a.high <= 1 for a in areas)


def test_one_image_of_a_class() -> None:
    found = compared([3, 1, 2], [1, 2, 3], [1, 0, 0])
    assert found.first.value == 1.0
    assert all(math.isnan(x) for x in (found.first.variance, found.difference.low, found.p))


@pytest.mark.parametrize(
    ("scores", "labels", "message"),
    [
        ([1, 2], [1, 1], "one class is missing"),
        ([1, 2], [0, 0], "one class is missing"),
        ([1, 2], [1, 0, 0], "vectors of one length"),
        ([1, math.nan], [1, 0], "finite"),
    ],
)
def test_what_is_no_scoring(scores: list[float], labels: list[int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        area(scores, labels)
