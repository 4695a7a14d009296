"""PatchCore (Roth et al. 2022): distance to the nearest of a coreset of patch vectors."""

from anomaly_sweep.localization.patchcore.localizer import PatchCore

__all__ = ["PatchCore"]
