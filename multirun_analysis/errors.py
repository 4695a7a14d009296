"""Errors of the analysis a user can act on."""

from __future__ import annotations

from anomaly_sweep.errors import AnomalySweepError


class AnalysisError(AnomalySweepError):
    """The trials cannot be read, or do not answer the question that was asked of them."""
