"""AU-sPRO against a walk over thresholds, as the evaluation code of MVTec LOCO AD defines it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anomaly_sweep.errors import ConfigError, DatasetError, EstimatorError
from anomaly_sweep.metrics.regions import Defect, au_spro, aupro


def by_thresholds(maps: Any, defects: list[Defect], limit: float) -> float:
    """Each distinct score a threshold: points of (FPR, mean sPRO), trapezoids, straight to the limit."""
    union = np.zeros(maps.shape, bool)
    for defect in defects:
        union[defect.image] |= defect.marked
    rates, overlaps = [0.0], [0.0]
    for threshold in np.unique(maps)[::-1]:
        flagged = maps >= threshold
        rates.append((flagged & ~union).sum() / (~union).sum())
        overlaps.append(
            float(np.mean([min((flagged[d.image] & d.marked).sum() / d.saturation, 1.0) for d in defects]))
        )
    area = 0.0
    for x0, x1, y0, y1 in zip(rates, rates[1:], overlaps, overlaps[1:], strict=False):
        if x1 <= limit:
            area += (x1 - x0) * (y0 + y1) / 2
        elif x0 < limit:
            y = y0 + (y1 - y0) * (limit - x0) / (x1 - x0)
            area += (limit - x0) * (y0 + y) / 2
    return area / limit


@settings(deadline=None, max_examples=150)
@given(st.data())
def test_as_a_walk_over_thresholds(data: st.DataObject) -> None:
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    n, h, w = (data.draw(st.integers(1, 4)) for _ in range(3))
    levels = data.draw(st.sampled_from([2, 3, 10, 10**6]))  # few: ties everywhere
    maps = rng.integers(0, levels, (n, h, w)).astype(np.float32)
    maps = np.concatenate([maps, rng.integers(0, levels, (1, h, w)).astype(np.float32)])  # a good image
    defects = []
    for _ in range(data.draw(st.integers(1, 5))):
        marked = rng.random((h, w)) < data.draw(st.sampled_from([0.2, 0.5, 1.0]))
        marked[rng.integers(h), rng.integers(w)] = True
        saturation = float(rng.choice([0.3, 0.5, 1.0, 1.7, 2.0, marked.sum()]))
        defects.append(Defect(int(rng.integers(n)), marked, min(saturation, float(marked.sum()))))
    limit = data.draw(st.sampled_from([0.01, 0.05, 0.3, 1.0]))
    # Sums of at most 80 terms of at most 1, divided by the limit.
    tolerance = 200 * np.finfo(float).eps / limit
    assert au_spro(maps, defects, fpr_limit=limit) == pytest.approx(
        by_thresholds(maps, defects, limit), abs=tolerance
    )


def test_by_hand() -> None:
    """Of four good pixels and a defect of three, one of which is enough."""
    maps = np.array([[[7.0, 5, 4, 9, 3, 2, 1]]])
    marked = np.array([[True, True, True, False, False, False, False]])
    # 9 is a good pixel: FPR 1/4 before the defect is met at 7, which then is found whole.
    assert au_spro(maps, [Defect(0, marked, 1.0)], fpr_limit=1.0) == pytest.approx(0.75)
    assert au_spro(maps, [Defect(0, marked, 3.0)], fpr_limit=1.0) == pytest.approx(0.75)
    assert au_spro(maps[:, :, ::-1].copy(), [Defect(0, marked[:, ::-1], 2.0)], fpr_limit=0.25) == 0.0
    low = np.array([[[7.0, 5, 1, 3, 3.5, 2, 6]]])  # good: 3, 3.5, 2, 6
    # Found: 7 at rate 0, 5 at 1/4, 1 at 1; with two of three enough 1/2, 1/2 and nothing.
    assert au_spro(low, [Defect(0, marked, 2.0)], fpr_limit=1.0) == pytest.approx(0.5 + 0.5 * 0.75)
    assert au_spro(low, [Defect(0, marked, 3.0)], fpr_limit=1.0) == pytest.approx((1 + 0.75) / 3)


def test_saturated_at_its_size_it_is_aupro() -> None:
    rng = np.random.default_rng(0)
    maps, masks = rng.random((3, 16, 16)), np.zeros((3, 16, 16), bool)
    masks[0, 2:5, 2:9], masks[1, 8:12, 3:4], masks[1, 1:3, 12:15] = True, True, True
    regions = [(0, (2, 5, 2, 9)), (1, (8, 12, 3, 4)), (1, (1, 3, 12, 15))]
    defects = []
    for image, (top, bottom, left, right) in regions:
        marked = np.zeros((16, 16), bool)
        marked[top:bottom, left:right] = True
        defects.append(Defect(image, marked, float(marked.sum())))
    assert au_spro(maps, defects, fpr_limit=0.3) == pytest.approx(aupro(maps, masks), abs=1e-13)


def test_what_cannot_be_measured_is_refused() -> None:
    maps, marked = np.zeros((1, 2, 2)), np.eye(2, dtype=bool)
    with pytest.raises(DatasetError, match="no defective one"):
        au_spro(maps, [])
    with pytest.raises(DatasetError, match="no good one"):
        au_spro(maps, [Defect(0, np.ones((2, 2), bool), 1.0)])
    with pytest.raises(ValueError, match="a pixel and a saturation"):
        au_spro(maps, [Defect(0, ~np.ones((2, 2), bool), 1.0)])
    with pytest.raises(ValueError, match="a pixel and a saturation"):
        au_spro(maps, [Defect(0, marked, 0.0)])
    with pytest.raises(ConfigError, match="fpr_limit"):
        au_spro(maps, [Defect(0, marked, 1.0)], fpr_limit=0.0)
    with pytest.raises(EstimatorError, match="NaN or infinite"):
        au_spro(maps * np.nan, [Defect(0, marked, 1.0)])
