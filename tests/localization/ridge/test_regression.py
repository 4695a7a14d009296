"""Streamed ridge regression against scikit-learn and against brute force with the whole design matrix."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.linear_model import Ridge as SklearnRidge

from anomaly_sweep.errors import EstimatorError
from anomaly_sweep.localization.ridge.regression import Centred, Ridge, Sums

Array = NDArray[np.float64]

ALPHAS = (1e-6, 1e-3, 0.1, 10.0)


def data(n: int, d: int, m: int, p: int, seed: int = 0, offset: float = 0.0) -> tuple[Array, Array]:
    """Images of x (n, d, p) and y (n, m, p): related, with means that differ by place, float32 values."""
    made = np.random.default_rng(seed)
    x = made.normal(size=(n, d, p)) @ np.diag(made.uniform(0.1, 2, p)) + made.normal(size=(d, p))
    y = np.einsum("md,ndp->nmp", made.normal(size=(m, d)), x) + made.normal(size=(n, m, p))
    y += made.normal(size=(m, p))
    return tuple((a + offset).astype(np.float32).astype(np.float64) for a in (x, y))  # type: ignore[return-value]


def moments(x: Array, y: Array, by_place: bool) -> Centred:
    sums = Sums(torch.from_numpy(x[0]).float(), torch.from_numpy(y[0]).float())
    for one_x, one_y in zip(x, y, strict=True):
        sums.add(torch.from_numpy(one_x).float(), torch.from_numpy(one_y).float())
    return sums.centre(by_place)


def rows(images: Array) -> Array:
    """Images (n, d, p) as rows (n p, d), place by place within an image."""
    return images.swapaxes(1, 2).reshape(-1, images.shape[1])


def centred(images: Array, by_place: bool) -> Array:
    return rows(images - images.mean((0,) if by_place else (0, 2), keepdims=True))


def penalty(x: Array, by_place: bool, alpha: float) -> float:
    return alpha * float(np.linalg.eigvalsh(centred(x, by_place).T @ centred(x, by_place)).mean())


@pytest.mark.parametrize("alpha", ALPHAS)
@pytest.mark.parametrize("offset", [0.0, 1e6])
def test_a_shared_intercept_is_sklearns_ridge(alpha: float, offset: float) -> None:
    x, y = data(6, 12, 5, 9, offset=offset)
    ridge = Ridge(moments(x, y, False))
    weights = ridge.weights(alpha)
    plain = SklearnRidge(alpha=penalty(x, False, alpha)).fit(rows(x), rows(y))
    np.testing.assert_allclose(weights.numpy(), plain.coef_, rtol=1e-7, atol=1e-9)
    predicted = rows(x) @ weights.numpy().T + ridge.offset(weights).numpy()[:, 0]
    np.testing.assert_allclose(predicted, plain.predict(rows(x)), rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("alpha", ALPHAS)
def test_intercepts_by_place_are_unpenalised_regressors_of_the_place(alpha: float) -> None:
    n, d, m, p = 6, 5, 4, 3
    x, y = data(n, d, m, p)
    ridge = Ridge(moments(x, y, True))
    weights = ridge.weights(alpha)
    design = np.hstack([rows(x), np.tile(np.eye(p), (n, 1))])
    penalties = np.diag([penalty(x, True, alpha)] * d + [0.0] * p)
    solved = np.linalg.solve(design.T @ design + penalties, design.T @ rows(y))
    np.testing.assert_allclose(weights.numpy().T, solved[:d], rtol=1e-7, atol=1e-9)
    np.testing.assert_allclose(ridge.offset(weights).numpy().T, solved[d:], rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("by_place", [False, True])
@pytest.mark.parametrize("alpha", ALPHAS)
@pytest.mark.parametrize("d", [4, 40])
def test_errors_and_gcv_are_those_of_the_hat_matrix(by_place: bool, alpha: float, d: int) -> None:
    n, m, p = 5, 3, 4
    x, y = data(n, d, m, p)
    ridge = Ridge(moments(x, y, by_place))
    inside = centred(x, by_place)
    place = np.tile(np.eye(p) if by_place else np.ones((p, 1)), (n, 1))
    kernel = inside @ np.linalg.solve(inside.T @ inside + penalty(x, by_place, alpha) * np.eye(d), inside.T)
    hat = kernel + place @ np.linalg.pinv(place)
    errors = ((rows(y) - hat @ rows(y)) ** 2).sum(axis=0)
    np.testing.assert_allclose(ridge.squared_errors(alpha).numpy(), errors, rtol=1e-6, atol=1e-8)
    expected = len(hat) * errors.sum() / (len(hat) - np.trace(hat)) ** 2
    # With d > n p the errors and what is left of the rows both vanish with alpha: digits are lost.
    assert ridge.gcv(alpha) == pytest.approx(expected, rel=1e-8 if d < n * p else 1e-3)


@settings(max_examples=30, deadline=None)
@given(
    n=st.integers(2, 6), d=st.integers(1, 6), m=st.integers(1, 5), p=st.integers(1, 6),
    by_place=st.booleans(), seed=st.integers(0, 100),
)  # fmt: skip
def test_the_order_of_images_changes_nothing(
    n: int, d: int, m: int, p: int, by_place: bool, seed: int
) -> None:
    x, y = data(n, d, m, p, seed)
    order = np.random.default_rng(seed).permutation(n)
    one, other = (Ridge(moments(x[i], y[i], by_place)) for i in (np.arange(n), order))
    for alpha in (1e-2, 1.0):
        torch.testing.assert_close(one.weights(alpha), other.weights(alpha), rtol=1e-8, atol=1e-10)
        torch.testing.assert_close(
            one.offset(one.weights(alpha)), other.offset(other.weights(alpha)), rtol=1e-8, atol=1e-10
        )


@pytest.mark.parametrize("by_place", [False, True])
@pytest.mark.parametrize("alpha", [1e-6, 1e-3, 1.0])
def test_dead_and_equal_features_and_few_rows(by_place: bool, alpha: float) -> None:
    x, y = data(2, 30, 4, 5)
    x[:, 3], x[:, 7], y[:, 2] = 0.25, x[:, 8], 3.0
    ridge = Ridge(moments(x, y, by_place))
    plain = SklearnRidge(alpha=penalty(x, by_place, alpha), solver="svd", fit_intercept=False)
    plain.fit(centred(x, by_place), centred(y, by_place))
    weights = ridge.weights(alpha).numpy()
    expected = plain.predict(centred(x, by_place))
    np.testing.assert_allclose(centred(x, by_place) @ weights.T, expected, rtol=1e-6, atol=1e-7)
    assert np.abs(weights[:, 3]).max() < 1e-8
    assert np.abs(weights[2]).max() < 1e-8


def test_features_that_never_change_predict_the_mean() -> None:
    x, y = np.ones((3, 2, 4)), data(3, 2, 3, 4)[1]
    ridge = Ridge(moments(x, y, False))
    weights = ridge.weights(1e-3)
    assert (weights == 0).all()
    np.testing.assert_allclose(ridge.offset(weights)[:, 0].numpy(), y.mean((0, 2)), rtol=1e-12)
    assert np.isfinite(ridge.gcv(1e-3))


def test_as_many_intercepts_as_rows_leave_nothing_to_choose_by() -> None:
    x, y = data(1, 3, 2, 4)
    assert Ridge(moments(x, y, True)).gcv(0.1) == float("inf")


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("part", [0, 1])
def test_values_that_are_not_finite_are_refused(value: float, part: int) -> None:
    both = data(3, 2, 2, 4)
    both[part][1, 1, 2] = value
    with pytest.raises(EstimatorError, match=r"3 training images.*not finite"):
        moments(*both, by_place=True)
