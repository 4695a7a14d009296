"""All reductions at once: score by score what each reduction gives on its own."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from anomaly_sweep.errors import EstimatorError
from anomaly_sweep.estimators import closed_form
from anomaly_sweep.estimators.closed_form import Reduction, fit_gaussians, mahalanobis, neighbor_distances
from anomaly_sweep.estimators.gaussian import SHRINKAGES, MultivariateGaussian
from anomaly_sweep.estimators.neighbors import NearestNeighborDistance
from anomaly_sweep.estimators.spectrum import Spectrum


def case(n: int, d: int, m: int, seed: int) -> tuple[np.ndarray, np.ndarray, Spectrum]:
    rng = np.random.default_rng(seed)
    mixing = rng.standard_normal((d, d)) * np.logspace(0, -1, d)[:, None]
    train, test = rng.standard_normal((n, d)) @ mixing + 2, rng.standard_normal((m, d)) @ mixing + 2
    return train, test, Spectrum.fit(train)


def reductions_of(spectrum: Spectrum) -> list[Reduction]:
    """``none``, all prefixes and all suffixes."""
    rank = spectrum.rank
    parts = [Reduction(0, k) for k in range(1, rank + 1)] + [Reduction(k, rank) for k in range(rank)]
    return [Reduction(0, rank, whole=True), *parts]


def reduced(
    spectrum: Spectrum, train: np.ndarray, test: np.ndarray, reduction: Reduction
) -> tuple[np.ndarray, np.ndarray]:
    if reduction.whole:
        return train, test
    kept = slice(reduction.start, reduction.stop)
    return spectrum.train[:, kept], spectrum.transform(test)[:, kept]


SHAPES = {
    "n": st.integers(2, 20),
    "d": st.integers(1, 25),
    "m": st.integers(1, 9),
    "seed": st.integers(0, 2**32 - 1),
}


@settings(deadline=None)
@given(**SHAPES, shrinkage=st.sampled_from(SHRINKAGES))
@example(n=15, d=15, m=1, seed=118, shrinkage="empirical")  # singular, with a last pivot well above 0
def test_mahalanobis_distances(n: int, d: int, m: int, seed: int, shrinkage: str) -> None:
    train, test, spectrum = case(n, d, m, seed)
    reductions = reductions_of(spectrum)
    fitted = fit_gaussians(spectrum, reductions, shrinkage)
    for reduction, gaussian in zip(reductions, fitted, strict=True):
        x, y = reduced(spectrum, train, test, reduction)
        refusal = None
        try:
            expected = MultivariateGaussian(shrinkage).fit(x).score_samples(y)
        except EstimatorError as error:
            refusal = str(error)
        if refusal is not None:
            assert isinstance(gaussian, EstimatorError)
            assert str(gaussian) == refusal
            continue
        assert not isinstance(gaussian, EstimatorError), gaussian
        (scores,) = mahalanobis([gaussian], spectrum.project(test))
        rtol = 1e-11
        if (
            reduction.whole
        ):  # In the features' own axes the reference loses the covariance's condition number.
            rtol = 1e-7 + 1e-14 * (spectrum.singular_values[0] / spectrum.singular_values[-1]) ** 2
        np.testing.assert_allclose(scores, expected, rtol=rtol)


@settings(deadline=None)
@given(**SHAPES, near=st.sampled_from([0.0, 1e-9, 1e-4, 0.1, 1.0]))
def test_neighbor_distances(n: int, d: int, m: int, seed: int, near: float) -> None:
    """Also of test images that are nearly, or exactly, training images."""
    train, test, _ = case(n, d, m, seed)
    test = train[np.arange(m) % n] + near * (test - train[np.arange(m) % n])
    spectrum = Spectrum.fit(train)
    reductions = reductions_of(spectrum)
    k = min(n, 6)
    found = neighbor_distances(spectrum, spectrum.project(test), (train, test), reductions, k)
    assert found.shape == (len(reductions), m, k)
    for reduction, distances in zip(reductions, found, strict=True):
        x, y = reduced(spectrum, train, test, reduction)
        for i in range(1, k + 1):
            expected = NearestNeighborDistance(i, "kth").fit(x).score_samples(y)
            np.testing.assert_allclose(distances[:, i - 1], expected, rtol=1e-12, atol=1e-300)
    if near == 0.0:
        assert not found[:, :, 0].any()


def test_distances_from_a_far_off_cluster() -> None:
    """All images far from the mean of few: the expansion of the square would lose most digits."""
    rng = np.random.default_rng(0)
    train = np.vstack([rng.standard_normal((10, 6)), rng.standard_normal((10, 6)) + 1e6])
    test = rng.standard_normal((8, 6)) + 1e6
    spectrum = Spectrum.fit(train)
    reductions = reductions_of(spectrum)
    found = neighbor_distances(spectrum, spectrum.project(test), (train, test), reductions, 3)
    for reduction, distances in zip(reductions, found, strict=True):
        x, y = reduced(spectrum, train, test, reduction)
        expected = NearestNeighborDistance(3).fit(x).score_samples(y)
        np.testing.assert_allclose(distances.mean(axis=1), expected, rtol=1e-12)


def test_portions_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    train, test, spectrum = case(15, 8, 11, 0)
    arguments = (spectrum, spectrum.project(test), (train, test), reductions_of(spectrum), 4)
    whole = neighbor_distances(*arguments)
    monkeypatch.setattr(closed_form, "_PORTION", 2 * 15)
    np.testing.assert_allclose(neighbor_distances(*arguments), whole, rtol=1e-12)


@pytest.mark.parametrize("d", [2, 3, 5, 7])
@pytest.mark.parametrize("shrinkage", SHRINKAGES)
def test_equal_variances(d: int, shrinkage: str) -> None:
    train = np.concatenate([np.eye(d), -np.eye(d)]) * 0.1 + 0.7
    spectrum = Spectrum.fit(train)
    (gaussian,) = fit_gaussians(spectrum, [Reduction(0, d, whole=True)], shrinkage)
    assert not isinstance(gaussian, EstimatorError)
    np.testing.assert_allclose(mahalanobis([gaussian], spectrum.project(train)), np.sqrt(d), rtol=1e-12)


def test_no_gaussians() -> None:
    _, test, spectrum = case(5, 8, 3, 0)
    (refused,) = fit_gaussians(spectrum, [Reduction(0, 4, whole=True)], "empirical")
    assert isinstance(refused, EstimatorError)
    assert mahalanobis([], spectrum.project(test)).shape == (0, 3)
