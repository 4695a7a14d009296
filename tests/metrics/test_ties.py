"""Scores that differ by rounding only are ties, and others are none, whatever the rest of the scores is."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise
from typing import get_args

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from anomaly_sweep.errors import EstimatorError
from anomaly_sweep.metrics.ranking import ranking_metrics
from anomaly_sweep.metrics.ties import TIE_RESOLUTION, ScoreScale, settle_ties

SCALES = get_args(ScoreScale)
FINITE = st.floats(-1e6, 1e6, allow_subnormal=False)
NEAR_ONE = st.sampled_from([1.0, 1.0 + 2**-45, 1.0 - 2**-44, 0.0, 1e-13])


def rows(elements: st.SearchStrategy[float], least: int = 2) -> st.SearchStrategy[np.ndarray]:
    return st.integers(least, 30).flatmap(lambda n: arrays(np.float64, n, elements=elements))


def auroc(scores: np.ndarray, labels: np.ndarray, scale: ScoreScale) -> float:
    return float(ranking_metrics(settle_ties(scores, scale), labels).auroc)


def groups(scores: np.ndarray, scale: ScoreScale) -> list[int]:
    """Which scores are ties, as whole numbers in order of size."""
    return np.unique(settle_ties(scores, scale), return_inverse=True)[1].tolist()


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("outliers", [[1e14], [1e14, 1e10], [-1e14], [1e14, -1e14, 1e300]])
def test_outliers_make_no_ties(scale: ScoreScale, outliers: list[float]) -> None:
    """A flow's scores span ten decades and more: the small ones are still different from each other."""
    if scale == "ratio":
        outliers = np.abs(outliers).tolist()
    scores = np.concatenate([np.linspace(1, 2, 20), np.linspace(2.1, 4, 20), outliers])
    labels = np.repeat([0, 1, 1], [20, 20, len(outliers)])
    plain = float(ranking_metrics(scores, labels).auroc)
    assert auroc(scores, labels, scale) == plain
    assert len(set(settle_ties(scores, scale))) == len(set(scores))
    if min(outliers) > 0:
        assert plain == 1.0


@pytest.mark.parametrize("scale", SCALES)
@given(scores=rows(st.one_of(FINITE, NEAR_ONE)))
def test_settled_scores(scale: ScoreScale, scores: np.ndarray) -> None:
    scores = np.abs(scores) if scale == "ratio" else scores
    settled = settle_ties(scores, scale)
    assert set(settled) <= set(scores)
    assert (settled <= scores).all()
    order = np.argsort(scores, kind="stable")
    assert (np.diff(settled[order]) >= 0).all()
    if scale == "ratio":
        np.testing.assert_array_equal(settle_ties(settled, scale), settled)


@given(rows(st.one_of(FINITE, NEAR_ONE)).map(np.abs))
def test_the_gap_of_distances_is_a_share_of_the_pair(scores: np.ndarray) -> None:
    """Counted out in exact arithmetic, pair by pair."""
    ordered = sorted(scores.tolist())
    expected = [0]
    for low, high in pairwise(ordered):
        apart = Fraction(high) - Fraction(low) > Fraction(TIE_RESOLUTION) * Fraction(high)
        expected.append(expected[-1] + apart)
    assert sorted(groups(scores, "ratio")) == expected


@pytest.mark.parametrize("scale", SCALES)
@given(
    exact=rows(st.integers(0, 50).map(float), least=3),
    seed=st.integers(0, 2**32 - 1),
    exponent=st.integers(-20, 20),
    offset=st.sampled_from([0.0, -17.0, 1e3]),
)
def test_rounding_errors_do_not_break_ties(
    scale: ScoreScale, exact: np.ndarray, seed: int, exponent: int, offset: float
) -> None:
    """Whatever the values: a grid would have edges that some of these fall on both sides of."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, len(exact))
    assume(0 < labels.sum() < len(labels))
    if scale == "interval":
        exact = exact + offset
        # Noise as the rule allows for: of a score's size, of its distance from the median, of the usual one.
        # Where most scores are equal there is no usual distance, and nothing tells noise from a difference.
        distance = np.abs(exact - np.median(exact))
        size = np.maximum(np.abs(exact), np.maximum(distance, np.median(distance)))
        assume(np.median(distance) > 0)
    else:
        size = exact
    exact, size = exact * 10.0**exponent, size * 10.0**exponent
    noisy = exact + rng.uniform(-1, 1, len(exact)) * 1e-14 * size
    assert auroc(noisy, labels, scale) == float(ranking_metrics(exact, labels).auroc)


@given(rows(st.floats(0, 1e6, allow_subnormal=False)), st.integers(-60, 60))
def test_distances_may_be_scaled(scores: np.ndarray, exponent: int) -> None:
    assume(scores[scores > 0].min(initial=1.0) > 1e-200)
    assert groups(scores * 2.0**exponent, "ratio") == groups(scores, "ratio")


@given(rows(FINITE, least=3), rows(st.floats(0, 1e300), least=1))
def test_no_other_score_changes_what_two_distances_are(some: np.ndarray, others: np.ndarray) -> None:
    scores = np.abs(some)
    apart = len(set(settle_ties(scores, "ratio")))
    together = settle_ties(np.concatenate([scores, others]), "ratio")[: len(scores)]
    # Others may fall between two and join them into one run, but they part none.
    assert len(set(together)) <= apart
    far = np.concatenate([scores, scores.max() * 2 + 1 + others])
    assert len(set(settle_ties(far, "ratio")[: len(scores)])) == apart


@given(
    whole=rows(st.integers(-8, 8).map(float), least=3),
    seed=st.integers(0, 2**32 - 1),
    exponent=st.integers(-60, 60),
    shift=st.integers(-8, 8),
)
def test_log_densities_may_be_scaled_and_shifted(
    whole: np.ndarray, seed: int, exponent: int, shift: int
) -> None:
    """By sums that are exact: others change the last digits of the scores themselves."""
    rng = np.random.default_rng(seed)
    whole[:2] = [-2.0, 2.0]  # not all of them are equal
    scores = np.concatenate([whole, whole + rng.integers(0, 64, len(whole)) * 2.0**-44])
    assume(np.median(np.abs(scores - np.median(scores))) >= 0.5)
    expected = groups(scores, "interval")
    assert groups(scores * 2.0**exponent, "interval") == expected
    assert groups(scores + shift, "interval") == expected


def test_log_densities_about_zero_are_told_apart_by_their_spread() -> None:
    """A share of the pair's own size would find no tie where terms of size 1 cancel."""
    scores = np.array([-3.0, -1.0, 1e-16, -1e-16, 2.0, 5.0])
    assert len(set(settle_ties(scores, "interval"))) == 5
    assert len(set(settle_ties(np.abs(scores), "ratio"))) == 5  # |1e-16| twice


def test_distinct_scores_stay_distinct() -> None:
    for scale in SCALES:
        scores = 1 + np.arange(50) * 1e-11
        assert len(np.unique(settle_ties(scores, scale))) == 50
        assert len(np.unique(settle_ties(1 + np.arange(50) * 1e-14, scale))) == 1


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("shape", [(3,), (2, 3), (2, 1), (1,)])
def test_zeros_and_shapes(scale: ScoreScale, shape: tuple[int, ...]) -> None:
    assert settle_ties(np.zeros(shape), scale).shape == shape
    assert not settle_ties(np.zeros(shape), scale).any()


@pytest.mark.parametrize("scale", SCALES)
def test_rows_are_settled_by_themselves(scale: ScoreScale) -> None:
    rng = np.random.default_rng(0)
    scores = rng.integers(1, 9, (4, 3, 25)) * np.logspace(-8, 8, 4)[:, None, None]
    scores *= 1 + rng.uniform(-1, 1, scores.shape) * 1e-14
    settled = settle_ties(scores, scale)
    for i, j in np.ndindex(4, 3):
        np.testing.assert_array_equal(settled[i, j], settle_ties(scores[i, j], scale))
        assert len(set(settled[i, j])) == len(set(np.round(scores[i, j] / scores[i, j].max(), 6)))


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_no_number_is_refused(scale: ScoreScale, bad: float) -> None:
    with pytest.raises(EstimatorError, match="1 of 3 scores are NaN or infinite"):
        settle_ties([1.0, bad, 2.0], scale)


@pytest.mark.parametrize("scale", SCALES)
def test_the_largest_numbers(scale: ScoreScale) -> None:
    largest = np.finfo(np.float64).max
    scores = np.array([0.0, 1.0, 2.0, 4.0, 5.0, largest, largest * (1 - 2**-45)])
    assert groups(scores, scale) == [0, 1, 2, 3, 4, 5, 5]
    assert groups(np.array([-largest, 0.0, largest]), "interval") == [0, 1, 2]
