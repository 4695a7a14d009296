"""The estimator, its settings and the plan of stacks."""

import math
import pickle
from dataclasses import fields

import numpy as np
import pytest
from hydra import compose, initialize_config_dir
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from anomaly_sweep.config import register
from anomaly_sweep.errors import ConfigError, EstimatorError
from anomaly_sweep.estimators.create import build
from anomaly_sweep.estimators.flow import (
    DIFFERNET,
    FAST,
    PRESETS,
    CouplingFlow,
    flow_settings,
    plan_stacks,
    train_stack,
)
from anomaly_sweep.estimators.flow.stacks import PADDING
from tests.support.flow import fixed
from tests.support.paths import ROOT

register()
SHORT = fixed(steps=20)


def data(n: int, d: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n, d)) * np.logspace(2, -6, d) + 3


@pytest.mark.parametrize("score", ["z2", "nll"])
@pytest.mark.parametrize("d", [1, 2, 3, 8])
def test_higher_is_more_anomalous(d: int, score: str) -> None:
    train = data(40, d)
    flow = CouplingFlow(fixed(steps=60, score=score), seed=3).fit(train)
    far = train.mean(0) + 8 * train.std(0) * np.sign(data(10, d, 1) - 3)
    near, scores = flow.score_samples(data(30, d, 2)), flow.score_samples(far)
    assert near.dtype == np.float64
    assert near.shape == (30,)
    assert scores.min() > np.median(near)


def test_is_a_stack_of_one() -> None:
    x = data(12, 4)
    (stacked,) = train_stack([x], [7], SHORT)
    flow = CouplingFlow(SHORT, seed=7).fit(x)
    assert np.array_equal(flow.score_samples(x), stacked.score_samples(x))


def test_one_dimension_is_the_gaussian() -> None:
    x = data(12, 1)
    flow = CouplingFlow(SHORT).fit(x)
    standard = ((x - x.mean()) / x.std())[:, 0]
    np.testing.assert_allclose(flow.score_samples(x), standard**2)
    nll = standard**2 / 2 + math.log(x.std()) + math.log(2 * math.pi) / 2
    np.testing.assert_allclose(flow.flow_.score_samples(x, "nll"), nll)


def test_inverse_in_the_units_of_the_data() -> None:
    x = data(20, 5)
    flow = CouplingFlow(SHORT).fit(x).flow_
    np.testing.assert_allclose(flow.inverse_transform(flow.transform(x)), x, rtol=1e-9)


def test_constant_and_duplicate_dimensions() -> None:
    x = data(10, 3)
    x = np.concatenate([x, x[:, :1], np.full((10, 1), 0.1)], 1)
    assert np.isfinite(CouplingFlow(SHORT).fit(x).score_samples(x)).all()
    assert np.isfinite(CouplingFlow(SHORT).fit(np.ones((2, 2))).score_samples(np.ones((3, 2)))).all()


def test_far_samples_neither_overflow_nor_tie() -> None:
    flow = CouplingFlow(SHORT).fit(data(20, 6))
    scores = flow.score_samples(np.logspace(5, 30, 26)[:, None] * np.ones(6))
    assert (np.diff(scores) > 0).all()
    with pytest.raises(EstimatorError, match="overflows"):
        flow.score_samples(np.full((1, 6), 1e300))


def test_the_units_of_a_dimension_do_not_matter() -> None:
    x = data(20, 4)
    a = CouplingFlow(SHORT).fit(x).score_samples(x)
    b = CouplingFlow(SHORT).fit(x * 2.0**10).score_samples(x * 2.0**10)
    np.testing.assert_allclose(a, b, rtol=1e-4)


def test_survives_pickling() -> None:
    flow = CouplingFlow(SHORT).fit(data(9, 3))
    copy = pickle.loads(pickle.dumps(flow))
    assert np.array_equal(copy.score_samples(data(4, 3)), flow.score_samples(data(4, 3)))


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (np.ones((1, 3)), "at least 2"),
        (np.ones((3, 0)), "1 dimension"),
        (np.ones(3), "matrix"),
        (np.array([[0.0, np.nan], [1, 2]]), "1 values are NaN"),
        (np.array([[0.0, np.inf], [1, 2]]), "infinite"),
    ],
)
def test_bad_training_data(x: np.ndarray, message: str) -> None:
    with pytest.raises(EstimatorError, match=message):
        CouplingFlow(SHORT).fit(x)


def test_bad_scoring_data_and_devices() -> None:
    flow = CouplingFlow(SHORT)
    with pytest.raises(EstimatorError, match="call fit"):
        flow.score_samples(data(3, 3))
    flow.fit(data(5, 3))
    with pytest.raises(EstimatorError, match="fitted to 3 dimensions"):
        flow.score_samples(data(3, 2))
    with pytest.raises(EstimatorError, match="NaN"):
        flow.score_samples(np.full((2, 3), np.nan))
    for device in ("tpu", "cuda:99", "cuda:x"):
        with pytest.raises(EstimatorError, match="device"):
            CouplingFlow(SHORT, device=device).fit(data(5, 3))


@pytest.mark.parametrize(
    "change",
    [
        {"blocks": 0},
        {"blocks": 1.5},
        {"blocks": True},
        {"hidden": "wide"},
        {"hidden": 0},
        {"hidden_layers": 0},
        {"clamp": 0},
        {"coupling": "spline"},
        {"steps": -1},
        {"batch_size": 0},
        {"batch_size": None},
        {"batch_size": "all"},
        {"learning_rate": 0.0},
        {"learning_rate": math.nan},
        {"learning_rate": "fast"},
        {"betas": (0.9,)},
        {"betas": (0.9, 1.0)},
        {"eps": 0},
        {"weight_decay": -1},
        {"score": "auc"},
        {"folds": 1},
        {"folds": -1},
        {"patience": 0},
        {"whiten": "zca"},
        {"start": "zero"},
    ],
)
def test_settings_are_checked(change: dict[str, object]) -> None:
    with pytest.raises(EstimatorError, match=next(iter(change))):
        flow_settings(**change)


def test_presets() -> None:
    assert flow_settings() == FAST
    assert flow_settings("differnet") == DIFFERNET
    assert flow_settings("fast", betas=[0.5, 0.6]).betas == (0.5, 0.6)
    assert all(preset.score == "z2" for preset in PRESETS.values())
    assert [FAST.width(d) for d in (2, 8, 30, 1248)] == [16, 16, 60, 64]
    assert DIFFERNET.width(2) == 2048
    # DifferNet's own schedule: all of it, from torch's initial values, on what it is given, standardised.
    assert (DIFFERNET.steps, DIFFERNET.folds, DIFFERNET.start, DIFFERNET.whiten) == (
        1920,
        0,
        "random",
        "standard",
    )
    with pytest.raises(EstimatorError, match="preset"):
        flow_settings("slow")
    with pytest.raises(EstimatorError, match="no setting depth"):
        flow_settings(depth=3)


CONF = ROOT / "conf"


def composed(*overrides: str) -> CouplingFlow:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("config", [f"estimator={overrides[0]}", *overrides[1:]])
    flow = build(OmegaConf.to_container(config.estimator, resolve=True), seed=5)
    assert isinstance(flow, CouplingFlow)
    assert flow.seed == 5
    return flow


def test_options_of_the_estimator_group() -> None:
    assert composed("flow").settings == FAST
    assert composed("flow_differnet").settings == DIFFERNET
    assert composed("flow", "estimator.preset=differnet").settings == DIFFERNET


@pytest.mark.parametrize("field", [field.name for field in fields(FAST)])
def test_every_setting_is_config(field: str) -> None:
    changed = {
        "coupling": "realnvp",
        "hidden": 40,
        "batch_size": 7,
        "betas": [0.5, 0.6],
        "score": "nll",
        "clamp": 1.5,
        "eps": 1e-3,
        "learning_rate": 0.5,
        "weight_decay": 0.25,
        "folds": 3,
        "whiten": "standard",
        "start": "random",
    }
    value = changed.get(field, 500)
    assert composed("flow", f"estimator.{field}={value}").settings == flow_settings(**{field: value})


def test_full_batch_and_wrong_values_in_config() -> None:
    full = composed("flow_differnet", "estimator.batch_size=full", "estimator.hidden=auto").settings
    assert full == flow_settings("differnet", batch_size="full", hidden="auto")
    with pytest.raises(ConfigError, match="batch_size"):
        composed("flow", "estimator.batch_size=0")


@given(
    shapes=st.lists(st.tuples(st.integers(2, 400), st.sampled_from([1, 2, 5, 24, 1248])), max_size=60),
    most=st.one_of(st.none(), st.integers(1, 8)),
    device=st.sampled_from(["cpu", "cuda"]),
)
@settings(max_examples=100, deadline=None)
def test_plan_covers_every_flow_once(shapes: list[tuple[int, int]], most: int | None, device: str) -> None:
    stacks = plan_stacks(shapes, FAST, max_stack=most, device=device)
    assert sorted(index for stack in stacks for index in stack) == list(range(len(shapes)))
    for stack in stacks:
        sizes = [shapes[index][0] for index in stack]
        assert len({shapes[index][1] for index in stack}) == 1
        assert max(sizes) <= PADDING * min(sizes)
        assert len(stack) <= (most or 512)


def test_plan_stacks_small_flows_higher_than_large_ones() -> None:
    small, large = ([len(s) for s in plan_stacks([(24, d)] * 100, FAST)] for d in (5, 1248))
    assert max(small) >= 32
    assert max(large) <= 4
    gpu = plan_stacks([(240, 1248)] * 100, FAST, device="cuda", memory=8e9)
    assert len(gpu) < len(plan_stacks([(240, 1248)] * 100, FAST))
    assert plan_stacks([(4, 2), (4, 3), (4, 2)], FAST) == [[0, 2], [1]]


@pytest.mark.parametrize("wrong", ["seeds=0", "seeds=1.5", "seed=-1", "seed=abc"])
def test_wrong_seeds(wrong: str) -> None:
    with pytest.raises(ConfigError, match=wrong.split("=")[0]):
        composed("flow", f"estimator.{wrong}")


def test_seeds_of_the_config() -> None:
    assert composed("flow", "estimator.seeds=3").seeds == 3
    assert composed("flow").seeds == 1
