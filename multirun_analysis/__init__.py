"""Reads the runs of anomaly_sweep back from MLflow and turns them into the papers' tables."""
