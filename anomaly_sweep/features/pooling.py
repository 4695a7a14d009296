"""Spatial pools of a feature map."""

from __future__ import annotations

from torch import Tensor

from anomaly_sweep.config import POOLS


def pool(feature_map: Tensor) -> dict[str, Tensor]:
    """All pools of a map (b, c, h, w), each (b, c) float32 (names: ``min``, ``max``, ``avg``)."""
    flat = feature_map.flatten(2).float()
    low, high = flat.aminmax(dim=2)
    return dict(zip(POOLS, (low, high, flat.mean(dim=2)), strict=True))
