"""The coreset against the plain greedy algorithm over all pairs of rows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.spatial.distance import cdist

from anomaly_sweep.localization.patchcore import coreset
from anomaly_sweep.localization.patchcore.coreset import greedy, select


def plain(squares: np.ndarray, count: int, reach: np.ndarray) -> list[int]:
    """The row with the largest reach, lowest index first, as often as asked for; each row once."""
    reach = reach.astype(float).copy()
    picks: list[int] = []
    for _ in range(count):
        picks.append(int(np.argmax(reach)))
        reach = np.minimum(reach, squares[picks[-1]])
        reach[picks] = -1
    return picks


def squared(rows: np.ndarray) -> np.ndarray:
    return cdist(rows, rows, "sqeuclidean")


def clustered(n: int, d: int, seed: int) -> np.ndarray:
    """Rows of very different density, of whole numbers: float32 has their squared distances exactly."""
    made = np.random.default_rng(seed)
    centers = 3 * made.standard_normal((12, d))
    rows = centers[made.integers(12, size=n)] + made.exponential(size=(n, 1)) * made.standard_normal((n, d))
    return np.round(16 * rows).astype(np.float32)


@st.composite
def cases(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, int]:
    """Rows of few whole numbers (so that distances are exact and often equal), a start, a count."""
    n, d = draw(st.integers(1, 40)), draw(st.integers(1, 4))
    rows = draw(arrays(np.float32, (n, d), elements=st.integers(-3, 3).map(float)))
    reach = draw(arrays(np.float32, n, elements=st.integers(0, 40).map(float)))
    return rows, reach, draw(st.integers(1, n))


@pytest.mark.parametrize("leading", [1, 3, 8, 2048])
@given(case=cases())
@settings(max_examples=150, deadline=None)
def test_equals_plain_greedy_with_ties_and_duplicates(
    leading: int, case: tuple[np.ndarray, np.ndarray, int]
) -> None:
    rows, reach, count = case
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(coreset, "_LEADING", leading)
        picks = greedy(torch.from_numpy(rows.copy()), count, torch.from_numpy(reach.copy()))
    assert picks.tolist() == plain(squared(rows), count, reach)


@pytest.mark.parametrize(("n", "d", "count"), [(6000, 6, 900), (5000, 64, 600)])
def test_equals_plain_greedy_on_many_rows(n: int, d: int, count: int) -> None:
    rows = clustered(n, d, seed=n)
    reach = np.full(n, 1e30, np.float32)
    reach[17] = np.inf
    picks = greedy(torch.from_numpy(rows.copy()), count, torch.from_numpy(reach.copy())).tolist()
    assert picks == plain(squared(rows), count, reach)


def test_most_rows_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """What makes it fast: fewer distances than one for every row and selection."""
    looked = 0
    update: Callable[..., None] = coreset._update

    def counting(*arguments: Any) -> None:
        nonlocal looked
        looked += len(arguments[3]) * len(arguments[4])
        update(*arguments)

    monkeypatch.setattr(coreset, "_update", counting)
    monkeypatch.setattr(coreset, "_LEADING", 64)
    rows = np.random.default_rng(0).standard_normal((20_000, 6)).astype(np.float32)
    select(torch.from_numpy(rows), 400, "farthest", 0)
    assert looked < 0.7 * 20_000 * 400


@given(seed=st.integers(0, 10_000), n=st.integers(2, 200), d=st.integers(1, 8))
@settings(max_examples=60, deadline=None)
def test_selected_rows_cover_and_are_apart(seed: int, n: int, d: int) -> None:
    rows = np.random.default_rng(seed).standard_normal((n, d)).astype(np.float32)
    count = max(1, n // 4)
    picks = select(torch.from_numpy(rows.copy()), count, "farthest", 0).tolist()
    assert len(set(picks)) == count
    distances = np.sqrt(squared(rows))
    radius = distances[picks].min(axis=0).max()
    among = distances[np.ix_(picks, picks)] + np.diag(np.full(count, np.inf))
    # Every row is within the radius of a selected one, and the selected are at least as far apart.
    assert count == 1 or radius <= among.min() * (1 + 1e-4)


def test_farthest_starts_far_from_the_mean() -> None:
    rows = clustered(300, 5, seed=0)
    first = int(select(torch.from_numpy(rows.copy()), 1, "farthest", 0)[0])
    assert first == int(np.square(rows - rows.mean(0)).sum(1).argmax())


def test_averaged_is_the_authors_rule() -> None:
    rows = clustered(500, 5, seed=1)
    picks = select(torch.from_numpy(rows.copy()), 60, "averaged", 7).tolist()
    places = torch.randint(500, (10,), generator=torch.Generator().manual_seed(7)).numpy()
    starts = np.lexsort((rows[:, -1], rows[:, 0]))[places]
    distances = np.sqrt(squared(rows))
    anchors = distances[starts].mean(axis=0)
    for pick in picks:  # of rows as far as each other in float32, any
        assert anchors[pick] >= anchors.max() * (1 - 64 * 2.0**-24)
        anchors = np.minimum(anchors, distances[pick])
    assert len(set(picks)) == 60


@pytest.mark.parametrize("start", coreset.STARTS)
def test_order_of_rows_has_no_influence(start: str) -> None:
    rows = clustered(700, 6, seed=2)
    order = np.random.default_rng(0).permutation(700)
    here = select(torch.from_numpy(rows.copy()), 70, start, 3).tolist()
    there = select(torch.from_numpy(rows[order]), 70, start, 3).tolist()
    assert here == order[there].tolist()


def test_seed_is_the_only_randomness() -> None:
    rows = clustered(400, 4, seed=4)

    def first(seed: int) -> int:
        return int(select(torch.from_numpy(rows.copy()), 1, "random", seed)[0])

    state = torch.random.get_rng_state()
    found = [first(seed) for seed in range(8)]
    assert found == [first(seed) for seed in range(8)]
    assert len(set(found)) > 4
    assert torch.equal(torch.random.get_rng_state(), state)


def test_rounding_does_not_part_equal_rows() -> None:
    """Thirty copies of ten vectors of large norm: the ten first, then the lowest indices that are left."""
    made = np.random.default_rng(5)
    vectors = (50 + made.standard_normal((10, 64))).astype(np.float32)
    which = made.permutation(np.repeat(np.arange(10), 30))
    picks = select(torch.from_numpy(vectors[which]), 40, "farthest", 0).tolist()
    assert sorted(which[picks[:10]]) == list(range(10))
    order = np.lexsort((vectors[which][:, -1], vectors[which][:, 0]))
    assert picks[10:] == [i for i in order if i not in picks[:10]][:30]


def test_all_rows_can_be_selected() -> None:
    rows = torch.from_numpy(clustered(100, 3, seed=6))
    assert sorted(select(rows, 100, "farthest", 0).tolist()) == list(range(100))
