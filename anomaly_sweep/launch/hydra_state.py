"""Hydra's own state while a sweep's configs are read: what ``${hydra:...}`` answers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf, open_dict, read_write

#: What is the same in every job of a sweep.
SHARED = {"job.name", "job.config_name", "job.chdir", "mode", "verbose", "sweep.dir", "output_subdir"}
SHARED |= {"runtime.cwd", "runtime.version", "runtime.version_base"}


@contextmanager
def answering(config: DictConfig) -> Iterator[None]:
    """Let ``${hydra:...}`` read a composed config, as Hydra does while a job runs."""
    state: Any = HydraConfig.instance()
    before = state.cfg
    if "hydra" in config:
        state.cfg = OmegaConf.masked_copy(config, "hydra")
        state.cfg.hydra._set_parent(config)
    try:
        yield
    finally:
        state.cfg = before


def number(config: DictConfig, job: int) -> None:
    """Put a job's number and folder into its config, as Hydra's launchers do."""
    if "hydra" not in config:
        return
    with read_write(config.hydra), open_dict(config.hydra):
        config.hydra.job.id = str(job)
        config.hydra.job.num = job
        with answering(config):
            folder = Path(str(config.hydra.sweep.dir), str(config.hydra.sweep.subdir))
        config.hydra.runtime.output_dir = str(folder.absolute())
