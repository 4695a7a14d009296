"""Hydra plugin: ``hydra/sweeper=optuna``. (Hydra finds it by this folder.)"""
