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


def state_of(config: DictConfig) -> Any:
    """What ``${hydra:...}`` reads of a composed config; None of one without Hydra's node."""
    if "hydra" not in config:
        return None
    state = OmegaConf.masked_copy(config, "hydra")
    state.hydra._set_parent(config)
    return state


@contextmanager
def answering(config: DictConfig | None, state: Any = None) -> Iterator[None]:
    """Let ``${hydra:...}`` read a composed config, as Hydra does while a job runs.

    Making the state takes a hundredth of a second: one that is there already can be given.
    """
    if state is None and config is not None:
        state = state_of(config)
    hydra: Any = HydraConfig.instance()
    before = hydra.cfg
    if state is not None:
        hydra.cfg = state
    try:
        yield
    finally:
        hydra.cfg = before


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
