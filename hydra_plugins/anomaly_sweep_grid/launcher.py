"""``hydra/launcher=grid``: the whole sweep as one computation. Imported at every start: keep it light."""
# (No "from __future__ import annotations": Hydra loads plugins in a way that dataclasses cannot then read.)

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hydra.core.config_store import ConfigStore
from hydra.core.utils import JobReturn, setup_globals
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

if TYPE_CHECKING:
    from anomaly_sweep.launch.compose import Composer


@dataclass
class GridLauncherConf:
    """No settings: see the ``runtime`` group."""

    _target_: str = "hydra_plugins.anomaly_sweep_grid.launcher.GridLauncher"


ConfigStore.instance().store(
    group="hydra/launcher", name="grid", node=GridLauncherConf, provider="anomaly_sweep"
)


class GridLauncher(Launcher):
    """Gets every job of the sweep at once, plans and executes them together."""

    composer: "Composer"

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Keep what Hydra hands over, and one composer for all batches."""
        from anomaly_sweep.launch.compose import Composer

        self.config: DictConfig = config
        self.callbacks = hydra_context.callbacks
        self.task_function = task_function
        loader = hydra_context.config_loader
        self.composer = Composer(lambda overrides: loader.load_sweep_config(config, overrides))

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """One JobReturn a configuration, with its objectives (the mean AUC)."""
        from anomaly_sweep.launch.jobs import launch_grid

        setup_globals()
        return launch_grid(
            self.config, self.composer, job_overrides, initial_job_idx, self.callbacks, self.task_function
        )
