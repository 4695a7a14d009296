"""Reads the runs of anomaly_sweep from MLflow: tables, claims, effects, figures, comparisons, a report."""
