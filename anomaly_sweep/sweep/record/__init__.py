"""Results kept on disk, and recorded in MLflow."""
