"""k-NN against scikit-learn's NearestNeighbors."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.neighbors import NearestNeighbors

from anomaly_sweep.errors import ConfigError, EstimatorError
from anomaly_sweep.estimators.neighbors import NearestNeighborDistance


@pytest.mark.parametrize("k", [1, 2, 5, 30])
@pytest.mark.parametrize("d", [1, 4, 50])
def test_equals_scikit_learn(k: int, d: int) -> None:
    rng = np.random.default_rng(0)
    train, test = rng.standard_normal((30, d)), rng.standard_normal((11, d))
    distances, _ = NearestNeighbors(n_neighbors=k, algorithm="brute").fit(train).kneighbors(test)
    for aggregation, expected in (("mean", distances.mean(axis=1)), ("kth", distances[:, -1])):
        scores = NearestNeighborDistance(k, aggregation).fit(train).score_samples(test)
        assert scores.dtype == np.float64
        np.testing.assert_allclose(scores, expected, rtol=1e-9)


def test_known_distances() -> None:
    fitted = NearestNeighborDistance(2).fit(np.array([[0.0, 0], [3, 4], [6, 8]]))
    np.testing.assert_array_equal(fitted.score_samples(np.array([[0.0, 0], [6, 8], [3, 4]])), [2.5, 2.5, 2.5])
    kth = NearestNeighborDistance(3, "kth").fit(np.array([[0.0], [1], [5]]))
    np.testing.assert_array_equal(kth.score_samples(np.array([[0.0], [2]])), [5, 3])


def test_distance_to_a_training_image_is_exactly_zero() -> None:
    train = np.random.default_rng(0).standard_normal((20, 300)) + 1e5
    assert not NearestNeighborDistance(1).fit(train).score_samples(train[::-1]).any()


def test_k_above_the_number_of_images() -> None:
    with pytest.raises(EstimatorError, match=r"estimator.k=4 is above the number of training images, 3"):
        NearestNeighborDistance(4).fit(np.zeros((3, 2)))
    NearestNeighborDistance(3).fit(np.zeros((3, 2)))


def test_values_out_of_range() -> None:
    with pytest.raises(ConfigError, match=r"estimator.k=0 is outside \[1, inf\]"):
        NearestNeighborDistance(0)
    with pytest.raises(ConfigError, match=r"estimator.aggregation=max is not allowed; allowed: mean, kth"):
        NearestNeighborDistance(1, "max")
