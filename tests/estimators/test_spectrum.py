"""The spectrum against scikit-learn's PCA, numpy's rank and distances by differences."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cdist
from sklearn.decomposition import PCA

from anomaly_sweep.errors import EstimatorError
from anomaly_sweep.estimators.spectrum import Spectrum, first_equal_rows, near_origin

SHAPES = [(2, 1), (2, 5), (9, 1), (9, 4), (9, 8), (9, 9), (9, 10), (9, 40), (60, 130), (130, 60)]


def features(n: int, d: int, seed: int = 0, least: float = -2) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.standard_normal((n, d)) @ (rng.standard_normal((d, d)) * np.logspace(0, least, d)) + 3


@pytest.mark.parametrize(("n", "d"), SHAPES)
def test_equals_scikit_learns_pca(n: int, d: int) -> None:
    train, test = features(n, d), features(7, d, 1)
    spectrum, pca = Spectrum.fit(train), PCA(svd_solver="full").fit(train)
    rank = min(n - 1, d)
    assert spectrum.rank == rank
    assert spectrum.n_features == d
    variance = spectrum.singular_values**2 / (n - 1)
    np.testing.assert_allclose(variance, pca.explained_variance_[:rank], rtol=1e-9)
    np.testing.assert_allclose(spectrum.mean, pca.mean_, rtol=1e-13)
    assert spectrum.components.shape == (rank, d)
    np.testing.assert_allclose(np.abs(spectrum.components), np.abs(pca.components_[:rank]), atol=1e-9)
    np.testing.assert_allclose(np.abs(spectrum.train), np.abs(pca.transform(train)[:, :rank]), atol=1e-11)
    np.testing.assert_allclose(
        np.abs(spectrum.transform(test)), np.abs(pca.transform(test)[:, :rank]), atol=1e-11
    )


@pytest.mark.parametrize(("n", "d"), SHAPES)
def test_coordinates_are_those_along_the_components(n: int, d: int) -> None:
    train, test = features(n, d), features(7, d, 1)
    spectrum = Spectrum.fit(train)
    axes = spectrum.components
    np.testing.assert_allclose(axes @ axes.T, np.eye(spectrum.rank), atol=1e-13)
    np.testing.assert_allclose(spectrum.train, (train - spectrum.mean) @ axes.T, atol=1e-11)
    inside, outside = spectrum.project(test)
    np.testing.assert_allclose(inside, (test - spectrum.mean) @ axes.T, atol=1e-11)
    rest = test - spectrum.mean - inside @ axes
    np.testing.assert_allclose(outside, (rest**2).sum(axis=1), atol=1e-11)
    np.testing.assert_allclose(cdist(inside, spectrum.train) ** 2 + outside[:, None], cdist(test, train) ** 2)


@settings(deadline=None)
@given(
    n=st.integers(2, 20),
    d=st.integers(1, 25),
    seed=st.integers(0, 2**32 - 1),
    least=st.sampled_from([0, -3, -6]),
)
def test_training_coordinates_are_uncorrelated(n: int, d: int, seed: int, least: float) -> None:
    """Also where variances differ by many powers of ten: correlations, not covariances, are 0."""
    train = Spectrum.fit(features(n, d, seed, least)).train
    scale = np.sqrt((train**2).sum(axis=0))
    np.testing.assert_allclose(train.T @ train / np.outer(scale, scale), np.eye(train.shape[1]), atol=1e-12)
    assert (np.abs(train.mean(axis=0)) <= 1e-14 * scale).all()


@settings(deadline=None)
@given(
    n=st.integers(2, 20),
    d=st.integers(1, 25),
    dead=st.integers(0, 5),
    copies=st.integers(0, 5),
    repeats=st.integers(0, 5),
    offset=st.sampled_from([0.0, 1.0, 1e5]),
    seed=st.integers(0, 2**32 - 1),
)
def test_rank_counts_directions_with_variance(
    n: int, d: int, dead: int, copies: int, repeats: int, offset: float, seed: int
) -> None:
    train = np.random.default_rng(seed).standard_normal((n, d)) + offset
    train = np.hstack([train, np.full((n, dead), 0.1 + offset), train[:, np.arange(copies) % d]])
    train = np.vstack([train, train[np.arange(repeats) % n]])
    spectrum = Spectrum.fit(train)
    assert spectrum.rank == min(d, n - 1)
    for mode in (
        ("pca", 1.0),
        ("npca", 1.0),
        ("npca", 1.0, "dims"),
        ("pca", 1.0, "variance"),
    ):
        assert spectrum.keep(*mode) == slice(0, spectrum.rank)


@pytest.mark.parametrize("shape", [(50, 6), (6, 50)])
def test_tiny_variance_about_a_large_mean(shape: tuple[int, int]) -> None:
    small = np.random.default_rng(0).standard_normal(shape)
    spectrum = Spectrum.fit(1e6 + 1e-3 * small)
    assert spectrum.rank == min(shape[0] - 1, shape[1])
    np.testing.assert_allclose(
        spectrum.singular_values, 1e-3 * Spectrum.fit(small).singular_values, rtol=1e-6
    )
    assert (
        Spectrum.fit(np.hstack([1e6 + 1e-3 * small, np.full((shape[0], 3), 1e6 / 3)])).rank == spectrum.rank
    )


def test_too_little_to_work_with() -> None:
    with pytest.raises(EstimatorError, match="at least 2 training images, got 1"):
        Spectrum.fit(np.ones((1, 4)))
    for value in (0.0, 0.1, 1e7 / 3):
        with pytest.raises(EstimatorError, match="identical features"):
            Spectrum.fit(np.full((5, 4), value))


@pytest.mark.parametrize(("n", "d"), [(12, 30), (30, 12), (30, 30)])
def test_equal_rows_have_equal_coordinates(n: int, d: int) -> None:
    train, test = features(n, d, least=-8), features(9, d, 1)
    train[5], test[2], test[3], test[8] = train[1], train[5], train[7], test[0]
    spectrum = Spectrum.fit(train)
    inside, outside = spectrum.project(test)
    np.testing.assert_array_equal(spectrum.train[5], spectrum.train[1])
    np.testing.assert_array_equal(inside[[2, 3, 8]], [*spectrum.train[[1, 7]], inside[0]])
    assert outside[2] == outside[3] == 0.0
    assert outside[8] == outside[0]
    assert (inside[1] != inside[0]).all()
    np.testing.assert_array_equal(spectrum.transform(test), inside)


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), min_size=1, max_size=12), st.integers(0, 12))
def test_first_equal_rows_finds_them_all(rows: list[tuple[int, int]], cut: int) -> None:
    """Also among rows with the same numbers in another order, whose sums are equal."""
    matrix = np.array(rows, dtype=float)
    expected = [rows.index(row) for row in rows]
    assert first_equal_rows(matrix).tolist() == expected
    assert first_equal_rows(matrix[:cut], matrix[cut:]).tolist() == expected


def test_keep_by_count() -> None:
    spectrum = Spectrum.fit(features(21, 40))
    assert spectrum.rank == 20
    assert spectrum.keep("none") == slice(0, 20)
    assert spectrum.keep("pca", 0.1) == slice(0, 2)
    assert spectrum.keep("npca", 0.1) == slice(18, 20)
    assert spectrum.keep("pca", 0.001) == slice(0, 1)
    assert spectrum.keep("npca", 0.001) == slice(19, 20)
    assert spectrum.keep("pca", 0.1, "dims") == slice(0, 4)
    assert spectrum.keep("npca", 0.5, "dims") == slice(0, 20)


def test_keep_by_variance() -> None:
    """Variances in the ratio 4 : 3 : 2 : 1 along the axes, exactly."""
    corners = np.array([[a, b, c, d] for a in (-1, 1) for b in (-1, 1) for c in (-1, 1) for d in (-1, 1)])
    spectrum = Spectrum.fit(corners * np.sqrt([4, 3, 2, 1]))
    expected = {0.3: 1, 0.4: 1, 0.41: 2, 0.7: 2, 0.9: 3, 0.91: 4, 1.0: 4}
    for rate, k in expected.items():
        assert spectrum.keep("pca", rate, "variance") == slice(0, k), rate
    expected = {0.05: 1, 0.1: 1, 0.11: 2, 0.3: 2, 0.6: 3, 0.61: 4, 1.0: 4}
    for rate, k in expected.items():
        assert spectrum.keep("npca", rate, "variance") == slice(4 - k, 4), rate


@settings(deadline=None)
@given(
    n=st.integers(3, 25),
    d=st.integers(1, 25),
    seed=st.integers(0, 2**32 - 1),
    rate=st.floats(0.01, 0.99),
)
def test_keep_by_variance_equals_scikit_learns(n: int, d: int, seed: int, rate: float) -> None:
    train = features(n, d, seed)
    spectrum = Spectrum.fit(train)
    kept = PCA(n_components=rate, svd_solver="full").fit(train).n_components_
    assert spectrum.keep("pca", rate, "variance") == slice(0, kept)
    ratios = PCA(svd_solver="full").fit(train).explained_variance_ratio_[: spectrum.rank]
    start = spectrum.keep("npca", rate, "variance").start
    assert ratios[start:].sum() >= rate - 1e-9
    assert ratios[start + 1 :].sum() < rate + 1e-9


@pytest.mark.parametrize("offset", [0.0, 1.0, -1e4, 1e6])
def test_float32_features_are_shifted_without_rounding(offset: float) -> None:
    rng = np.random.default_rng(0)
    train = (offset + rng.standard_normal((20, 6)) * max(1.0, abs(offset)) * 1e-6).astype(np.float32)
    origin = near_origin(train.astype(np.float64))
    shifted = train.astype(np.float64) - origin
    for value, shift, at in zip(train.ravel(), shifted.ravel(), np.tile(origin, 20), strict=True):
        assert Fraction(float(value)) - Fraction(float(at)) == Fraction(float(shift))
    assert (np.abs(shifted.mean(axis=0)) <= np.spacing(np.abs(origin).astype(np.float32))).all()


def test_an_origin_for_numbers_beyond_float32() -> None:
    assert near_origin(np.array([[1e300, 1.0], [1e300, 3.0]])).tolist() == [0.0, 2.0]
