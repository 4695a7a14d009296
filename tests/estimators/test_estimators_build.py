"""Any ``_target_`` under the one contract: higher = more anomalous."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from anomaly_sweep.errors import ConfigError, EstimatorError
from anomaly_sweep.estimators.create import Detector, build, check, identity
from anomaly_sweep.instantiate import target_of

GAUSSIAN = "anomaly_sweep.estimators.gaussian.MultivariateGaussian"
FOREST = "sklearn.ensemble.IsolationForest"
FLOW = "anomaly_sweep.estimators.flow.coupling_flow"


def config(target: str, **arguments: Any) -> dict[str, Any]:
    return {"name": "mine", "_target_": target, **arguments}


def data() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return (
        rng.standard_normal((80, 3)),
        rng.standard_normal((30, 3)) * 0.5,
        rng.standard_normal((6, 3)) * 0.1 + 9,
    )


@pytest.mark.parametrize(
    "wanted",
    [
        config(GAUSSIAN),
        config("anomaly_sweep.estimators.neighbors.NearestNeighborDistance", k=3),
        config(FLOW, steps=20, hidden=8),
        config(FOREST, n_estimators=30),
        config("sklearn.svm.OneClassSVM", nu=0.1),
        config("sklearn.neighbors.LocalOutlierFactor", novelty=True),
        config("sklearn.neighbors.KernelDensity", bandwidth=1.0),
        config("sklearn.covariance.EllipticEnvelope"),
        config("sklearn.mixture.GaussianMixture", n_components=2),
    ],
    ids=lambda wanted: wanted["_target_"].rpartition(".")[2],
)
def test_outliers_score_higher(wanted: dict[str, Any]) -> None:
    train, good, outliers = data()
    estimator = build(wanted, seed=1)
    assert estimator.fit(train) is estimator
    near, far = estimator.score_samples(good), estimator.score_samples(outliers)
    assert near.shape == (30,) and near.dtype == far.dtype == np.float64
    assert far.min() > np.median(near)
    assert far.mean() > near.mean()


def test_pyod_outliers_score_higher() -> None:
    pytest.importorskip("pyod", reason="PyOD is not installed (pip install 'anomaly-sweep[pyod]')")
    train, good, outliers = data()
    estimator = build(config("pyod.models.knn.KNN"), seed=1).fit(train)
    assert estimator.score_samples(outliers).min() > estimator.score_samples(good).max()


def test_seed_of_the_trial_reaches_what_takes_one() -> None:
    train, good, _ = data()

    def scores(seed: int, **arguments: Any) -> np.ndarray:
        wanted = config(FOREST, n_estimators=5, **arguments)
        return build(wanted, seed).fit(train).score_samples(good)

    np.testing.assert_array_equal(scores(2**62 + 1), scores(2**62 + 1))
    assert (scores(1) != scores(2)).any()
    np.testing.assert_array_equal(scores(1, random_state=7), scores(2, random_state=7))
    assert (scores(1, random_state=None) != scores(2, random_state=None)).any()


def test_unknown_argument_lists_the_allowed() -> None:
    with pytest.raises(ConfigError) as error:
        check(config(GAUSSIAN, shrinkages="oas"))
    assert str(error.value) == f"estimator.shrinkages is not an argument of {GAUSSIAN}; allowed: shrinkage"
    with pytest.raises(ConfigError, match=r"estimator\.trees is not .*n_estimators.*random_state"):
        check(config(FOREST, trees=3))


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        (config("nowhere.Nothing"), r"estimator\._target_=nowhere\.Nothing cannot be imported"),
        (
            config("sklearn.ensemble.Nothing"),
            r"estimator\._target_=sklearn\.ensemble\.Nothing cannot be imported",
        ),
        (config("Nothing"), r"estimator\._target_=Nothing cannot be imported"),
        (config("fractions.Fraction"), "mine: Fraction has no fit and score_samples or"),
        (config("sklearn.cluster.KMeans"), "mine: KMeans has no fit and score_samples or decision_function$"),
        (config("sklearn.neighbors.LocalOutlierFactor"), r"decision_function \(it needs novelty: true\)"),
        (config(GAUSSIAN, shrinkage="x"), r"estimator\.shrinkage=x is not allowed"),
        (config("datetime.timezone"), r"estimator\._target_=datetime\.timezone has no named arguments"),
        (config("math.pi"), r"estimator\._target_=math\.pi has no named arguments"),
    ],
    ids=lambda value: value["_target_"] if isinstance(value, dict) else "",
)
def test_what_cannot_be_built(wanted: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        check(wanted)


def test_a_detector_that_refuses_the_data() -> None:
    estimator = build(config("sklearn.neighbors.LocalOutlierFactor", novelty=True), seed=0)
    assert isinstance(estimator, Detector)
    with pytest.raises(EstimatorError, match=r"LocalOutlierFactor: .*NaN"):
        estimator.fit(np.full((5, 2), np.nan))


def test_identity_is_what_changes_results() -> None:
    assert identity(config(GAUSSIAN, shrinkage="oas")) == {"_target_": GAUSSIAN, "shrinkage": "oas"}
    plain = identity(config(FLOW))
    assert plain["settings"] != identity(config(FLOW, preset="differnet"))["settings"]
    assert plain["settings"] == identity({**config(FLOW), "name": "other"})["settings"]
    assert target_of("estimator", config("sklearn.svm.OneClassSVM")).__name__ == "OneClassSVM"
