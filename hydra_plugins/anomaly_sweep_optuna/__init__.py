"""Hydra plugin: ``hydra/sweeper=optuna``, which Hydra finds by this folder."""
