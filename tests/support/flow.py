"""Settings of the flow, and data for it."""

from __future__ import annotations

from typing import Any

import numpy as np

from anomaly_sweep.estimators.flow import FlowSettings, flow_settings

FIXED = {"folds": 0, "start": "random", "whiten": "standard", "learning_rate": 2e-4}


def fixed(**changes: Any) -> FlowSettings:
    """The default preset with all its steps taken from a random start, on standardised data."""
    return flow_settings(**FIXED | changes)


def banana(n: int, seed: int) -> np.ndarray:
    """A bent Gaussian in two dimensions."""
    rng = np.random.default_rng(seed)
    first = rng.standard_normal(n)
    return np.stack([first, first**2 / 2 + rng.normal(0, 0.3, n)], 1)
