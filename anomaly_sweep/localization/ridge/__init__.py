"""Linear regression between levels (Nakaseko & Takahashi 2023)."""

from anomaly_sweep.localization.ridge.localizer import RidgeLocalizer

__all__ = ["RidgeLocalizer"]
