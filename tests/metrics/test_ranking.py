"""AUROC, AP, F1max and FPR at 95 % recall against scikit-learn and the definitions."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score, roc_curve

from anomaly_sweep.errors import DatasetError, EstimatorError
from anomaly_sweep.metrics.ranking import RankingMetrics, ranking_metrics

FINITE = st.floats(-1e6, 1e6, allow_subnormal=False)
NAMES = ("auroc", "ap", "f1max", "fpr95")


def scores_and_labels(
    elements: st.SearchStrategy[float], most: int = 30
) -> st.SearchStrategy[tuple[np.ndarray, np.ndarray]]:
    return st.integers(2, most).flatmap(
        lambda n: st.tuples(
            arrays(np.float64, n, elements=elements), arrays(np.int64, n, elements=st.integers(0, 1))
        )
    )


def by_pairs(scores: np.ndarray, labels: np.ndarray) -> float:
    """The definition: how often an anomalous score is above a good one, ties counted half."""
    difference = scores[labels == 1][:, None] - scores[labels == 0][None]
    return float(((difference > 0) + 0.5 * (difference == 0)).mean())


def by_thresholds(scores: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Every distinct score as a threshold, counted out."""
    f1, rates = [], []
    for threshold in np.unique(scores):
        flagged = scores >= threshold
        tp, fp = int((flagged & (labels == 1)).sum()), int((flagged & (labels == 0)).sum())
        f1.append(2 * tp / (tp + fp + int(labels.sum())))
        if 100 * tp >= 95 * int(labels.sum()):
            rates.append(fp / int((labels == 0).sum()))
    return {"f1max": max(f1), "fpr95": min(rates)}


def by_scikit_learn(scores: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    precision, recall, _ = precision_recall_curve(labels, scores)
    fpr, tpr, _ = roc_curve(labels, scores, drop_intermediate=False)
    return {
        "auroc": roc_auc_score(labels, scores),
        "ap": average_precision_score(labels, scores),
        "f1max": (2 * precision * recall / np.maximum(precision + recall, 1e-300)).max(),
        "fpr95": fpr[tpr >= 0.95 - 1e-12].min(),
    }


def values(found: RankingMetrics) -> dict[str, float]:
    return {name: float(getattr(found, name)) for name in NAMES}


@given(scores_and_labels(st.one_of(FINITE, st.sampled_from([0.0, -0.0, 1.0, 2.0])), most=60))
def test_equals_scikit_learn_and_the_definition(case: tuple[np.ndarray, np.ndarray]) -> None:
    scores, labels = case
    assume(0 < labels.sum() < len(labels))
    found = values(ranking_metrics(scores, labels))
    assert found == pytest.approx(by_scikit_learn(scores, labels), abs=1e-12)
    assert found["auroc"] == pytest.approx(by_pairs(scores, labels), abs=1e-14)
    assert {name: found[name] for name in ("f1max", "fpr95")} == by_thresholds(scores, labels)


def test_known_values() -> None:
    labels = np.array([0, 0, 1, 1])
    for scores, auroc, ap, f1max, fpr95 in (
        ([1, 2, 3, 4], 1.0, 1.0, 1.0, 0.0),
        ([4, 3, 2, 1], 0.0, (1 / 3 + 1 / 2) / 2, 2 / 3, 1.0),
        ([1, 1, 1, 1], 0.5, 0.5, 2 / 3, 1.0),
        ([1, 3, 2, 4], 0.75, (1 + 2 / 3) / 2, 4 / 5, 0.5),
        ([1, 2, 2, 3], 0.875, (1 + 2 / 3) / 2, 4 / 5, 0.5),
    ):
        expected = {"auroc": auroc, "ap": ap, "f1max": f1max, "fpr95": fpr95}
        assert values(ranking_metrics(scores, labels)) == pytest.approx(expected, abs=1e-15)
        assert values(ranking_metrics(scores, labels.astype(bool))) == pytest.approx(expected, abs=1e-15)


@pytest.mark.parametrize(("n", "missed"), [(20, 1), (19, 0), (39, 1), (40, 2), (100, 5)])
def test_recall_of_95_percent_is_exact(n: int, missed: int) -> None:
    """19 of 20 are 95 %, whatever 0.95 is in binary; 18 of 19 are not."""
    scores = np.concatenate([np.arange(n, dtype=float) + 0.5, [missed, missed - 1]])
    labels = np.repeat([1, 0], [n, 2])
    # Every threshold that reaches the recall is above at most the good one at `missed`.
    assert values(ranking_metrics(scores, labels))["fpr95"] == 0.0
    scores[-2] = missed + 1
    assert values(ranking_metrics(scores, labels))["fpr95"] == 0.5


def test_rows_are_on_their_own() -> None:
    rng = np.random.default_rng(0)
    scores = rng.integers(0, 6, (3, 7, 20)) * np.logspace(-8, 8, 7)[:, None]
    labels = rng.integers(0, 2, 20)
    found = ranking_metrics(scores, labels)
    for name in NAMES:
        assert getattr(found, name).shape == (3, 7)
        for i, j in np.ndindex(3, 7):
            assert getattr(found, name)[i, j] == getattr(ranking_metrics(scores[i, j], labels), name)


@pytest.mark.parametrize("labels", [[0, 0, 0], [1, 1, 1]])
def test_one_class_is_refused(labels: list[int]) -> None:
    with pytest.raises(DatasetError, match="one class is missing"):
        ranking_metrics([1.0, 2.0, 3.0], labels)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_scores_that_are_no_numbers_are_refused(bad: float) -> None:
    with pytest.raises(EstimatorError, match="2 of 4 scores are NaN or infinite"):
        ranking_metrics([1.0, bad, 3.0, bad], [0, 0, 1, 1])


def test_shapes_must_agree() -> None:
    for scores, labels in (([1.0, 2.0], [0, 1, 1]), ([[1.0], [2.0]], [0, 1]), (1.0, [0, 1]), (1.0, 1)):
        with pytest.raises(ValueError, match="one length"):
            ranking_metrics(scores, labels)
