"""Any ``_target_`` under the one contract: higher = more anomalous."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from anomaly_sweep.errors import ConfigError, EstimatorError
from anomaly_sweep.estimators.create import Detector, build, check, identity
from anomaly_sweep.estimators.gaussian import singular
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
    assert near.shape == (30,)
    assert near.dtype == far.dtype == np.float64
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


class Strange:
    """A detector that gives what it is told to."""

    def __init__(self, gives: str = "column") -> None:
        self.gives = gives

    def fit(self, X: np.ndarray) -> Strange:
        return self

    def score_samples(self, X: np.ndarray) -> object:
        n = len(X)
        return {
            "column": np.zeros((n, 1)),
            "scalar": 1.0,
            "none": None,
            "short": np.zeros(n - 1),
            "complex": np.zeros(n, dtype=complex),
            "text": np.array(["a"] * n),
            "objects": np.array([None] * n),
            "dates": np.zeros(n, dtype="datetime64[s]"),
            "ragged": [[1.0], *([1.0, 2.0] for _ in range(n - 1))],
            "list": [0.5] * n,
            "whole": np.arange(n),
            "flags": np.arange(n) > 3,
            "single": np.full(n, 0.5, dtype=np.float32),
        }[self.gives]


@pytest.mark.parametrize(
    ("gives", "message"),
    [
        ("column", r"shape \(7, 1\) for 7 images"),
        ("scalar", r"shape \(\) for 7 images"),
        ("none", r"shape \(\) for 7 images"),
        ("short", r"shape \(6,\) for 7 images"),
        ("complex", "type complex128; they must be real"),
        ("text", "type <U1; they must be real"),
        ("objects", "type object; they must be real"),
        ("dates", "type datetime64.*; they must be real"),
        ("ragged", "scores that are no array"),
    ],
)
def test_scores_that_are_not_one_number_an_image(gives: str, message: str) -> None:
    estimator = build(config(f"{__name__}.Strange", gives=gives), seed=0)
    with pytest.raises(EstimatorError, match=rf"Strange\.score_samples gave .*{message}"):
        estimator.score_samples(np.zeros((7, 2)))


@pytest.mark.parametrize("gives", ["list", "whole", "flags", "single"])
def test_scores_of_any_real_type(gives: str) -> None:
    found = build(config(f"{__name__}.Strange", gives=gives), seed=0).score_samples(np.zeros((7, 2)))
    assert found.shape == (7,)
    assert found.dtype == np.float64


def broken(size: int = 3) -> object:
    """A factory with a bug."""
    return {}[size]


KNN = "anomaly_sweep.estimators.neighbors.NearestNeighborDistance"


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        (config(KNN, k=2.0), r"estimator\.k=2\.0 is not allowed; it must be a whole number"),
        (config(KNN, k="3"), r"estimator\.k=3 is not allowed; it must be a whole number"),
        (config(KNN, k=True), r"estimator\.k=True is not allowed; it must be a whole number"),
        (config(KNN, k=None), r"estimator\.k=None is not allowed; it must be a whole number"),
        (config(KNN, k=float("nan")), r"estimator\.k=nan is not allowed"),
        (config(KNN, k=0), r"estimator\.k=0 is outside \[1, inf\]"),
        (config(KNN, k=-3), r"estimator\.k=-3 is outside"),
        (config(KNN, aggregation="max"), r"estimator\.aggregation=max is not allowed; allowed: mean, kth"),
        (config(GAUSSIAN, shrinkage=0.1), r"estimator\.shrinkage=0\.1 is not allowed; allowed: ledoit_wolf"),
        (config(GAUSSIAN, shrinkage=None), r"estimator\.shrinkage=None is not allowed"),
        (config(GAUSSIAN, shrinkage=["oas"]), r"estimator\.shrinkage=\['oas'\] is not allowed"),
        (config(FLOW, steps=2.5), "steps must be a whole number"),
        (config(FLOW, learning_rate=float("nan")), "learning_rate must be a number"),
        (config(FLOW, hidden="wide"), "hidden must be"),
        (config(FLOW, preset="slow"), "preset must be one of"),
        (config(FLOW, score="auc"), "score must be one of"),
        # scikit-learn finds these out when it is fitted; here they are told before the work.
        (
            config("sklearn.svm.OneClassSVM", nu=1.5),
            "'nu' parameter of OneClassSVM must be a float in the range",
        ),
        (config(FOREST, n_estimators=0), "'n_estimators' parameter of IsolationForest must be"),
        (config(FOREST, contamination="much"), "'contamination' parameter of IsolationForest must be"),
        (
            config("sklearn.neighbors.LocalOutlierFactor", novelty=True, n_neighbors=2.0),
            "'n_neighbors' parameter of LocalOutlierFactor must be an int",
        ),
        (config("sklearn.svm.SVC"), "SVC is a classifier or a regressor and needs labels"),
        (config("sklearn.linear_model.Ridge"), "Ridge is a classifier or a regressor and needs labels"),
        (config("sklearn.preprocessing.StandardScaler"), "StandardScaler has no fit and score_samples or"),
        (config(f"{__name__}.broken"), r"broken cannot be made of its arguments: KeyError: 3"),
        (config("os.getcwd"), "mine: str has no fit and score_samples"),
        (config("this_is_broken.Thing"), "this_is_broken raises ZeroDivisionError"),
        ({"name": "mine"}, r"estimator mine: there is no _target_; set estimator\._target_"),
        (config(""), r"estimator mine: there is no _target_"),
        ({"name": "mine", "_target_": None}, r"estimator mine: there is no _target_"),
        ({"name": "mine", "_target_": 3}, r"estimator\._target_=3 cannot be imported"),
    ],
    ids=str,
)
def test_bad_values_are_told_before_the_work(
    wanted: dict[str, Any], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "this_is_broken.py").write_text("1 / 0\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ConfigError, match=message):
        check(wanted)


@pytest.mark.parametrize("shrinkage", ["ledoit_wolf", "oas", "empirical"])
def test_two_images_are_not_told_to_use_what_they_have(shrinkage: str) -> None:
    """Two points lie on a line: Ledoit-Wolf shrinks by nothing there."""
    estimator = build(config(GAUSSIAN, shrinkage=shrinkage), seed=0)
    two = np.random.default_rng(0).standard_normal((2, 5))
    if shrinkage == "oas":
        estimator.fit(two)
        return
    with pytest.raises(EstimatorError, match="more training images") as caught:
        estimator.fit(two)
    assert "use estimator.shrinkage" not in str(caught.value)


@pytest.mark.parametrize("shrinkage", ["ledoit_wolf", "oas"])
def test_advice_is_not_what_one_has(shrinkage: str) -> None:
    assert "use estimator.shrinkage=ledoit_wolf" in str(singular("empirical", 9, 9))
    assert "ledoit_wolf" not in str(singular("oas", 9, 9))
    assert f"the {shrinkage} covariance of 9" in str(singular(shrinkage, 9, 9))
    assert "use a stronger reduction" in str(singular(shrinkage, 9, 9))


@pytest.mark.parametrize("device", ["cpu", "cuda", None])
@pytest.mark.parametrize("target", [FLOW, "anomaly_sweep.estimators.flow.CouplingFlow"])
def test_where_a_flow_trains_is_the_runtime_s_to_say(target: str, device: str | None) -> None:
    with pytest.raises(ConfigError, match=r"estimator\.device has no part in .*set runtime\.device"):
        check(config(target, device=device))


def test_a_detector_s_own_device_is_its_own() -> None:
    built = build(config(f"{__name__}.Placed", device="meta"), seed=0)
    assert isinstance(built, Detector)
    assert built.model.device == "meta"


class Placed(Strange):
    """A detector that is told where to compute."""

    higher_is_anomalous = True

    def __init__(self, device: str = "cpu") -> None:
        super().__init__("list")
        self.device = device


def test_identity_is_what_changes_results() -> None:
    assert identity(config(GAUSSIAN, shrinkage="oas")) == {"_target_": GAUSSIAN, "shrinkage": "oas"}
    plain = identity(config(FLOW))
    assert plain["settings"] != identity(config(FLOW, preset="differnet"))["settings"]
    assert plain["settings"] == identity({**config(FLOW), "name": "other"})["settings"]
    assert target_of("estimator", config("sklearn.svm.OneClassSVM")).__name__ == "OneClassSVM"
