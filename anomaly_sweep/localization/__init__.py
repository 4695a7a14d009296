"""Localization: models of feature maps, and the anomaly maps they give."""

from anomaly_sweep.localization.base import Localizer, Maps, Scored, Shapes

__all__ = ["Localizer", "Maps", "Scored", "Shapes"]
