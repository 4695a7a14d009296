"""``hydra/sweeper=optuna``: search with current Optuna. Imported at every start: keep it light."""
# (No "from __future__ import annotations": Hydra loads plugins in a way that dataclasses cannot then read.)

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.core.plugins import Plugins
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import MISSING, DictConfig, OmegaConf


@dataclass
class TPEConf:
    """Tree-structured Parzen estimator. Trials in flight count as bad, so that a batch spreads out."""

    _target_: str = "optuna.samplers.TPESampler"
    seed: int | None = 0
    n_startup_trials: int = 10
    n_ei_candidates: int = 24
    multivariate: bool | None = None  # null: as Optuna has it
    group: bool = False
    constant_liar: bool = True


@dataclass
class RandomConf:
    """Independent draws."""

    _target_: str = "optuna.samplers.RandomSampler"
    seed: int | None = 0


@dataclass
class GridConf:
    """Every point of the space once."""

    _target_: str = "optuna.samplers.GridSampler"


@dataclass
class CmaEsConf:
    """CMA-ES over the numbers (the package cmaes); choices are drawn at random."""

    _target_: str = "optuna.samplers.CmaEsSampler"
    seed: int | None = 0
    n_startup_trials: int = 1
    warn_independent_sampling: bool = False


@dataclass
class OptunaSweeperConf:
    """What to search for, how, and where it is kept; the space is ``params`` and the command line."""

    defaults: list[Any] = field(default_factory=lambda: [{"sampler": "tpe"}])
    _target_: str = "hydra_plugins.anomaly_sweep_optuna.sweeper.OptunaSweeper"
    _recursive_: bool = False  # the sampler is made by the search, which knows the study
    sampler: Any = MISSING
    #: Optuna's storage URL (sqlite:///optuna.db); null: in memory. A study that is there goes on.
    storage: str | None = None
    #: Null: named by what is searched.
    study_name: str | None = None
    #: maximize or minimize (a list of them for several runtime.objectives); null: what is better for each.
    direction: Any = None
    #: Trials in all, those the storage has already included.
    n_trials: int = 20
    #: Trials asked for at once: the grid launcher shares work within a batch.
    batch_size: int = 8
    params: dict[str, Any] = field(default_factory=dict)


_store = ConfigStore.instance().store
_store(group="hydra/sweeper", name="optuna", node=OptunaSweeperConf, provider="anomaly_sweep")
for _name, _node in (("tpe", TPEConf), ("random", RandomConf), ("grid", GridConf), ("cmaes", CmaEsConf)):
    _store(group="hydra/sweeper/sampler", name=_name, node=_node, provider="anomaly_sweep")


class OptunaSweeper(Sweeper):
    """Asks Optuna for batches of jobs, launches them and tells it what they gave."""

    def __init__(self, params: Mapping[str, Any], **settings: Any) -> None:
        self.params = params
        self.settings = {
            key: OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value
            for key, value in settings.items()
        }

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Keep what Hydra hands over and make the launcher."""
        self.config: DictConfig = config
        self.loader = hydra_context.config_loader
        self.callbacks = hydra_context.callbacks
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> Any:
        """Run the search; raises after everything is done if a trial failed."""
        from anomaly_sweep.launch.hydra_state import answering
        from anomaly_sweep.launch.jobs import ending_callbacks
        from anomaly_sweep.sweep.search.run import search_sweep

        assert self.launcher is not None
        with ending_callbacks(self.callbacks, self.config), answering(self.config):
            return search_sweep(
                self.config,
                self.launcher,
                self.loader,
                settings=self.settings,
                params=self.params,
                arguments=arguments,
            )
