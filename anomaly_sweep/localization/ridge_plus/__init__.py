"""Linear regression from the surroundings, ours: whitened errors of two regressions in closed form."""

from anomaly_sweep.localization.ridge_plus.localizer import RidgePlus

__all__ = ["RidgePlus"]
