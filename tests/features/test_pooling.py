"""Pools against numpy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from anomaly_sweep.config import POOLS
from anomaly_sweep.features.pooling import pool


@settings(max_examples=50, deadline=None)
@given(st.tuples(*[st.integers(1, 6)] * 4), st.integers(0, 2**32 - 1), st.booleans())
def test_pools_are_numpys(shape: tuple[int, int, int, int], seed: int, channels_last: bool) -> None:
    values = np.random.default_rng(seed).normal(0, 100, shape).astype(np.float32)
    layout = torch.channels_last if channels_last else torch.contiguous_format
    pools = pool(torch.from_numpy(values).contiguous(memory_format=layout))
    assert tuple(pools) == POOLS
    np.testing.assert_array_equal(pools["min"], values.min(axis=(2, 3)))
    np.testing.assert_array_equal(pools["max"], values.max(axis=(2, 3)))
    expected = values.astype(np.float64).mean(axis=(2, 3))
    np.testing.assert_allclose(pools["avg"], expected, rtol=1e-6, atol=1e-4)
    assert all(values.dtype == torch.float32 for values in pools.values())


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_a_bad_value_is_not_hidden(bad: float) -> None:
    values = torch.ones(2, 3, 4, 4)
    values[1, 2, 3, 0] = bad
    pools = pool(values)
    spoilt = torch.stack([~torch.isfinite(p) for p in pools.values()]).any(dim=0)
    assert spoilt.nonzero().tolist() == [[1, 2]]
