"""``hydra/sweeper=grid``: a union of grids. Imported at every start: keep it light."""
# (No "from __future__ import annotations": Hydra loads plugins in a way that dataclasses cannot then read.)

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.core.plugins import Plugins
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


@dataclass
class GridSweeperConf:
    """``grids``: grids (key -> choices) whose union is swept; ``params`` belongs to each of them."""

    _target_: str = "hydra_plugins.anomaly_sweep_grid.sweeper.GridSweeper"
    grids: list[Any] = field(default_factory=list)
    params: dict[str, Any] = field(default_factory=dict)
    #: Jobs handed to the launcher at once; null for all. The grid launcher shares work within a batch.
    max_batch_size: int | None = None


ConfigStore.instance().store(
    group="hydra/sweeper", name="grid", node=GridSweeperConf, provider="anomaly_sweep"
)


class GridSweeper(Sweeper):
    """Launches every distinct job of a union of grids."""

    def __init__(
        self, grids: Sequence[Mapping[str, Any]], params: Mapping[str, Any], max_batch_size: int | None
    ) -> None:
        self.grids = grids
        self.params = params
        self.max_batch_size = max_batch_size

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Keep what Hydra hands over and make the launcher."""
        self.config: DictConfig = config
        self.loader = hydra_context.config_loader
        self.callbacks = hydra_context.callbacks
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> Any:
        """Run the sweep; raises after everything is done if a trial failed."""
        from anomaly_sweep.launch.hydra_state import answering
        from anomaly_sweep.launch.jobs import ending_callbacks, sweep_grid

        assert self.launcher is not None
        with ending_callbacks(self.callbacks, self.config), answering(self.config):
            return sweep_grid(
                self.config,
                self.launcher,
                self.loader,
                grids=self.grids,
                params=self.params,
                arguments=arguments,
                max_batch_size=-1 if self.max_batch_size is None else self.max_batch_size,
            )
