"""Training: what it reaches, and that members of a stack do not notice each other."""

import math

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from anomaly_sweep.errors import EstimatorError
from anomaly_sweep.estimators.flow import FittedFlow, score_stack, train_stack
from tests.support.flow import banana, fixed

torch.set_num_threads(1)  # the products are tiny: threads would only wait for each other
SHORT = fixed(steps=30)


#: Of `banana`.
BANANA_ENTROPY = 1 + math.log(2 * math.pi) + math.log(0.3)


def normal(n: int, d: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    mix = rng.standard_normal((d, d)) * np.logspace(0, -2, d)
    return rng.standard_normal((n, d)) @ mix + 5


def test_gaussian_reaches_the_entropy() -> None:
    rng = np.random.default_rng(0)
    covariance = np.array([[4.0, 1.8, 0], [1.8, 1.0, 0.02], [0, 0.02, 1e-2]])
    train, test = (rng.multivariate_normal([1, -2, 30], covariance, size) for size in (4000, 4000))
    entropy = 0.5 * (3 * (1 + math.log(2 * math.pi)) + np.linalg.slogdet(covariance)[1])
    (flow,) = train_stack([train], [0], fixed(hidden=16, steps=300, learning_rate=5e-3, batch_size=500))
    assert isinstance(flow, FittedFlow)
    nll = flow.score_samples(test, "nll")
    assert nll.mean() == pytest.approx(entropy, abs=0.06)
    assert np.square(flow.transform(test)).mean() == pytest.approx(1, abs=0.06)


def zuko_nll(train: np.ndarray, test: np.ndarray, seed: int) -> float:
    """Mean negative log-likelihood of test samples under zuko's RealNVP."""
    zuko = pytest.importorskip("zuko")
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        flow = zuko.flows.RealNVP(2, transforms=8, hidden_features=(32, 32))
        optimizer = torch.optim.Adam(flow.parameters(), lr=5e-3)
        x = torch.tensor(train, dtype=torch.float32)
        for _ in range(200):
            optimizer.zero_grad()
            loss = -flow().log_prob(x).mean()
            loss.backward()
            optimizer.step()
        return float(-flow().log_prob(torch.tensor(test, dtype=torch.float32)).mean().item())


def test_same_held_out_likelihood_as_zuko() -> None:
    """Medians over seeds: at this learning rate a flow's last step may be a bad one, on some processors."""
    train, test = banana(1000, 0), banana(4000, 1)
    theirs = np.median([zuko_nll(train, test, seed) for seed in range(3)])
    settings = fixed(blocks=4, hidden=32, hidden_layers=2, steps=200, learning_rate=5e-3)
    flows = train_stack([train] * 5, range(5), settings)
    ours = np.median([flow.score_samples(test, "nll").mean() for flow in flows])
    assert ours == pytest.approx(BANANA_ENTROPY, abs=0.15)
    assert ours == pytest.approx(theirs, abs=0.1)


@pytest.mark.parametrize(
    ("d", "changes"),
    [
        *[(d, {}) for d in (1, 2, 3, 9, 512)],
        (2, {"coupling": "realnvp"}),
        (9, {"coupling": "realnvp", "hidden_layers": 3}),
        (3, {"batch_size": 8}),
        (9, {"batch_size": 50, "weight_decay": 1e-2}),
    ],
)
def test_stacked_is_alone(d: int, changes: dict[str, object]) -> None:
    settings = fixed(steps=30 if d < 512 else 10, **changes)
    sizes = [2, 60, 391, 60, 33]
    data = [normal(n, d, seed) for seed, n in enumerate(sizes)]
    test = [normal(40, d, 100 + seed) for seed in range(5)]
    seeds = [11, 12, 13, 14, 15]
    together = train_stack(data, seeds, settings)
    scores = score_stack(together, test)
    for x, seed, stacked, z2, samples in zip(data, seeds, together, scores, test, strict=True):
        (alone,) = train_stack([x], [seed], settings)
        np.testing.assert_allclose(stacked.losses[:10], alone.losses[:10], rtol=1e-4, atol=1e-5)
        own = alone.score_samples(samples)
        labels = np.arange(40) % 2
        assert roc_auc_score(labels, z2) == pytest.approx(roc_auc_score(labels, own), abs=0.005)
        np.testing.assert_allclose(z2, own, rtol=5e-3)


def test_whole_training_stacked_is_alone() -> None:
    data = [normal(n, 7, seed) for seed, n in enumerate([60, 50, 55])]
    settings = fixed()
    labels = np.repeat([0, 1], 50)
    for i, stacked in enumerate(train_stack(data, range(3), settings)):
        (alone,) = train_stack([data[i]], [i], settings)
        test = np.concatenate(
            [normal(110, 7, i)[60:], normal(50, 7, i) + np.random.default_rng(i).normal(0, 0.3, (50, 7))]
        )
        aucs = [roc_auc_score(labels, flow.score_samples(test)) for flow in (stacked, alone)]
        assert aucs[0] == pytest.approx(aucs[1], abs=0.005)


def test_order_of_the_stack_changes_nothing() -> None:
    data = [normal(n, 5, n) for n in (10, 12, 11, 12)]
    seeds, order = [4, 3, 2, 1], [2, 0, 3, 1]
    straight = train_stack(data, seeds, SHORT)
    shuffled = train_stack([data[i] for i in order], [seeds[i] for i in order], SHORT)
    for position, i in enumerate(order):
        np.testing.assert_allclose(shuffled[position].losses, straight[i].losses, rtol=1e-5, atol=1e-6)


def test_neighbours_change_nothing() -> None:
    x = normal(12, 5, 0)
    alone, *_ = train_stack([x, normal(12, 5, 1), normal(10, 5, 2)], [1, 2, 3], SHORT)
    other, *_ = train_stack([x, 1e6 * normal(9, 5, 3), np.zeros((12, 5))], [1, 9, 8], SHORT)
    np.testing.assert_allclose(alone.losses, other.losses, rtol=1e-6)


def test_padding_is_exact() -> None:
    """A long neighbour pads a member's data; its loss is still the mean over its own rows."""
    short, long = normal(3, 4, 0), normal(200, 4, 1)
    padded, _ = train_stack([short, long], [5, 6], fixed(steps=0))
    # The loss is on standardised data and without the Gaussian's constant.
    constant = 4 * math.log(2 * math.pi) / 2 + np.log(1 / padded.whitener.scale).sum()
    by_hand = (padded.score_samples(short, "nll") - constant).mean() / 4
    assert padded.losses[0] == pytest.approx(by_hand, rel=1e-5)


def test_an_epoch_sees_every_sample_once() -> None:
    """With parameters that hardly move, the batches' losses average to the loss of all samples."""
    still = fixed(steps=4, batch_size=4, learning_rate=1e-12)
    sizes = [5, 8, 3]
    five, eight, three = train_stack([normal(n, 4, n) for n in sizes], sizes, still)
    for flow, weights in [(five, [4, 1]), (eight, [4, 4]), (three, [3, 3])]:
        for epoch in (flow.losses[:2], flow.losses[2:4]):
            assert np.average(epoch, weights=weights) == pytest.approx(flow.losses[-1], rel=1e-5)
    assert five.losses[0] != pytest.approx(five.losses[2], rel=1e-3)


def test_seeds_and_the_global_random_state() -> None:
    x = normal(20, 4, 0)
    settings = fixed(steps=10, batch_size=7)
    torch.manual_seed(1)
    np.random.seed(1)  # noqa: NPY002
    states = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    first, second, third = train_stack([x, x, x], [1, np.int64(1), 2**200], settings)
    assert torch.equal(torch.get_rng_state(), states[0])
    assert np.array_equal(np.random.get_state()[1], states[1])  # noqa: NPY002
    torch.manual_seed(2)
    (again,) = train_stack([x], [1], settings)
    np.testing.assert_allclose(first.losses, second.losses, rtol=1e-6)
    np.testing.assert_allclose(first.losses, again.losses, rtol=1e-4)
    assert not np.allclose(first.losses, third.losses, rtol=1e-3)


def test_divergence_stays_with_its_member() -> None:
    wild = fixed(learning_rate=0.3, clamp=30.0, hidden=8, steps=20)
    data = [normal(20, 3, seed) for seed in range(16)]
    results = train_stack(data, range(16), wild)
    failed = [i for i, result in enumerate(results) if isinstance(result, EstimatorError)]
    assert failed
    assert len(failed) < 16
    assert "diverged" in str(results[failed[0]])
    assert "of 20" in str(results[failed[0]])
    kept = [i for i in range(16) if i not in failed]
    for i, alone in zip(kept, train_stack([data[i] for i in kept], kept, wild), strict=True):
        assert np.isfinite(results[i].losses).all()
        np.testing.assert_allclose(results[i].losses[:4], alone.losses[:4], rtol=1e-3)


def test_bad_data_stay_with_their_member() -> None:
    good = normal(10, 3, 0)
    bad = [np.full((10, 3), np.nan), good[:1], np.full((4, 3), 1e200) * np.arange(4)[:, None]]
    results = train_stack([*bad, good], [0, 1, 2, 3], SHORT)
    assert [isinstance(result, EstimatorError) for result in results] == [True, True, True, False]
    (alone,) = train_stack([good], [3], SHORT)
    np.testing.assert_allclose(results[3].losses, alone.losses, rtol=1e-6)


def test_misuse() -> None:
    with pytest.raises(ValueError, match="seeds"):
        train_stack([normal(5, 2, 0)], [], SHORT)
    with pytest.raises(ValueError, match="same dimensions"):
        train_stack([normal(5, 2, 0), normal(5, 3, 0)], [0, 1], SHORT)
    assert train_stack([], [], SHORT) == []
    assert score_stack([], []) == []
    flows = train_stack([normal(5, 2, 0)], [0], SHORT)
    with pytest.raises(ValueError, match="one matrix each"):
        score_stack(flows, [])
