"""PaDiM (Defard et al. 2021): a Gaussian at every place."""

from anomaly_sweep.localization.padim.localizer import Padim

__all__ = ["Padim"]
