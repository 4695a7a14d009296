"""How and where a sweep runs and is recorded: nodes that change no result."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from anomaly_sweep.checks import in_range, one_of
from anomaly_sweep.config.executor import ExecutorConf, executor_conf
from anomaly_sweep.errors import ConfigError

#: What can be searched for -> the direction that is better.
OBJECTIVES = {
    "auc": "maximize",
    "pixel_auroc": "maximize",
    "aupro": "maximize",
    "aupro_mvtec": "maximize",
    "score_seconds": "minimize",
    "fit_seconds": "minimize",
}


@dataclass
class TrackingConf:
    """MLflow: where runs go. An empty value is the default.

    ``artifacts`` is used when the experiment is created. None: where the server puts them; without a server,
    the folder ``mlartifacts`` beside the database.
    """

    uri: str = "sqlite:///mlflow.db"
    experiment: str = "anomaly_sweep"
    artifacts: str | None = None

    def __post_init__(self) -> None:
        # As MLflow takes its environment variables: one that is set to nothing is not set.
        self.uri = self.uri or TrackingConf.uri
        self.experiment = self.experiment or TrackingConf.experiment


@dataclass
class RuntimeConf:
    """How the work is done; nothing here changes a result beyond rounding."""

    device: str = "auto"
    #: Images of a forward pass on a GPU, where another number rounds features otherwise; a CPU's is fixed.
    batch_size: int = 16
    #: Processes, one thread each; null for one a core (one in all when a GPU does the features).
    workers: int | None = None
    cache_dir: str = ".anomaly_sweep"
    #: Reuse results that are there; false reads every image again and computes every trial again.
    resume: bool = True
    #: After a failed trial: ``continue`` with the rest or ``stop``.
    on_error: str = "continue"
    #: Print the plan (what would be computed, what is there already) and stop.
    plan_only: bool = False
    #: Main memory that the localizers fitted at once may hold, in GB, over all processes.
    memory_gb: float = 4.0
    #: What a job returns to Hydra's sweeper: one number, or several as a tuple.
    objectives: list[str] = field(default_factory=lambda: ["auc"])
    #: Of the group ``runtime/executor``: keys of `ExecutorConf`, `RayConf` or `SlurmConf`; null is ``local``.
    executor: Any = None

    def __post_init__(self) -> None:
        self.executor: ExecutorConf = executor_conf(self.executor)
        in_range("runtime.batch_size", self.batch_size, 1)
        if self.workers is not None:
            in_range("runtime.workers", self.workers, 1)
        in_range("runtime.memory_gb", self.memory_gb, 0, open_low=True)
        one_of("runtime.on_error", self.on_error, ("continue", "stop"))
        if not self.objectives:
            raise ConfigError(f"runtime.objectives is empty; choose from {', '.join(OBJECTIVES)}")
        for objective in self.objectives:
            one_of("runtime.objectives", objective, OBJECTIVES)
        if self.device != "auto" and self.device.split(":")[0] not in ("cpu", "cuda", "mps"):
            raise ConfigError(
                f"runtime.device={self.device} is not allowed; allowed: auto, cpu, cuda, cuda:N, mps"
            )
