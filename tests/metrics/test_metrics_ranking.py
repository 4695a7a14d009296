"""AUROC against scikit-learn, and how ties are settled."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.metrics import roc_auc_score

from anomaly_sweep.errors import DatasetError, EstimatorError
from anomaly_sweep.metrics.ranking import TIE_RESOLUTION, auroc, aurocs, settle_ties

FINITE = st.floats(-1e6, 1e6, allow_subnormal=False)


def scores_and_labels(
    elements: st.SearchStrategy[float],
) -> st.SearchStrategy[tuple[np.ndarray, np.ndarray]]:
    return st.integers(2, 30).flatmap(
        lambda n: st.tuples(
            arrays(np.float64, n, elements=elements), arrays(np.int64, n, elements=st.integers(0, 1))
        )
    )


def by_pairs(scores: np.ndarray, labels: np.ndarray) -> float:
    """The definition: how often an anomalous score is above a good one, ties counted half."""
    difference = scores[labels == 1][:, None] - scores[labels == 0][None]
    return float(((difference > 0) + 0.5 * (difference == 0)).mean())


@given(scores_and_labels(st.one_of(FINITE, st.sampled_from([0.0, -0.0, 1.0, 2.0]))))
def test_equals_scikit_learn_and_the_definition(case: tuple[np.ndarray, np.ndarray]) -> None:
    scores, labels = case
    assume(0 < labels.sum() < len(labels))
    assert auroc(scores, labels) == pytest.approx(roc_auc_score(labels, scores), abs=1e-14)
    assert auroc(scores, labels) == pytest.approx(by_pairs(scores, labels), abs=1e-14)


def test_known_values() -> None:
    labels = np.array([0, 0, 1, 1])
    assert auroc([1, 2, 3, 4], labels) == 1.0
    assert auroc([4, 3, 2, 1], labels) == 0.0
    assert auroc([1, 1, 1, 1], labels) == 0.5
    assert auroc([1, 3, 2, 4], labels) == 0.75
    assert auroc([1, 2, 2, 3], labels) == 0.875
    assert auroc([1, 2, 3, 4], labels.astype(bool)) == 1.0


def test_rows_are_on_their_own() -> None:
    rng = np.random.default_rng(0)
    scores = rng.integers(0, 6, (7, 20)) * np.logspace(-8, 8, 7)[:, None]
    labels = rng.integers(0, 2, 20)
    for settled in (False, True):
        expected = [auroc(row, labels, settled=settled) for row in scores]
        assert aurocs(scores, labels, settled=settled).tolist() == expected
    np.testing.assert_allclose(expected, [roc_auc_score(labels, row) for row in scores], rtol=1e-14)


@pytest.mark.parametrize("labels", [[0, 0, 0], [1, 1, 1]])
def test_one_class_is_refused(labels: list[int]) -> None:
    with pytest.raises(DatasetError, match="one class is missing"):
        auroc([1.0, 2.0, 3.0], labels)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("settled", [False, True])
def test_scores_that_are_no_numbers_are_refused(bad: float, settled: bool) -> None:
    with pytest.raises(EstimatorError, match="2 of 4 scores are NaN or infinite"):
        auroc([1.0, bad, 3.0, bad], [0, 0, 1, 1], settled=settled)


def test_shapes_must_agree() -> None:
    with pytest.raises(ValueError, match="one length"):
        auroc([1.0, 2.0], [0, 1, 1])
    with pytest.raises(ValueError, match="vector"):
        auroc([[1.0, 2.0]], [0, 1])


@given(scores_and_labels(st.one_of(FINITE, st.sampled_from([1.0, 1.0 + 2**-45, 1.0 - 2**-44, 0.0, 1e-13]))))
def test_settled_scores(case: tuple[np.ndarray, np.ndarray]) -> None:
    scores, labels = case
    settled = settle_ties(scores)
    limit = np.abs(scores).max() * TIE_RESOLUTION
    assert set(settled) <= set(scores)
    assert (settled <= scores).all() and (scores - settled <= limit * len(scores)).all()
    order = np.argsort(scores, kind="stable")
    assert (np.diff(settled[order]) >= 0).all()
    distinct = np.unique(settled)
    assert (np.diff(distinct) > limit).all()
    np.testing.assert_array_equal(settle_ties(settled), settled)
    if 0 < labels.sum() < len(labels):
        assert auroc(scores, labels, settled=True) == auroc(settled, labels)


@given(scores_and_labels(st.integers(-50, 50).map(float)), st.integers(0, 2**32 - 1), FINITE)
def test_rounding_errors_do_not_break_ties(
    case: tuple[np.ndarray, np.ndarray], seed: int, factor: float
) -> None:
    """Whatever the values: a grid would have edges that some of these fall on both sides of."""
    scores, labels = case
    assume(0 < labels.sum() < len(labels) and abs(factor) > 1e-6)
    exact = scores * factor
    noise = np.random.default_rng(seed).uniform(-1, 1, len(scores)) * 1e-14 * np.abs(exact).max()
    assert auroc(exact + noise, labels, settled=True) == auroc(exact, labels)


def test_distinct_scores_stay_distinct() -> None:
    scores = 1 + np.arange(50) * 1e-11
    assert len(np.unique(settle_ties(scores))) == 50
    assert len(np.unique(settle_ties(1 + np.arange(50) * 1e-14))) == 1


@pytest.mark.parametrize("shape", [(3,), (2, 3), (2, 1), (1,)])
def test_zeros_and_shapes(shape: tuple[int, ...]) -> None:
    assert settle_ties(np.zeros(shape)).shape == shape
    assert not settle_ties(np.zeros(shape)).any()
