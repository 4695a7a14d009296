"""Hydra's job callbacks under the grid launcher, which has no moment at which one job runs by itself."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from pathlib import Path

from hydra._internal.callbacks import Callbacks
from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import JobReturn, env_override
from hydra.experimental.callback import Callback
from hydra.types import TaskFunction
from omegaconf import DictConfig, OmegaConf

from anomaly_sweep.launch.compose import Composer


def call_for_each(
    callbacks: Callbacks,
    task_function: TaskFunction,
    composer: Composer,
    returns: Sequence[JobReturn],
    first: int,
) -> None:
    """Call ``on_job_start`` and ``on_job_end`` for each job, one job after the other, when all are done.

    Each has the config that Hydra composes for the job, its own folder (made here, with the files that Hydra
    puts into it) and a ``JobReturn`` as Hydra's launchers give it. Without callbacks that mind jobs
    nothing is done: composing takes a tenth of a second a job.

    Parameters
    ----------
    first : int
        The first job's number in its sweep.
    """
    per_job = [one for one in callbacks.callbacks if _minds_jobs(one)]
    if not per_job:
        return
    callbacks = copy(callbacks)
    callbacks.callbacks = per_job
    for number, job in enumerate(returns, first):
        config = composer.config(list(job.overrides or ()), number)
        folder = Path(config.hydra.runtime.output_dir)
        folder.mkdir(parents=True, exist_ok=True)
        state = HydraConfig.instance()
        before = state.cfg
        state.set_config(config)
        try:
            job.cfg = OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"])
            job.hydra_cfg = OmegaConf.masked_copy(config, "hydra")
            _save(folder, config, job)
            with env_override(config.hydra.job.env_set):
                callbacks.on_job_start(config=config, task_function=task_function)
                callbacks.on_job_end(config=config, job_return=job)
        finally:
            state.cfg = before


def _minds_jobs(callback: object) -> bool:
    """Whether a callback does anything at a job's start or end."""
    return any(
        getattr(type(callback), name, None) is not getattr(Callback, name)
        for name in ("on_job_start", "on_job_end")
    )


def _save(folder: Path, config: DictConfig, job: JobReturn) -> None:
    """What Hydra writes into a job's folder."""
    if config.hydra.output_subdir is None:
        return
    place = folder / config.hydra.output_subdir
    place.mkdir(exist_ok=True)
    for name, node in (
        ("config.yaml", job.cfg),
        ("hydra.yaml", job.hydra_cfg),
        ("overrides.yaml", config.hydra.overrides.task),
    ):
        (place / name).write_text(OmegaConf.to_yaml(node), encoding="utf-8")
