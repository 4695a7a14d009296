"""Hydra plugins: ``hydra/launcher=grid`` and ``hydra/sweeper=grid``. (Hydra finds them by this folder.)"""
