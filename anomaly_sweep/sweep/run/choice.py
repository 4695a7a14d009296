"""The executor that ``runtime/executor`` chooses."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec

from anomaly_sweep.config import RayConf, RuntimeConf, SlurmConf
from anomaly_sweep.errors import ConfigError
from anomaly_sweep.sweep.run.executor import Executor
from anomaly_sweep.sweep.run.local import InProcess, Pool, processes
from anomaly_sweep.tasks.base import ShardWork


def open_executor(works: Sequence[ShardWork], runtime: RuntimeConf, identity: str = "") -> Executor:
    """The executor for some work, to be entered.

    Parameters
    ----------
    works : sequence of ShardWork
    runtime : RuntimeConf
    identity : str
        Of the sweep: launched again, it finds what still runs.

    Raises
    ------
    ConfigError
        If the package it needs is not installed.
    """
    conf = runtime.executor
    if isinstance(conf, RayConf):
        _needs("ray", "ray")
        from anomaly_sweep.sweep.run.ray_cluster import RayCluster

        return RayCluster(conf, works, runtime)
    if isinstance(conf, SlurmConf):
        _needs("submitit", "slurm")
        from anomaly_sweep.sweep.run.slurm_array import SlurmArray

        return SlurmArray(conf, works, runtime, identity)
    workers = processes(works, runtime)
    return InProcess(runtime) if workers <= 1 else Pool(runtime, workers)


def _needs(package: str, extra: str) -> None:
    if find_spec(package) is None:
        raise ConfigError(
            f"runtime/executor={extra} needs the package {package}: pip install 'anomaly-sweep[{extra}]'"
        )
