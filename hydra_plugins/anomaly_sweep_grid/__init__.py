"""Hydra plugins: ``hydra/launcher=grid`` and ``hydra/sweeper=grid``, which Hydra finds by this folder."""
