"""MVG against scikit-learn's covariances."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.covariance import OAS, EmpiricalCovariance, LedoitWolf

from anomaly_sweep.errors import ConfigError, EstimatorError
from anomaly_sweep.estimators.gaussian import SHRINKAGES, MultivariateGaussian

REFERENCE = {"ledoit_wolf": LedoitWolf, "oas": OAS, "empirical": EmpiricalCovariance}


def data(n: int, d: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.standard_normal((n, d)) @ rng.standard_normal((d, d)) + 5


@pytest.mark.parametrize("shrinkage", SHRINKAGES)
@pytest.mark.parametrize(("n", "d"), [(3, 1), (40, 1), (40, 8), (9, 8), (12, 40)])
def test_equals_scikit_learn(shrinkage: str, n: int, d: int) -> None:
    if shrinkage == "empirical" and n <= d:
        pytest.skip("singular")
    train, test = data(n, d), data(20, d, 1)
    scores = MultivariateGaussian(shrinkage).fit(train).score_samples(test)
    assert scores.shape == (20,)
    assert scores.dtype == np.float64
    expected = np.sqrt(REFERENCE[shrinkage]().fit(train).mahalanobis(test))
    np.testing.assert_allclose(scores, expected, rtol=1e-8)


def test_known_distances() -> None:
    """Variances 4 and 1 about (1, 2): the corners of a box."""
    train = np.array([[3, 3], [3, 1], [-1, 3], [-1, 1]], dtype=float)
    scores = (
        MultivariateGaussian("empirical")
        .fit(train)
        .score_samples(np.array([[1.0, 2], [3, 2], [1, 5], [5, 2]]))
    )
    np.testing.assert_allclose(scores, [0, 1, 3, 2], atol=1e-12)


def test_default_is_ledoit_wolf() -> None:
    train, test = data(12, 20), data(5, 20, 1)
    default = MultivariateGaussian().fit(train).score_samples(test)
    np.testing.assert_array_equal(default, MultivariateGaussian("ledoit_wolf").fit(train).score_samples(test))


@pytest.mark.parametrize(
    ("shrinkage", "train"),
    [
        ("empirical", data(8, 8)),
        ("empirical", data(5, 20)),
        ("empirical", np.hstack([data(30, 3), np.ones((30, 1))])),
        ("empirical", np.hstack([data(30, 3), data(30, 3)])),
        ("ledoit_wolf", data(2, 5)),
        ("empirical", np.full((9, 1), 0.1)),
        ("ledoit_wolf", np.full((9, 2), 0.1)),
    ],
    ids=["n=d", "n<d", "dead", "duplicated", "two images", "constant", "constant, shrunk"],
)
def test_singular_covariances_are_refused(shrinkage: str, train: np.ndarray) -> None:
    with pytest.raises(
        EstimatorError, match=rf"{shrinkage} covariance of {len(train)} training images .* singular"
    ):
        MultivariateGaussian(shrinkage).fit(train)


@pytest.mark.parametrize("d", [2, 3, 5, 7])
def test_oas_of_equal_variances(d: int) -> None:
    """scikit-learn's OAS divides by a difference of rounding errors here; any shrinkage gives the same."""
    train = np.concatenate([np.eye(d), -np.eye(d)]) * 0.1 + 0.7
    scores = MultivariateGaussian("oas").fit(train).score_samples(train)
    np.testing.assert_allclose(scores, np.sqrt(d), rtol=1e-12)


def test_unknown_shrinkage() -> None:
    with pytest.raises(ConfigError, match=r"estimator.shrinkage=none is not allowed; allowed: ledoit_wolf"):
        MultivariateGaussian("none")
