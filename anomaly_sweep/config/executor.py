"""What computes a sweep's pieces of work: the options of the group ``runtime/executor``."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from anomaly_sweep.checks import in_range, one_of
from anomaly_sweep.errors import ConfigError


@dataclass
class ExecutorConf:
    """Processes of this machine (``runtime/executor=local``)."""

    name: str = "local"


@dataclass
class RayConf(ExecutorConf):
    """A Ray cluster (``runtime/executor=ray``).

    Attributes
    ----------
    address : str or None
        Of a running cluster (``auto``, ``host:6379``, ``ray://host:10001``); None starts one here, for as
        long as the sweep runs, with ``runtime.workers`` CPUs.
    cpus : float
        CPUs of one piece of work, which computes in one thread.
    gpus : float or None
        Share of a GPU of one piece; None: a whole one with ``runtime.device=cuda``, else none.
    runtime_env : mapping
        Ray's, see https://docs.ray.io/en/latest/ray-core/handling-dependencies.html.
    """

    name: str = "ray"
    address: str | None = None
    cpus: float = 1.0
    gpus: float | None = None
    runtime_env: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        in_range("runtime.executor.cpus", self.cpus, 0, open_low=True)
        if self.gpus is not None:
            in_range("runtime.executor.gpus", self.gpus, 0)


@dataclass
class SlurmConf(ExecutorConf):
    """An array of workers in SLURM's queue, submitted by submitit (``runtime/executor=slurm``).

    The keys are those of ``hydra/launcher=submitit_slurm``. ``runtime.workers`` is the length of the array.

    Attributes
    ----------
    cluster : str
        ``slurm``, or ``local``: processes of this machine in its place, for a try.
    folder : str
        On a file system that all nodes see: the queue of work, results on their way, the jobs' logs.
    timeout_min : int
        Minutes of one job. A worker that is timed out or preempted is requeued, so many times
        (``max_num_timeout``), and goes on where it was.
    mem_gb : float or None
        Of one worker; None: the plan's forecast.
    idle_seconds : float
        How long a worker waits for more work before it leaves.
    lost_seconds : float
        A worker that has given no sign of life for so long is taken for dead.
    additional_parameters : mapping
        Further ones of sbatch, by their names.
    """

    name: str = "slurm"
    cluster: str = "slurm"
    folder: str = ".anomaly_sweep/slurm"
    timeout_min: int = 60
    max_num_timeout: int = 3
    cpus_per_task: int = 1
    mem_gb: float | None = None
    gpus_per_node: int | None = None
    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    constraint: str | None = None
    signal_delay_s: int = 90
    setup: list[str] = field(default_factory=list)
    additional_parameters: dict[str, Any] = field(default_factory=dict)
    idle_seconds: float = 60.0
    lost_seconds: float = 90.0

    def __post_init__(self) -> None:
        one_of("runtime.executor.cluster", self.cluster, ("slurm", "local"))
        in_range("runtime.executor.timeout_min", self.timeout_min, 1)
        in_range("runtime.executor.max_num_timeout", self.max_num_timeout, 0)
        in_range("runtime.executor.cpus_per_task", self.cpus_per_task, 1)
        in_range("runtime.executor.lost_seconds", self.lost_seconds, 0, open_low=True)


EXECUTORS: dict[str, type[ExecutorConf]] = {
    "local": ExecutorConf,
    "ray": RayConf,
    "slurm": SlurmConf,
}


def executor_conf(node: Mapping[str, Any] | ExecutorConf | None) -> ExecutorConf:
    """The node ``runtime.executor`` as its checked class; None is ``local``.

    Raises
    ------
    ConfigError
        For an executor, a key or a value that there is not.
    """
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    if node is None:
        return ExecutorConf()
    if isinstance(node, ExecutorConf):
        return node
    given = dict(node)
    name = str(given.pop("name", None))
    one_of("runtime.executor.name", name, EXECUTORS)
    kind = EXECUTORS[name]
    allowed = [one.name for one in dataclasses.fields(kind) if one.name != "name"]
    for key in given:
        if key not in allowed:
            keys = ", ".join(allowed) or "none"
            raise ConfigError(
                f"runtime.executor.{key} does not exist; keys of runtime/executor={name}: {keys}"
            )
    try:
        checked = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(kind), given))
    except OmegaConfBaseException as error:
        raise ConfigError(f"runtime.executor.{error.full_key}: {str(error).splitlines()[0]}") from error
    assert isinstance(checked, ExecutorConf)
    return checked
