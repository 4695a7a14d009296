"""Sweeps over frozen ImageNet features for image anomaly detection."""

__version__ = "0.1.0"
