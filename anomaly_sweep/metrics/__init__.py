"""Metrics of anomaly scores (higher = more anomalous)."""
