"""Settings of a search, and the sampler they ask for."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from optuna.samplers import BaseSampler, RandomSampler

from anomaly_sweep.config import OBJECTIVES, in_range, one_of
from anomaly_sweep.errors import ConfigError
from anomaly_sweep.fingerprint import fingerprint, seed_of

_GRID = "GridSampler"


@dataclass(frozen=True)
class Settings:
    """Settings of a search (``hydra.sweeper``).

    Attributes
    ----------
    sampler : mapping
        ``_target_`` (a class of Optuna's samplers) and its arguments.
    storage : str or None
        Optuna's URL of a database; None keeps the study in memory.
    study_name : str or None
        None: named by what is searched, so that the same search in the same storage goes on.
    direction : str, sequence of str or None
        ``maximize`` or ``minimize``; None: what is better for each objective.
    objectives : sequence of str
        Keys of ``config.OBJECTIVES`` (``runtime.objectives``).
    n_trials : int
        Trials in all, those included that the storage has already.
    batch_size : int
        Trials asked for, and handed to the launcher, at once.
    """

    sampler: Mapping[str, Any]
    storage: str | None = None
    study_name: str | None = None
    direction: str | Sequence[str] | None = None
    objectives: Sequence[str] = ("auc",)
    n_trials: int = 20
    batch_size: int = 8

    def __post_init__(self) -> None:
        in_range("hydra.sweeper.n_trials", self.n_trials, 1)
        in_range("hydra.sweeper.batch_size", self.batch_size, 1)
        for direction in self.directions:
            one_of("hydra.sweeper.direction", direction, ("maximize", "minimize"))
        if len(self.directions) != len(self.objectives):
            raise ConfigError(
                f"hydra.sweeper.direction has {len(self.directions)} entries for "
                f"{len(self.objectives)} objectives; give one each, or null"
            )

    @property
    def directions(self) -> list[str]:
        """A direction for each objective."""
        if self.direction is None:
            return [OBJECTIVES[objective] for objective in self.objectives]
        return [self.direction] if isinstance(self.direction, str) else list(self.direction)

    @property
    def is_grid(self) -> bool:
        """Whether every point is to be visited once."""
        return str(self.sampler.get("_target_", "")).endswith(_GRID)


def make_sampler(config: Mapping[str, Any], started: int) -> BaseSampler:
    """An Optuna sampler from its config.

    Parameters
    ----------
    config : mapping
        ``_target_`` and arguments. A ``seed`` makes the search repeatable.
    started : int
        Trials there are already: a study that goes on must not draw its first points again.

    Raises
    ------
    ConfigError
        If the sampler cannot be made, or needs a package that is not installed.
    """
    if not isinstance(config, Mapping):
        raise ConfigError(
            f"hydra.sweeper.sampler={config} gives a group a value; choose its option: "
            f"hydra/sweeper/sampler={config}"
        )
    target = str(config.get("_target_", ""))
    module, _, name = target.rpartition(".")
    arguments = {key: value for key, value in config.items() if key != "_target_"}
    if arguments.get("seed") is not None and started:
        arguments["seed"] = seed_of(fingerprint(arguments["seed"], started)) % 2**32
    if name == _GRID:
        return RandomSampler(arguments.get("seed"))  # never asked: every point is enqueued
    if name == "CmaEsSampler" and importlib.util.find_spec("cmaes") is None:
        raise ConfigError("hydra/sweeper/sampler=cmaes needs the package cmaes: pip install cmaes")
    try:
        sampler = getattr(importlib.import_module(module), name)(**arguments)
    except (ImportError, AttributeError, TypeError, ValueError) as error:
        raise ConfigError(f"hydra.sweeper.sampler: {target} cannot be made ({error})") from error
    assert isinstance(sampler, BaseSampler)
    return sampler
