"""Which way scores point is decided by what an estimator is, and checked on the training data."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from sklearn.base import BaseEstimator, OutlierMixin
from sklearn.ensemble import IsolationForest
from sklearn.kernel_approximation import Nystroem
from sklearn.linear_model import SGDOneClassSVM
from sklearn.metrics import roc_auc_score
from sklearn.mixture import GaussianMixture
from sklearn.model_selection import GridSearchCV
from sklearn.neighbors import KernelDensity, LocalOutlierFactor
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import OneClassSVM

from anomaly_sweep.config import PcaModeConf
from anomaly_sweep.errors import ConfigError, EstimatorError
from anomaly_sweep.estimators.create import Detector, build, check, identity
from anomaly_sweep.estimators.direction import innermost, is_pyod
from anomaly_sweep.features.pooled import ShardFeatures
from anomaly_sweep.fingerprint import fingerprint
from anomaly_sweep.tasks.base import TrialResult
from anomaly_sweep.tasks.detection.run import run_trials
from anomaly_sweep.tasks.detection.trial import DetectionTrial

HERE = __name__


def data() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(3)
    labels = np.repeat([0, 1], [25, 25])
    test = rng.standard_normal((50, 4)) + 2.0 * labels[:, None]
    return rng.standard_normal((60, 4)), test, labels


def config(target: str, **arguments: Any) -> dict[str, Any]:
    return {"name": "mine", "_target_": target, **arguments}


def result_of(estimator: dict[str, Any]) -> TrialResult:
    train, test, labels = data()
    none = PcaModeConf("none")
    trial = DetectionTrial(fingerprint(estimator), ("1",), ("avg",), none, estimator)
    (result,) = run_trials(ShardFeatures({"1": {"avg": train}}, {"1": {"avg": test}}, {}), labels, [trial])
    return result


class MyLof(LocalOutlierFactor):
    """A subclass in somebody's own module."""

    def __init__(self, n_neighbors: int = 20) -> None:
        super().__init__(n_neighbors=n_neighbors, novelty=True)


class MyForest(IsolationForest):
    """Overrides the score, in scikit-learn's convention."""

    def score_samples(self, X: np.ndarray) -> np.ndarray:
        return 2 * super().score_samples(X)


class MyDensity(KernelDensity):
    """A subclass of a density without a mixin."""


class MyOutliers(OutlierMixin, BaseEstimator):  # type: ignore[misc]
    """Written from scratch by scikit-learn's rules: decision_function only, higher for inliers."""

    def fit(self, X: np.ndarray, y: object = None) -> MyOutliers:
        self.mean_ = X.mean(axis=0)
        return self

    def decision_function(self, X: np.ndarray) -> np.ndarray:
        return -np.linalg.norm(X - self.mean_, axis=1)


class MyContract:
    """Written for this project: higher = more anomalous."""

    def __init__(self, sign: float = 1.0) -> None:
        self.sign = sign

    def fit(self, X: np.ndarray) -> MyContract:
        self.mean_ = X.mean(axis=0)
        return self

    def score_samples(self, X: np.ndarray) -> np.ndarray:
        return self.sign * np.linalg.norm(X - self.mean_, axis=1)


class MyContractOnBase(MyContract, BaseEstimator):  # type: ignore[misc]
    """The same with scikit-learn's parameters: a base class says nothing of scores."""


class BaseDetector(BaseEstimator):  # type: ignore[misc]
    """PyOD's base as its subclasses see it."""


BaseDetector.__module__ = "pyod.models.base"


class MyPyod(BaseDetector):
    """A subclass of PyOD's base."""

    def fit(self, X: np.ndarray, y: object = None) -> MyPyod:
        self.mean_ = X.mean(axis=0)
        self.decision_scores_ = self.decision_function(X)
        return self

    def decision_function(self, X: np.ndarray) -> np.ndarray:
        return np.linalg.norm(X - self.mean_, axis=1)


class OnlyDecision:
    """No base that says anything."""

    def __init__(self, sign: float = 1.0) -> None:
        self.sign = sign

    def fit(self, X: np.ndarray) -> OnlyDecision:
        self.mean_ = X.mean(axis=0)
        return self

    def decision_function(self, X: np.ndarray) -> np.ndarray:
        return self.sign * np.linalg.norm(X - self.mean_, axis=1)


class Cosine(MyContract):
    """Scores that say nothing of the distance from the training data."""

    def score_samples(self, X: np.ndarray) -> np.ndarray:
        return 1 - X @ self.mean_ / np.linalg.norm(X, axis=1)


def pipeline_of_lof() -> Pipeline:
    return make_pipeline(StandardScaler(), MyLof())


def pipeline_of_pyod() -> Pipeline:
    return make_pipeline(StandardScaler(), MyPyod())


def search_of_mixture() -> GridSearchCV:
    return GridSearchCV(GaussianMixture(random_state=0), {"n_components": [1, 2]}, cv=3)


def pipeline_of_search() -> Pipeline:
    return make_pipeline(StandardScaler(), search_of_mixture())


def search_of_pipeline() -> GridSearchCV:
    pipeline = make_pipeline(StandardScaler(), KernelDensity())
    return GridSearchCV(pipeline, {"kerneldensity__bandwidth": [0.5, 1.0]}, cv=3)


def pipeline_of_sgd() -> Pipeline:
    """A linear one-class SVM needs a kernel's features: by itself it sees hardly anything here."""
    kernel = Nystroem(gamma=0.1, n_components=30, random_state=0)
    return make_pipeline(StandardScaler(), kernel, SGDOneClassSVM(nu=0.1, random_state=0))


EVERY = [
    config("sklearn.neighbors.LocalOutlierFactor", novelty=True),
    config(f"{HERE}.MyLof"),
    config(f"{HERE}.MyForest", n_estimators=20),
    config(f"{HERE}.MyDensity"),
    config(f"{HERE}.MyOutliers"),
    config(f"{HERE}.MyContract"),
    config(f"{HERE}.MyContractOnBase"),
    config(f"{HERE}.MyPyod"),
    config(f"{HERE}.pipeline_of_lof"),
    config(f"{HERE}.pipeline_of_pyod"),
    config(f"{HERE}.search_of_mixture"),
    config(f"{HERE}.pipeline_of_search"),
    config(f"{HERE}.search_of_pipeline"),
    config("sklearn.svm.OneClassSVM", nu=0.1),
    config(f"{HERE}.pipeline_of_sgd"),
    config("sklearn.covariance.EllipticEnvelope"),
    config("sklearn.mixture.BayesianGaussianMixture"),
    config("sklearn.decomposition.PCA", n_components=2),  # a density that has no mixin
    config("sklearn.decomposition.FactorAnalysis", n_components=2),
    config(f"{HERE}.OnlyDecision", higher_is_anomalous=True),
    config(f"{HERE}.OnlyDecision", sign=-1.0, higher_is_anomalous=False),
    config(f"{HERE}.MyContract", sign=-1.0, higher_is_anomalous=False),
]


@pytest.mark.parametrize("estimator", EVERY, ids=lambda e: e["_target_"].rpartition(".")[2])
def test_anomalous_images_score_higher(estimator: dict[str, Any]) -> None:
    result = result_of(estimator)
    assert result.ok, result.reason
    assert result.image_auroc is not None
    assert result.image_auroc > 0.8


def test_a_subclass_scores_as_its_base() -> None:
    train, test, labels = data()
    plain = LocalOutlierFactor(novelty=True).fit(train)
    expected = roc_auc_score(labels, -plain.score_samples(test))
    assert result_of(config(f"{HERE}.MyLof")).image_auroc == pytest.approx(expected, abs=1e-12)
    assert expected > 0.9


def test_pyods_own_detectors(monkeypatch: pytest.MonkeyPatch) -> None:
    knn = pytest.importorskip("pyod.models.knn", reason="PyOD is not installed")

    class Own(knn.KNN):  # type: ignore[misc, name-defined]
        pass

    monkeypatch.setattr(sys.modules[HERE], "Own", Own, raising=False)
    for target in ("pyod.models.knn.KNN", f"{HERE}.Own", "pyod.models.pca.PCA"):
        found = result_of(config(target))
        assert found.image_auroc is not None, found.reason
        assert found.image_auroc > 0.8


def test_an_accelerated_copy_that_has_no_mixin(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the package its score comes from (scikit-learn-intelex, cuML)."""

    class Fast(BaseEstimator):  # type: ignore[misc]
        def fit(self, X: np.ndarray) -> Fast:
            self.model_ = KernelDensity().fit(X)
            return self

        def score_samples(self, X: np.ndarray) -> np.ndarray:
            return self.model_.score_samples(X)  # type: ignore[no-any-return]

    Fast.__module__ = "cuml.neighbors"
    module = ModuleType("accelerated")
    module.Fast = Fast  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "accelerated", module)
    found = result_of(config("accelerated.Fast"))
    assert found.image_auroc is not None
    assert found.image_auroc > 0.9


@pytest.mark.parametrize("make", [pipeline_of_lof, pipeline_of_search, search_of_pipeline, pipeline_of_pyod])
def test_what_a_pipeline_ends_in(make: Callable[[], Any]) -> None:
    inner = innermost(make())
    assert isinstance(inner, MyLof | GaussianMixture | KernelDensity | MyPyod)
    assert is_pyod(make()) == isinstance(inner, MyPyod)


def test_a_meta_estimator_without_a_fit_inside_is_itself() -> None:
    lof = MyLof()
    lof.estimator = "auto"
    assert innermost(lof) is lof


def test_scores_upside_down_are_refused() -> None:
    result = result_of(config(f"{HERE}.MyContract", sign=-1.0))
    assert not result.ok
    assert result.reason == (
        "MyContract scores training images higher than points 10 times as far out (100 % of the pairs): its "
        "scores are upside down; set +estimator.higher_is_anomalous=true or false to say which way they point"
    )


def test_what_is_declared_is_believed_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        result = result_of(config(f"{HERE}.MyContract", higher_is_anomalous=False))
    assert result.ok
    assert result.image_auroc is not None
    assert result.image_auroc < 0.2
    assert "MyContract" in caplog.text
    assert "upside down" in caplog.text


def test_scores_that_know_no_distance_pass() -> None:
    assert result_of(config(f"{HERE}.Cosine")).ok


def test_what_cannot_be_known_is_asked() -> None:
    with pytest.raises(ConfigError, match=r"OnlyDecision has no score_samples.*higher_is_anomalous=true or"):
        check(config(f"{HERE}.OnlyDecision"))


@pytest.mark.parametrize("value", ["yes", 1, 0.0, "true"])
def test_a_declaration_is_true_or_false(value: object) -> None:
    with pytest.raises(ConfigError, match=r"higher_is_anomalous=.* is not allowed; allowed: true, false"):
        check(config(f"{HERE}.MyContract", higher_is_anomalous=value))


def test_the_projects_own_need_no_declaration() -> None:
    own = config("anomaly_sweep.estimators.gaussian.MultivariateGaussian", higher_is_anomalous=True)
    with pytest.raises(ConfigError, match="has no part in"):
        check(own)


def test_a_declaration_is_part_of_what_a_trial_is() -> None:
    one = config(f"{HERE}.MyContract")
    assert identity(one | {"higher_is_anomalous": None}) == identity(one)
    assert identity(one | {"higher_is_anomalous": False}) != identity(one)


def test_far_points_need_not_be_scored() -> None:
    class Picky(MyContract):
        def score_samples(self, X: np.ndarray) -> np.ndarray:
            if np.abs(X).max() > 10:
                raise ValueError("out of range")
            return super().score_samples(X)

    train, _, _ = data()
    detector = Detector(Picky(), "picky").fit(train)
    detector.check_direction(train)
    with pytest.raises(EstimatorError, match="Picky: out of range"):
        detector.score_samples(train * 100)


@pytest.mark.parametrize("n", [2, 3, 500])
def test_any_number_of_training_images(n: int) -> None:
    rng = np.random.default_rng(0)
    train = rng.standard_normal((n, 3))
    build(config(f"{HERE}.MyContract"), 0).fit(train)
    Detector(MyContract()).fit(train).check_direction(train)
    with pytest.raises(EstimatorError, match="upside down"):
        Detector(MyContract(-1.0)).fit(train).check_direction(train)


def test_infinite_scores_far_out_are_far() -> None:
    """A density of compact support is 0 out there."""
    train, _, _ = data()
    model = KernelDensity(kernel="epanechnikov", bandwidth=2.0)
    detector = Detector(model).fit(train)
    detector.check_direction(train)


def test_support_vectors_outside_are_no_reason_to_refuse() -> None:
    train, _, _ = data()
    for nu in (0.01, 0.5, 0.99):
        Detector(OneClassSVM(nu=nu)).fit(train).check_direction(train)
