"""How sure a share is, by leaving out one category after the other."""

from __future__ import annotations

import math

import numpy as np
from scipy import special

from multirun_analysis.stats.intervals import Floats, mean_interval


def jackknife_ends(share: float, without: Floats) -> tuple[float, float]:
    """Interval of a share from those without each of the categories."""
    n = len(without)
    if n < 2 or not (0 < share < 1 and np.all((without > 0) & (without < 1))):
        return math.nan, math.nan
    interval = mean_interval(n * special.logit(share) - (n - 1) * special.logit(without))
    low, high = special.expit([interval.low, interval.high])
    return float(low), float(high)
