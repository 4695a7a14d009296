"""Estimators: ``fit(train)``, then ``score_samples(test)`` -> float64 (n,), higher = more anomalous.

An estimator whose scores are distances (not negative, with a natural zero) says so by an attribute
``score_scale = "ratio"``; without one they are of an ``interval`` scale. See
:mod:`anomaly_sweep.metrics.ties`.
"""

from anomaly_sweep.estimators.base import Estimator

__all__ = ["Estimator"]
