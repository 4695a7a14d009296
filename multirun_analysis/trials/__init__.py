"""The long table of trials: read from MLflow, filtered, kept."""
