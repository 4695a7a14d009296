"""Rendering a grid: equal to upsampling with torch and smoothing with scipy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter
from torch.nn.functional import interpolate

from anomaly_sweep.localization.render import render


@settings(max_examples=30, deadline=None)
@given(
    height=st.integers(1, 12),
    width=st.integers(1, 12),
    size=st.integers(1, 50),
    sigma=st.sampled_from([0.0, 0.7, 4.0]),
    seed=st.integers(0, 99),
)
def test_equals_upsampling_then_smoothing(
    height: int, width: int, size: int, sigma: float, seed: int
) -> None:
    grid = torch.from_numpy(np.random.default_rng(seed).normal(size=(2, height, width)).astype(np.float32))
    made = render(grid, size, sigma)
    up = interpolate(grid[:, None].double(), size=(size, size), mode="bilinear", align_corners=False)[:, 0]
    expected = [
        gaussian_filter(one, sigma, mode="reflect", truncate=4.0) if sigma else one for one in up.numpy()
    ]
    assert made.dtype == torch.float32
    np.testing.assert_allclose(made.numpy(), np.stack(expected), atol=2e-6)


def test_a_constant_grid_stays_constant() -> None:
    made = render(torch.full((1, 7, 5), 3.0), 40, 4.0)
    np.testing.assert_allclose(made.numpy(), 3.0, rtol=1e-6)


@pytest.mark.parametrize("sigma", [0.0, 4.0])
def test_a_peak_lands_where_its_place_is(sigma: float) -> None:
    grid = torch.zeros(1, 8, 8)
    grid[0, 2, 5] = 1.0
    made = render(grid, 64, sigma)[0]
    y, x = divmod(int(made.argmax()), 64)
    assert 2 * 8 <= y < 3 * 8
    assert 5 * 8 <= x < 6 * 8
