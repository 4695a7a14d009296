"""Trials: the plain path is scikit-learn's, the shared path is the plain one's."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.covariance import LedoitWolf
from sklearn.decomposition import PCA
from sklearn.metrics import roc_auc_score
from sklearn.neighbors import NearestNeighbors

from anomaly_sweep.config import PcaModeConf
from anomaly_sweep.features.pooled import ShardFeatures
from anomaly_sweep.fingerprint import fingerprint, seeds_of
from anomaly_sweep.tasks.base import TrialResult
from anomaly_sweep.tasks.detection.run import run_trials
from anomaly_sweep.tasks.detection.trial import DetectionTrial

ESTIMATORS = "anomaly_sweep.estimators"
REDUCTIONS = [PcaModeConf("none")] + [
    PcaModeConf(f"{mode}{rate}", mode, rate / 100) for mode in ("pca", "npca") for rate in range(10, 60, 10)
]
MVG = {"name": "mvg", "_target_": f"{ESTIMATORS}.gaussian.MultivariateGaussian"}


def knn(k: int, aggregation: str = "mean") -> dict[str, Any]:
    return {
        "name": f"knn{k}",
        "_target_": f"{ESTIMATORS}.neighbors.NearestNeighborDistance",
        "k": k,
        "aggregation": aggregation,
    }


CLOSED_FORM = [
    *({**MVG, "shrinkage": shrinkage} for shrinkage in ("ledoit_wolf", "oas", "empirical")),
    knn(1),
    knn(5),
    knn(10),
    knn(3, "kth"),
]
FLOW = {
    "name": "flow",
    "_target_": f"{ESTIMATORS}.flow.coupling_flow",
    "preset": "fast",
    "blocks": 2,
    "hidden": 8,
    "steps": 4,
    "folds": 0,
    "start": "random",
}
FOREST = {"name": "forest", "_target_": "sklearn.ensemble.IsolationForest", "n_estimators": 5}


def trial(
    pca_mode: PcaModeConf, estimator: dict[str, Any], levels: tuple[str, ...] = ("1",), pool: str = "avg"
) -> DetectionTrial:
    return DetectionTrial(
        fingerprint(levels, pool, pca_mode, estimator), levels, (pool,), pca_mode, estimator
    )


def grid(*estimators: dict[str, Any], levels: tuple[str, ...] = ("1",)) -> list[DetectionTrial]:
    return [trial(reduction, estimator, levels) for reduction in REDUCTIONS for estimator in estimators]


def shard(train: np.ndarray, test: np.ndarray) -> ShardFeatures:
    """Features as they are given: float64 here, so that a test can have digits that float32 has not."""
    return ShardFeatures({"1": {"avg": train}}, {"1": {"avg": test}}, {})


def random_case(n: int, d: int, good: int, bad: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    mixing = rng.standard_normal((d, d)) * np.logspace(0, -2, d)[:, None]
    labels = np.repeat([0, 1], [good, bad])
    test = (rng.standard_normal((good + bad, d)) + labels[:, None]) @ mixing
    return rng.standard_normal((n, d)) @ mixing + 3, test + 3, labels


def by_print(results: list[TrialResult]) -> dict[str, TrialResult]:
    found = {result.fingerprint: result for result in results}
    assert len(found) == len(results)
    return found


def values(results: list[TrialResult]) -> dict[str, tuple[Any, ...]]:
    """What of results must not depend on how they were computed."""
    return {
        r.fingerprint: (r.status, r.image_auroc, r.n_features, r.n_train, r.n_test, r.reason) for r in results
    }


def scikit_learn(
    train: np.ndarray, test: np.ndarray, labels: np.ndarray, mode: PcaModeConf, k: int | None
) -> float:
    if mode.mode != "none":
        rank = min(len(train) - 1, train.shape[1])
        kept = min(max(round(mode.rate * rank), 1), rank)
        pca = PCA(n_components=rank, svd_solver="full").fit(train)
        part = slice(0, kept) if mode.mode == "pca" else slice(rank - kept, rank)
        train, test = pca.transform(train)[:, part], pca.transform(test)[:, part]
    if k is None:
        scores = LedoitWolf().fit(train).mahalanobis(test)
    else:
        scores = NearestNeighbors(n_neighbors=k).fit(train).kneighbors(test)[0].mean(axis=1)
    # In one dimension a mean distance is constant between training points: ties but for rounding.
    return float(roc_auc_score(labels, np.round(scores / scores.max(), 11)))


@settings(max_examples=60, deadline=None)
@given(
    n=st.integers(3, 40),
    d=st.integers(1, 50),
    good=st.integers(1, 12),
    bad=st.integers(1, 12),
    seed=st.integers(0, 2**32 - 1),
)
def test_plain_path_equals_scikit_learn(n: int, d: int, good: int, bad: int, seed: int) -> None:
    train, test, labels = random_case(n, d, good, bad, seed)
    ks = [k for k in (1, 5, 10) if k <= n]
    trials = grid(MVG, *(knn(k) for k in ks))
    results = by_print(run_trials(shard(train, test), labels, trials, shared=False))
    for one in trials:
        expected = scikit_learn(train, test, labels, one.pca_mode, one.estimator.get("k"))
        assert results[one.fingerprint].image_auroc == pytest.approx(expected, abs=1e-9), one


@st.composite
def hard_cases(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Few or many rows, dead and duplicated channels, duplicate images within and across parts, ties."""
    n, d = draw(st.integers(2, 24)), draw(st.integers(1, 30))
    good, bad = draw(st.integers(1, 10)), draw(st.integers(1, 10))
    train, test, labels = random_case(n, d, good, bad, draw(st.integers(0, 2**32 - 1)))
    if draw(st.booleans()):
        train, test = np.round(train), np.round(test)
    offset = draw(st.sampled_from([0.0, 100.0, 1e4]))
    train, test = train + offset, test + offset
    channel = st.integers(0, d - 1)
    for dead in draw(st.lists(channel, max_size=3)):
        train[:, dead] = test[:, dead] = draw(st.sampled_from([0.0, 7.25]))
    for copy, original in draw(st.lists(st.tuples(channel, channel), max_size=3)):
        train[:, copy], test[:, copy] = train[:, original], test[:, original]
    train_row, test_row = st.integers(0, n - 1), st.integers(0, len(test) - 1)
    for copy, original in draw(st.lists(st.tuples(train_row, train_row), max_size=4)):
        train[copy] = train[original]
    for copy, original in draw(st.lists(st.tuples(test_row, train_row), max_size=4)):
        test[copy] = train[original]
    for copy, original in draw(st.lists(st.tuples(test_row, test_row), max_size=4)):
        test[copy] = test[original]
    return train, test, labels


@settings(max_examples=150, deadline=None)
@given(hard_cases())
def test_shared_path_equals_plain_path(case: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    train, test, labels = case
    trials = grid(*CLOSED_FORM)
    shared = by_print(run_trials(shard(train, test), labels, trials))
    plain = by_print(run_trials(shard(train, test), labels, trials, shared=False))
    assert shared.keys() == plain.keys()
    for one in trials:
        a, b = shared[one.fingerprint], plain[one.fingerprint]
        about = (one.pca_mode.label, one.estimator)
        assert (a.status, a.reason) == (b.status, b.reason), about
        assert (a.n_features, a.n_train, a.n_test) == (b.n_features, b.n_train, b.n_test), about
        # Of d + 1 images all have one distance under their sample covariance: ties to its condition only.
        tied = one.estimator.get("shrinkage") == "empirical" and len(train) <= (a.n_features or 0) + 1
        if not tied:
            assert a.image_auroc == pytest.approx(b.image_auroc, abs=1e-9), about
        if a.ok:
            assert a.fit_seconds is not None
            assert a.fit_seconds >= 0
            assert a.score_seconds is not None
            assert a.score_seconds > 0


@st.composite
def quantised_cases(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Float32 features whose spread is a few of float32's steps at their offset: many equal distances."""
    n, d = draw(st.integers(3, 40)), draw(st.integers(1, 40))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    labels = np.repeat([0, 1], draw(st.tuples(st.integers(1, 25), st.integers(1, 25))))
    offset = draw(st.sampled_from([1.0, -300.0, 1e4, 1e6])) * np.exp(rng.uniform(-1, 1, d))
    steps = draw(st.sampled_from([0.5, 1.0, 3.0, 50.0])) * np.spacing(np.abs(offset).astype(np.float32))
    train = offset + steps * rng.standard_normal((n, d))
    test = offset + steps * (rng.standard_normal((len(labels), d)) + 0.5 * labels[:, None])
    return train.astype(np.float32), test.astype(np.float32), labels


@settings(max_examples=100, deadline=None)
@given(quantised_cases())
def test_shared_path_equals_plain_path_however_far_from_zero(
    case: tuple[np.ndarray, np.ndarray, np.ndarray],
) -> None:
    train, test, labels = case
    trials = grid(*CLOSED_FORM)
    shared = by_print(run_trials(shard(train, test), labels, trials))
    plain = by_print(run_trials(shard(train, test), labels, trials, shared=False))
    for one in trials:
        a, b = shared[one.fingerprint], plain[one.fingerprint]
        about = (one.pca_mode.label, one.estimator)
        assert (a.status, a.reason, a.n_features) == (b.status, b.reason, b.n_features), about
        if not a.ok or one.estimator.get("shrinkage") == "empirical":
            continue  # a sample covariance may have any condition
        assert a.image_auroc == pytest.approx(b.image_auroc, abs=1e-12), about
        of_shared, of_plain = (np.frombuffer(r.scores or b"") for r in (a, b))
        # Beside its own size, a score's error is that of coordinates: a few roundings of the largest.
        rounding = 2.0**-45 * np.abs(of_plain).max()
        np.testing.assert_allclose(of_shared, of_plain, rtol=2.0**-34, atol=rounding, err_msg=str(about))


def test_an_offset_of_the_features_changes_nothing() -> None:
    """Exactly: the shift by a power of two of the features' steps is exact in float32."""
    rng = np.random.default_rng(0)
    train, test = (rng.integers(-40, 40, (rows, 12)) * 2.0**-10 for rows in (30, 50))
    labels = np.repeat([0, 1], 25)
    test[25:] += 2.0**-8
    trials = grid(*CLOSED_FORM)
    near = by_print(run_trials(shard(train, test), labels, trials))
    far = by_print(run_trials(shard(train + 2.0**13, test + 2.0**13), labels, trials))
    for one in trials:
        assert near[one.fingerprint].image_auroc == far[one.fingerprint].image_auroc, one


@pytest.mark.parametrize("basis", ["rank", "dims", "variance"])
def test_overlapping_reductions_of_any_basis(basis: str) -> None:
    train, test, labels = random_case(20, 12, 8, 8, 5)
    modes = [PcaModeConf("", mode, rate, basis) for mode in ("pca", "npca") for rate in (0.3, 0.8, 0.95, 1.0)]
    trials = [trial(mode, estimator) for mode in modes for estimator in CLOSED_FORM]
    shared, plain = (run_trials(shard(train, test), labels, trials, shared=flag) for flag in (True, False))
    a, b = values(shared), values(plain)
    for trial_id in b:
        assert a[trial_id][1] == pytest.approx(b[trial_id][1], abs=1e-9)
        assert a[trial_id][2:] == b[trial_id][2:]


def test_all_components_are_the_features_in_other_axes() -> None:
    train, test, labels = random_case(30, 7, 10, 10, 1)
    whole = [trial(PcaModeConf("none"), knn(5)), trial(PcaModeConf("none"), MVG)]
    turned = [trial(PcaModeConf("npca100", "npca", 1.0), e) for e in (knn(5), MVG)]
    results = by_print(run_trials(shard(train, test), labels, [*whole, *turned]))
    for a, b in zip(whole, turned, strict=True):
        assert results[a.fingerprint].image_auroc == results[b.fingerprint].image_auroc


def two_levels() -> tuple[ShardFeatures, np.ndarray]:
    first, second = random_case(20, 6, 8, 8, 2), random_case(20, 30, 8, 8, 3)
    features = ShardFeatures(
        {"1": {"avg": first[0]}, "2": {"avg": second[0]}},
        {"1": {"avg": first[1]}, "2": {"avg": second[1]}},
        {"3": "level 3 is out of order"},
    )
    return features, first[2]


def test_order_and_company_of_trials_change_nothing() -> None:
    features, labels = two_levels()
    trials = [t for levels in (("1",), ("2",), ("1", "2")) for t in grid(*CLOSED_FORM, FOREST, levels=levels)]
    together = values(run_trials(features, labels, trials))
    shuffled = random.Random(0).sample(trials, len(trials))
    assert values(run_trials(features, labels, shuffled)) == together
    for one in shuffled[:40]:
        assert values(run_trials(features, labels, [one])) == {one.fingerprint: together[one.fingerprint]}


def test_results_are_told_as_they_are_made() -> None:
    features, labels = two_levels()
    told: list[TrialResult] = []
    results = run_trials(features, labels, grid(MVG, FOREST, FLOW), on_trial=told.append)
    assert told == results
    assert len(told) == 3 * len(REDUCTIONS)


def test_distinct_settings_have_distinct_numbers() -> None:
    """The comparisons above would also hold if every trial gave the same number."""
    features, labels = two_levels()
    areas = {r.image_auroc for r in run_trials(features, labels, grid(*CLOSED_FORM, levels=("2",))) if r.ok}
    assert len(areas) > 20


@pytest.mark.parametrize("shared", [True, False])
def test_failures_stay_with_their_trials(shared: bool) -> None:
    features, labels = two_levels()
    none = PcaModeConf("none")
    good = [trial(none, MVG), trial(none, knn(5)), trial(none, FOREST), trial(none, FLOW)]
    bad = [
        (trial(none, knn(21)), "estimator.k=21 is above the number of training images, 20"),
        (trial(none, {**MVG, "shrinkage": "empirical"}, ("2",)), "is singular; use estimator.shrinkage="),
        (trial(none, knn(0)), "estimator.k=0 is outside"),
        (trial(none, {**MVG, "srinkage": "oas"}), "allowed: shrinkage"),
        (trial(none, {**FLOW, "coupling": "nice"}), "coupling"),
        (trial(none, {"name": "x", "_target_": "nowhere.Nothing"}), "cannot be imported"),
        (trial(none, MVG, ("3",)), "level 3 is out of order"),
        (trial(none, {"name": "x", "_target_": "fractions.Fraction"}), "has no fit and score_samples"),
    ]
    results = by_print(run_trials(features, labels, [*(one for one, _ in bad), *good], shared=shared))
    for one, reason in bad:
        assert not results[one.fingerprint].ok
        assert results[one.fingerprint].image_auroc is None
        assert reason in results[one.fingerprint].reason
    assert all(results[one.fingerprint].ok for one in good)
    alone = values(run_trials(features, labels, good, shared=shared))
    assert alone == {one.fingerprint: values(list(results.values()))[one.fingerprint] for one in good}


class Fragile:
    """An estimator with a bug."""

    def __init__(self, when: str = "fit") -> None:
        self.when = when

    def fit(self, X: np.ndarray) -> Fragile:
        if self.when == "fit":
            raise ZeroDivisionError("a bug")
        return self

    def score_samples(self, X: np.ndarray) -> np.ndarray:
        return np.full(len(X), np.nan)


def test_bugs_and_bad_scores_of_an_estimator_are_told(caplog: pytest.LogCaptureFixture) -> None:
    features, labels = two_levels()
    fragile = {"name": "fragile", "_target_": f"{__name__}.Fragile"}
    a = trial(PcaModeConf("none"), fragile)
    b = trial(PcaModeConf("none"), {**fragile, "when": "never"})
    results = by_print(run_trials(features, labels, [a, b]))
    assert results[a.fingerprint].reason == "ZeroDivisionError: a bug"
    assert "Traceback" in caplog.text
    assert a.fingerprint in caplog.text
    assert results[b.fingerprint].reason == "16 of 16 scores are NaN or infinite"


@pytest.mark.parametrize("shared", [True, False])
def test_unusable_data_fails_every_trial_with_the_reason(shared: bool) -> None:
    train, test, labels = random_case(6, 3, 4, 4, 0)
    trials = grid(MVG, knn(1), FOREST, FLOW)
    for features, marks, reason in (
        (shard(np.ones((6, 3)), test), labels, "identical features"),
        (shard(train, test), np.zeros_like(labels), "one class is missing"),
    ):
        results = run_trials(features, marks, trials, shared=shared)
        assert len(results) == len(trials)
        assert all(not r.ok and reason in r.reason for r in results)


@pytest.mark.parametrize("shared", [True, False])
def test_one_training_image_has_distances_and_no_variance(shared: bool) -> None:
    train, test, labels = random_case(6, 3, 4, 4, 0)
    trials = grid(MVG, knn(1))
    results = run_trials(shard(train[:1], test), labels, trials, shared=shared)
    possible = {t.fingerprint for t in trials if t.estimator["name"] != "mvg" and t.pca_mode.mode == "none"}
    assert possible
    assert {r.fingerprint for r in results if r.ok} == possible
    expected = roc_auc_score(labels, np.linalg.norm(test - train[0], axis=1))
    assert all(abs(r.image_auroc - expected) < 1e-12 for r in results if r.image_auroc is not None)
    reasons = {r.reason for r in results if not r.ok}
    assert len(reasons) == 2
    assert "a spectrum needs at least 2 training images, got 1" in reasons
    assert any("covariance of 1 training images" in r and "more training images" in r for r in reasons)


def test_equal_images_get_equal_scores_from_any_estimator() -> None:
    """A good and an anomalous test image that are the same are a tie: 0.5, whatever rounding does."""
    train, test, _ = random_case(40, 30, 1, 1, 7)
    test[1] = test[0]
    estimators = (*CLOSED_FORM[:2], knn(5), FOREST, FLOW)
    for shared in (True, False):
        results = run_trials(shard(train, test), np.array([0, 1]), grid(*estimators), shared=shared)
        assert {r.image_auroc for r in results} == {0.5}


def test_flows_are_deterministic_and_alone_in_company() -> None:
    features, labels = two_levels()
    flows = grid(FLOW) + grid(FLOW, levels=("2",))
    others = [replace(t, fingerprint=fingerprint(t.fingerprint, "again")) for t in flows]
    first = values(run_trials(features, labels, flows))
    assert values(run_trials(features, labels, flows)) == first
    company = values(run_trials(features, labels, [*others, *grid(MVG, FOREST), *reversed(flows)]))
    for trial_id, value in first.items():
        assert company[trial_id][1] == pytest.approx(value[1], abs=1e-6)
    seeds_matter = [
        company[a.fingerprint][1] != company[b.fingerprint][1] for a, b in zip(flows, others, strict=True)
    ]
    assert sum(seeds_matter) > len(flows) // 2
    for one in (flows[3], flows[-1]):
        (alone,) = run_trials(features, labels, [one])
        assert alone.image_auroc == pytest.approx(first[one.fingerprint][1], abs=1e-6)


class Counting(Fragile):
    """Scores that depend on a row's place, as rounding errors may."""

    def score_samples(self, X: np.ndarray) -> np.ndarray:
        return np.arange(len(X), dtype=np.float64)


def test_equal_images_are_scored_once() -> None:
    train, test, _ = random_case(10, 3, 2, 2, 0)
    counting = trial(PcaModeConf("none"), {"name": "c", "_target_": f"{__name__}.Counting", "when": "never"})
    good_twin_of_bad = test[[0, 1, 1, 0]]
    (result,) = run_trials(shard(train, good_twin_of_bad), np.array([0, 0, 1, 1]), [counting])
    assert (result.image_auroc, result.n_test) == (0.5, 4)
    (result,) = run_trials(shard(train, test), np.array([0, 0, 1, 1]), [counting])
    assert result.image_auroc == 1.0


def test_shared_path_fits_no_estimator(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("fitted by itself")

    for module, name in (("gaussian", "MultivariateGaussian"), ("neighbors", "NearestNeighborDistance")):
        monkeypatch.setattr(f"{ESTIMATORS}.{module}.{name}.fit", refuse)
    train, test, labels = random_case(20, 6, 8, 8, 2)
    assert all(r.ok for r in run_trials(shard(train, test), labels, grid(*CLOSED_FORM)))
    alone = run_trials(shard(train, test), labels, grid(*CLOSED_FORM), shared=False)
    assert {r.reason for r in alone} == {"AssertionError: fitted by itself"}


def test_seed_is_the_trials_own() -> None:
    features, labels = two_levels()
    trials = grid(FOREST, levels=("2",))
    others = [replace(t, fingerprint=fingerprint(t.fingerprint, "again")) for t in trials]
    found = by_print(run_trials(features, labels, [*trials, *others]))
    pairs = [(found[a.fingerprint], found[b.fingerprint]) for a, b in zip(trials, others, strict=True)]
    assert sum(a.image_auroc != b.image_auroc for a, b in pairs) > len(pairs) // 2


def test_a_flows_seed_is_the_configs() -> None:
    """Stacked with others as alone; without one the seed is the trial's own."""
    features, labels = two_levels()
    one, other = ([trial(t.pca_mode, {**FLOW, "seed": seed}, ("2",)) for t in grid(FLOW)] for seed in (1, 2))
    found = by_print(run_trials(features, labels, [*grid(FLOW, levels=("2",)), *one, *other]))
    pairs = [(found[a.fingerprint], found[b.fingerprint]) for a, b in zip(one, other, strict=True)]
    assert sum(a.image_auroc != b.image_auroc for a, b in pairs) > len(pairs) // 2
    # The trial's own seed has no say where the config has one.
    moved = [replace(t, content="of something else") for t in reversed(one)]
    for same in run_trials(features, labels, moved):
        assert same.image_auroc == pytest.approx(found[same.fingerprint].image_auroc, abs=1e-6)


def test_equal_content_has_equal_seeds() -> None:
    features, labels = two_levels()
    for estimator in (FLOW, FOREST):
        one = [replace(t, content=f"{i}") for i, t in enumerate(grid(estimator, levels=("2",)))]
        named = [replace(t, fingerprint=fingerprint(t.fingerprint, "another name")) for t in one]
        found = by_print(run_trials(features, labels, [*one, *named]))
        for a, b in zip(one, named, strict=True):
            same = found[b.fingerprint].image_auroc
            assert found[a.fingerprint].image_auroc == pytest.approx(same, abs=1e-6)


def test_a_flow_of_gaussian_features_is_mvg() -> None:
    """By default it leaves the Gaussian for held-back training images only, and there is nothing to gain."""
    features, labels = two_levels()
    chosen = {"name": "flow", "_target_": f"{ESTIMATORS}.flow.coupling_flow"}
    for mode in (
        PcaModeConf("none"),
        PcaModeConf("npca50", "npca", 0.5),
        PcaModeConf("npca95", "npca", 0.95),
    ):
        pair = trial(mode, chosen, ("2",)), trial(mode, MVG, ("2",))
        found = by_print(run_trials(features, labels, pair))
        assert len({found[one.fingerprint].image_auroc for one in pair}) == 1


def test_several_seeds_are_their_mean_and_spread() -> None:
    features, labels = two_levels()
    several = {**FLOW, "seed": 3, "seeds": 4}
    own = seeds_of(3, 4)
    assert own[0] == 3
    assert len(set(own)) == 4
    assert seeds_of(3, 2) == own[:2]
    trials = grid(several, levels=("2",))
    alone = {seed: grid({**FLOW, "seed": seed}, levels=("2",)) for seed in own}
    found = by_print(run_trials(features, labels, [*trials, *(t for some in alone.values() for t in some)]))
    spreads = []
    for i, one in enumerate(trials):
        result = found[one.fingerprint]
        singles = [found[some[i].fingerprint] for some in alone.values()]
        for name in ("image_auroc", "image_ap", "image_fpr95"):
            mean = np.mean([getattr(single, name) for single in singles])
            assert getattr(result, name) == pytest.approx(mean, abs=1e-6)
        areas = [single.image_auroc for single in singles]
        assert result.image_auroc_sd == pytest.approx(np.std(areas, ddof=1), abs=1e-6)
        assert result.scores is not None
        assert singles[0].scores is not None
        first = np.frombuffer(singles[0].scores)
        np.testing.assert_allclose(np.frombuffer(result.scores), first, rtol=1e-4)
        assert all(single.image_auroc_sd is None for single in singles)
        spreads.append(result.image_auroc_sd)
    assert max(spreads) > 0.01


def test_a_score_that_overflows_stays_with_its_trial() -> None:
    train, test, labels = random_case(20, 6, 8, 8, 2)
    far = test.copy()
    far[0] = 1e200
    both = {level: {"avg": train} for level in "12"}
    features = ShardFeatures(both, {"1": {"avg": test}, "2": {"avg": far}}, {})
    good, bad = (trial(PcaModeConf("none"), FLOW, (level,)) for level in "12")
    results = by_print(run_trials(features, labels, [good, bad]))
    assert results[good.fingerprint].ok
    assert "overflow" in results[bad.fingerprint].reason
