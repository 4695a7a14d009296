"""What every estimator keeps to. A new one is a line in ``ESTIMATORS``."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any, get_args

import numpy as np
import pytest
from numpy.typing import NDArray

from anomaly_sweep.config import PcaModeConf
from anomaly_sweep.errors import EstimatorError
from anomaly_sweep.estimators.base import ALONE, SPECTRUM, STACK, Capability, Estimator, capability
from anomaly_sweep.estimators.create import build, capability_of
from anomaly_sweep.features.pooled import ShardFeatures
from anomaly_sweep.fingerprint import fingerprint
from anomaly_sweep.metrics.ties import ScoreScale
from anomaly_sweep.tasks.detection.run import run_trials
from anomaly_sweep.tasks.detection.trial import DetectionTrial

OURS = "anomaly_sweep.estimators"


class PyodLike:
    """A detector as PyOD's are: higher scores are anomalous, ``decision_scores_`` after ``fit``."""

    def __init__(self) -> None:
        self.decision_scores_: NDArray[np.float64] = np.empty(0)
        self.mean_: NDArray[np.float64] = np.empty(0)

    def fit(self, X: NDArray[np.float64], y: None = None) -> PyodLike:
        self.mean_ = X.mean(axis=0)
        self.decision_scores_ = self.decision_function(X)
        return self

    def decision_function(self, X: NDArray[np.float64]) -> NDArray[np.float64]:
        if X.ndim != 2 or X.shape[1] != len(self.mean_) or not np.isfinite(X).all():
            raise ValueError("a detector refuses with a ValueError, fitted or not")
        return np.asarray(np.linalg.norm(X - self.mean_, axis=1))


def line(name: str, target: str, capability: Capability, **arguments: Any) -> Any:
    needed = target.partition(".")[0]
    marks = [
        pytest.mark.skipif(needed == "pyod" and find_spec(needed) is None, reason="PyOD is not installed")
    ]
    return pytest.param({"name": name, "_target_": target, **arguments}, capability, id=name, marks=marks)


ESTIMATORS = [
    line("mvg", f"{OURS}.gaussian.MultivariateGaussian", SPECTRUM),
    line("mvg_oas", f"{OURS}.gaussian.MultivariateGaussian", SPECTRUM, shrinkage="oas"),
    line("mvg_empirical", f"{OURS}.gaussian.MultivariateGaussian", SPECTRUM, shrinkage="empirical"),
    line("knn1", f"{OURS}.neighbors.NearestNeighborDistance", SPECTRUM),
    line("knn5_kth", f"{OURS}.neighbors.NearestNeighborDistance", SPECTRUM, k=5, aggregation="kth"),
    line("flow", f"{OURS}.flow.coupling_flow", STACK, steps=5, hidden=8, blocks=2),
    line("one_class_svm", "sklearn.svm.OneClassSVM", ALONE, nu=0.1),
    line("isolation_forest", "sklearn.ensemble.IsolationForest", ALONE, n_estimators=20),
    line("pyod_like", f"{__name__}.PyodLike", ALONE),
    line("pyod_knn", "pyod.models.knn.KNN", ALONE),
]
every = pytest.mark.parametrize(("config", "computed"), ESTIMATORS)
shares = pytest.mark.parametrize(
    ("config", "computed"), [one for one in ESTIMATORS if one.values[1] == SPECTRUM]
)


def data(n: int = 40, d: int = 6, seed: int = 0) -> NDArray[np.float64]:
    """Normal samples that nobody may write to."""
    rng = np.random.default_rng(seed)
    X: NDArray[np.float64] = rng.standard_normal((n, d)) @ rng.standard_normal((d, d)) + 3
    X.flags.writeable = False
    return X


def fitted(config: dict[str, Any], X: NDArray[np.float64] | None = None) -> Estimator:
    return build(config, seed=1).fit(data() if X is None else X)


@every
def test_fit_returns_the_estimator(config: dict[str, Any], computed: Capability) -> None:
    estimator = build(config, seed=1)
    assert estimator.fit(data()) is estimator
    assert estimator.score_scale in get_args(ScoreScale)


@every
def test_scores_are_one_finite_number_a_sample(config: dict[str, Any], computed: Capability) -> None:
    estimator = fitted(config)
    for m in (1, 7, 60):
        scores = estimator.score_samples(data(m, seed=m))
        assert scores.shape == (m,)
        assert scores.dtype == np.float64
        assert np.isfinite(scores).all()
        if estimator.score_scale == "ratio":
            assert (scores >= 0).all()


@every
def test_higher_is_more_anomalous(config: dict[str, Any], computed: Capability) -> None:
    X = data()
    near, far = data(seed=0)[:20], X.mean(axis=0) + 20 * (X[:20] - X.mean(axis=0))
    estimator = fitted(config, X)
    assert estimator.score_samples(far).min() > np.median(estimator.score_samples(near))


@every
def test_same_seed_same_scores(config: dict[str, Any], computed: Capability) -> None:
    first, second = (fitted(config).score_samples(data(seed=2)) for _ in range(2))
    np.testing.assert_array_equal(first, second)


@every
def test_a_second_fit_forgets_the_first(config: dict[str, Any], computed: Capability) -> None:
    again = build(config, seed=1).fit(data(30, 4, seed=5)).fit(data())
    np.testing.assert_array_equal(
        again.score_samples(data(seed=2)), fitted(config).score_samples(data(seed=2))
    )


@every
def test_samples_are_left_as_they_are(config: dict[str, Any], computed: Capability) -> None:
    train, test = data().copy(), data(seed=2).copy()
    fitted(config, train).score_samples(test)
    np.testing.assert_array_equal(train, data())
    np.testing.assert_array_equal(test, data(seed=2))


@every
def test_samples_are_scored_each_by_itself(config: dict[str, Any], computed: Capability) -> None:
    estimator, test = fitted(config), data(30, seed=2)
    scores, order = estimator.score_samples(test), np.random.default_rng(0).permutation(30)
    np.testing.assert_allclose(estimator.score_samples(test[order]), scores[order], rtol=1e-6)
    alone = np.concatenate([estimator.score_samples(test[i : i + 1]) for i in range(30)])
    np.testing.assert_allclose(alone, scores, rtol=1e-6)


@every
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_values_that_are_not_finite_are_refused(
    config: dict[str, Any], computed: Capability, bad: float
) -> None:
    if config["_target_"] == "sklearn.ensemble.IsolationForest":
        pytest.skip("it has a use for missing values")
    train = data().copy()
    train[3, 2] = bad
    with pytest.raises(EstimatorError):
        fitted(config, train)
    with pytest.raises(EstimatorError):
        fitted(config).score_samples(train)


@every
def test_other_dimensions_are_refused(config: dict[str, Any], computed: Capability) -> None:
    estimator = fitted(config)
    for d in (1, 5, 7):
        with pytest.raises(EstimatorError):
            estimator.score_samples(data(8, d))
    with pytest.raises(EstimatorError):
        estimator.score_samples(data()[0])


@every
def test_scoring_comes_after_fitting(config: dict[str, Any], computed: Capability) -> None:
    with pytest.raises(EstimatorError):
        build(config, seed=1).score_samples(data())


@every
def test_a_class_that_scores_in_its_own_way_is_computed_alone(
    config: dict[str, Any], computed: Capability
) -> None:
    assert capability_of(config) == computed
    cls = type(build(config, seed=1))
    assert capability(type("Unchanged", (cls,), {})) == computed
    for method in ("fit", "score_samples"):
        assert capability(type("Changed", (cls,), {method: lambda self, X: None})) == ALONE


@shares
def test_what_is_shared_is_what_each_gives(config: dict[str, Any], computed: Capability) -> None:
    reductions = [PcaModeConf("none")] + [
        PcaModeConf(f"{mode}{rate}", mode, rate) for mode in ("pca", "npca") for rate in (0.1, 0.5, 0.9)
    ]
    train, test = data(40, 12), data(30, 12, seed=2).copy()
    labels = np.repeat([0, 1], 15)
    test[15:] += 2 * np.random.default_rng(3).standard_normal((15, 12))
    trials = [
        DetectionTrial(fingerprint(reduction, config), ("1",), ("avg",), reduction, config)
        for reduction in reductions
    ]
    features = ShardFeatures({"1": {"avg": train}}, {"1": {"avg": test}}, {})
    shared, plain = (
        {
            result.fingerprint: (result.status, result.image_auroc, result.n_features, result.reason)
            for result in run_trials(features, labels, trials, shared=shared)
        }
        for shared in (True, False)
    )
    assert shared == plain
    assert len(shared) == len(reductions)
    assert {status for status, *_ in shared.values()} == {"ok"}
