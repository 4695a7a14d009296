"""Whitening, and the number of steps chosen by held-back training samples."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.covariance import LedoitWolf, ledoit_wolf_shrinkage
from sklearn.model_selection import KFold

from anomaly_sweep.config import PcaModeConf
from anomaly_sweep.estimators.flow import FittedFlow, flow_settings, score_stack, train_stack
from anomaly_sweep.estimators.flow.choice import ENOUGH, choose, fold_samples, is_decided
from anomaly_sweep.estimators.flow.data import Whitener, ledoit_wolf
from anomaly_sweep.estimators.gaussian import MultivariateGaussian
from anomaly_sweep.estimators.spectrum import Spectrum
from anomaly_sweep.tasks.detection.reductions import Reductions
from tests.support.flow import banana

torch.set_num_threads(1)  # the products are tiny: threads would only wait for each other


def correlated(n: int, d: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.standard_normal((n, d)) @ (rng.standard_normal((d, d)) * np.logspace(0, -1, d)) + 5


def ring(n: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    angle, radius = rng.uniform(0, 2 * math.pi, n), 3 + rng.normal(0, 0.3, n)
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], 1)


def trained(x: np.ndarray, seed: int = 0, **changes: object) -> FittedFlow:
    (flow,) = train_stack([x], [seed], flow_settings(**changes))
    assert isinstance(flow, FittedFlow)
    return flow


@settings(max_examples=60, deadline=None)
@given(n=st.integers(3, 40), d=st.integers(1, 50), seed=st.integers(0, 2**32 - 1))
def test_whitening_is_scikit_learns_ledoit_wolf(n: int, d: int, seed: int) -> None:
    x, other = correlated(n, d, seed), correlated(7, d, seed + 1)
    centred = x - x.mean(0)
    variances = np.linalg.svd(centred, compute_uv=False) ** 2 / n
    shrinkage, average = ledoit_wolf(centred, variances)
    assert shrinkage == pytest.approx(ledoit_wolf_shrinkage(x), abs=1e-9)
    assert average == pytest.approx(x.var(0).mean())
    reference = LedoitWolf().fit(x)
    whitener = Whitener.of(x, "ledoit_wolf")
    assert np.square(whitener(other)).sum(1) == pytest.approx(reference.mahalanobis(other), rel=1e-6)
    assert -2 * whitener.log_det == pytest.approx(np.linalg.slogdet(reference.covariance_)[1], abs=1e-6)
    np.testing.assert_allclose(whitener.inverse(whitener(other)), other, rtol=1e-8, atol=1e-8)
    # The symmetric root: no choice of eigenvectors' signs is in it.
    w, v = np.linalg.eigh(reference.covariance_)
    np.testing.assert_allclose(whitener(other), (other - x.mean(0)) @ (v / np.sqrt(w)) @ v.T, atol=1e-6)


@pytest.mark.parametrize("how", ["ledoit_wolf", "standard"])
def test_whitening_of_odd_data(how: str) -> None:
    for x in (np.full((5, 3), 0.1), np.zeros((4, 2)), np.array([[1.0, 2], [3, -4]]), np.eye(3) * 1e150):
        whitener = Whitener.of(x, how)
        assert np.isfinite(whitener(x)).all()
        assert math.isfinite(whitener.log_det)


@pytest.mark.parametrize(("n", "d"), [(40, 6), (20, 50), (30, 1), (12, 12)])
def test_no_step_is_the_gaussian(n: int, d: int) -> None:
    """With the score z2: MVG's squared distance over the dimensions, so the same order."""
    x, test = correlated(n, d, 0), correlated(25, d, 1)
    distance = MultivariateGaussian().fit(x).score_samples(test)
    np.testing.assert_allclose(trained(x, steps=0).score_samples(test), distance**2 / d, rtol=1e-6)


def test_few_steps_where_the_gaussian_is_right() -> None:
    """Equal variances, where Ledoit and Wolf's estimate has nothing wrong with it."""
    cases = [(n, d) for n in (60, 200) for d in (2, 8, 40)]
    steps = [trained(7 * np.random.default_rng(d).standard_normal((n, d)) - 3).steps for n, d in cases]
    assert max(steps) <= 5, steps


def test_more_steps_and_a_better_likelihood_where_it_is_wrong() -> None:
    """The bent Gaussian's own entropy, 1.63 nats, is known; its best Gaussian has 2.57."""
    bent = 1 + math.log(2 * math.pi) + math.log(0.3)
    gaussian = 1 + math.log(2 * math.pi) + math.log(0.59) / 2
    flow = trained(banana(400, 0))
    assert flow.steps > 20
    assert flow.score_samples(banana(4000, 1), "nll").mean() < (bent + gaussian) / 2


def test_a_ring_is_seen_inside() -> None:
    """The middle of a ring is the most normal place to a Gaussian, and far from every sample."""
    train = ring(400, 0)
    flow, gaussian = (trained(train, score="nll", **changes) for changes in ({}, {"steps": 0}))
    good, middle = ring(200, 1), np.random.default_rng(2).normal(0, 0.3, (200, 2))
    assert np.median(gaussian.score_samples(middle)) < gaussian.score_samples(good).min()
    assert np.median(flow.score_samples(middle)) > np.median(flow.score_samples(good))
    assert flow.score_samples(good).mean() < gaussian.score_samples(good).mean()


def test_choice_of_steps() -> None:
    level = np.random.default_rng(0).normal(0, 5, 50)
    both_ways = np.tile([1.0, -1.0], 25)

    def curve(*means: float) -> np.ndarray:
        return np.array([level + m for m in means])

    assert choose(curve(3, 2, 1, 2, 3), 10) == 2
    assert choose(curve(1, 2, 3), 10) == 0
    assert choose(curve(1, 1, 1), 10) == 0
    # The standard error of the differences is 0.1 / 7 here: within it of the best, fewer steps.
    close, apart = curve(3, 1.01, 1), curve(3, 1.02, 1)
    for one in (close, apart):
        one[1] += 0.1 * both_ways
    assert (choose(close, 10), choose(apart, 10)) == (1, 2)
    # What comes after the decision has no say.
    assert choose(curve(3, 2, 3, 3, 3, 3, 0), 2) == 1
    assert choose(curve(3, 2, 3, 3, 3, 3, 0), 10) == 6
    assert choose(curve(3, math.nan, 2, math.inf, 1, math.nan), 10) == 4
    assert choose(curve(math.nan, math.nan), 10) == 0
    assert not is_decided(np.array([3.0, 2, 3, 3]), 2)
    assert is_decided(np.array([3.0, 2, 3, 3, 3]), 2)


@given(n=st.integers(0, 300), folds=st.integers(2, 10))
def test_folds_are_scikit_learns(n: int, folds: int) -> None:
    found = fold_samples(n, folds)
    if n < 2 * folds:
        assert found == []
        return
    for ours, (theirs, _) in zip(found, KFold(folds).split(np.zeros(n)), strict=True):
        assert np.array_equal(ours, theirs)


def test_one_fold_is_enough_of_many_samples() -> None:
    for n in (999, 1500, 5000, 24000):
        held = [n - len(rows) for rows in fold_samples(n, 5)]
        assert sum(held) >= min(n, ENOUGH)
        assert len(held) == min(5, math.ceil(ENOUGH / (n / 5)))


@pytest.mark.parametrize("changes", [{}, {"batch_size": 16}, {"coupling": "realnvp", "score": "nll"}])
def test_stacked_is_alone_in_any_order(changes: dict[str, object]) -> None:
    """Rounding may move a choice by a step."""
    chosen = flow_settings(**changes)
    plain = np.random.default_rng(0).standard_normal((60, 2))
    data = [banana(60, 0), correlated(60, 2, 1), plain, correlated(5, 2, 3), correlated(61, 2, 4)]
    test = [ring(20, seed) for seed in range(5)]
    seeds, order = [5, 6, 7, 8, 9], [3, 0, 4, 2, 1]
    together = train_stack(data, seeds, chosen)
    shuffled = train_stack([data[i] for i in order], [seeds[i] for i in order], chosen)
    assert len({flow.steps for flow in together}) > 2, [flow.steps for flow in together]
    scores = score_stack(together, test)
    for i, flow in enumerate(together):
        (alone,) = train_stack([data[i]], [seeds[i]], chosen)
        for other in (alone, shuffled[order.index(i)]):
            assert abs(other.steps - flow.steps) <= 1
            np.testing.assert_allclose(other.score_samples(test[i]), scores[i], rtol=5e-2)


def test_too_few_samples_to_hold_any_back_are_gaussian() -> None:
    for n in range(2, 10):
        flow = trained(banana(n, 0))
        assert flow.steps == 0
        assert np.isfinite(flow.score_samples(banana(30, 1))).all()
    assert trained(banana(40, 0)[:, :1]).steps == 0


def reductions(n: int = 30, d: int = 40) -> tuple[np.ndarray, Reductions]:
    train = correlated(n, d, 0)
    return train, Reductions(train, correlated(5, d, 1))


@pytest.mark.parametrize("mode", ["pca", "npca"])
@pytest.mark.parametrize("rate", [0.1, 0.5, 0.7])
def test_refit_is_the_reduction_of_the_rows_kept(mode: str, rate: float) -> None:
    train, reduced = reductions()
    rows = np.arange(6, 30)
    ours = reduced.refit(PcaModeConf(mode, mode, rate))(rows)
    d = reduced.reduce(PcaModeConf(mode, mode, rate))[0].shape[1]
    spectrum = Spectrum.fit(train[rows])
    kept_ = slice(0, d) if mode == "pca" else slice(spectrum.rank - d, spectrum.rank)
    # Coordinates outside of the features of all rows are none of theirs; signs are arbitrary.
    np.testing.assert_allclose(np.abs(ours), np.abs(spectrum.transform(train)[:, kept_]), atol=1e-9)


def test_refit_has_as_many_dimensions_as_the_reduction() -> None:
    train, reduced = reductions()
    for pca_mode in (
        PcaModeConf("none"),
        PcaModeConf("all", "pca", 1.0),
        PcaModeConf("all", "npca", 1.0),
        PcaModeConf("most", "npca", 0.95),
    ):
        whole = reduced.reduce(pca_mode)[0]
        for rows in fold_samples(len(train), 5):
            again = reduced.refit(pca_mode)(rows)
            assert again.shape == whole.shape
            centred = again - again[rows].mean(0)
            assert np.square(centred[rows]).sum() <= np.square(train - train[rows].mean(0)).sum() + 1e-9


def test_held_back_means_from_the_components_too() -> None:
    """The last components of all rows have seen what is held back: they promise more than there is."""
    x = np.random.default_rng(0).standard_normal((60, 60))
    reduced = Reductions(x, x[:3])
    mode = PcaModeConf("npca30", "npca", 0.3)
    whole, _ = reduced.reduce(mode)
    rows = fold_samples(60, 5)[0]
    refitted = reduced.refit(mode)(rows)
    assert refitted[:12].var() > 4 * refitted[rows].var()
    assert whole[:12].var() < 2 * whole[rows].var()
    settings_ = flow_settings()
    (with_refit,) = train_stack([whole], [0], settings_, refits=[reduced.refit(mode)])
    assert with_refit.steps == 0


def test_wrong_number_of_refits() -> None:
    with pytest.raises(ValueError, match="refits"):
        train_stack([banana(20, 0)], [0], flow_settings(), refits=[])
