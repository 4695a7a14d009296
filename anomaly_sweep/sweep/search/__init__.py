"""Searching configurations with Optuna: the space, the study, its record, and the Hydra sweeper's body."""
