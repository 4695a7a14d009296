"""Pieces of work as tasks of a Ray cluster, which places them, and tells when a worker or a node is lost."""

from __future__ import annotations

import logging
import pickle
import socket
from collections.abc import Sequence
from contextlib import ExitStack
from types import TracebackType
from typing import Any, Self

import ray
from ray.exceptions import RayError, RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from anomaly_sweep.config import RayConf, RuntimeConf
from anomaly_sweep.errors import AnomalySweepError, shortened
from anomaly_sweep.sweep.plan.forecast import Forecast
from anomaly_sweep.sweep.run.executor import Ended, Executor
from anomaly_sweep.sweep.run.local import PROCESS_BYTES, worker_count
from anomaly_sweep.sweep.run.piece import Lost, Piece, Report
from anomaly_sweep.sweep.run.worker import (
    Origin,
    anchored,
    compute_for,
    node_name,
    origin_of,
    unfit_for,
)
from anomaly_sweep.tasks.base import ShardWork

log = logging.getLogger(__name__)

#: Pieces that wait in Ray, which adds nodes for them where it may.
_WAITING = 2000
_CHECK_SECONDS = 120.0
_KNOCK_SECONDS = 10.0
_STORE_BYTES = 200_000_000


class RayCluster(Executor):
    """A Ray cluster that runs, or one that is started here for as long as it is needed.

    Raises
    ------
    AnomalySweepError
        On entering: if the cluster cannot be reached, or one of its nodes is not fit for the work.
    """

    def __init__(self, conf: RayConf, works: Sequence[ShardWork], runtime: RuntimeConf) -> None:
        self._conf = conf
        self._works = works
        self._runtime = runtime
        self._gpus = conf.gpus if conf.gpus is not None else float(runtime.device.startswith("cuda"))
        self._memory = PROCESS_BYTES
        self._flying: dict[Any, Piece] = {}
        self._unfit: dict[str, set[str]] = {}  # piece -> nodes that could not compute it
        self._held = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as held:
            self._connect(held)
            budget = self._runtime.memory_gb * 1e9
            origin = held.enter_context(origin_of(self._works, self._runtime, budget))
            self._origin = ray.put(origin)
            self._check_nodes()
            total = _resources()
            self.workers = max(1, int(total.get("CPU", 0) // self._conf.cpus))
            if self._gpus:
                self.workers = max(1, min(self.workers, int(total.get("GPU", 0) / self._gpus)))
            self._held = held.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Take back what is in flight, and leave the cluster."""
        for ref in self._flying:
            ray.cancel(ref, force=True)
        self._held.close()

    def _connect(self, held: ExitStack) -> None:
        """Join a cluster, or start one; one that this process has joined already is used and kept."""
        settings: dict[str, Any] = {
            "log_to_driver": False,  # workers' logs come home with their results
            "logging_level": logging.WARNING,
            "configure_logging": False,
        }
        if self._conf.runtime_env:
            settings["runtime_env"] = dict(self._conf.runtime_env)
        if self._conf.address is None:
            settings |= {
                "address": "local",
                "num_cpus": worker_count(self._runtime),
                "include_dashboard": False,
                "object_store_memory": _STORE_BYTES,
            }
        else:
            settings["address"] = self._conf.address
        try:
            _knock(self._conf.address)
            if ray.is_initialized():
                return
            ray.init(**settings)
        except (ConnectionError, RuntimeError, ValueError, RayError, OSError) as error:
            where = self._conf.address or "this machine"
            raise AnomalySweepError(
                f"runtime.executor.address={self._conf.address}: no Ray cluster of this version answers at "
                f"{where} ({shortened(error)}); start one there (ray start --head) with the same Python and "
                "Ray, give its address, or null for one on this machine"
            ) from error
        held.callback(ray.shutdown)

    def _check_nodes(self) -> None:
        """Ask every node whether it is fit, before anything is computed."""
        total = _resources()
        if self._gpus and total.get("GPU", 0) < self._gpus:
            raise AnomalySweepError(
                f"runtime.device={self._runtime.device}: a piece needs {self._gpus:g} GPU, and the Ray "
                f"cluster has {total.get('GPU', 0):g}; add nodes with GPUs, set runtime.executor.gpus to "
                "a share, or use runtime.device=cpu"
            )
        nodes = self._nodes()
        if not nodes:
            raise AnomalySweepError(
                f"runtime.executor.cpus={self._conf.cpus:g}: no node of the Ray cluster has so many CPUs"
            )
        refs = {
            _fit.options(
                num_cpus=0,
                num_gpus=self._gpus,
                max_retries=0,
                scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False),
            ).remote(self._origin): node["NodeManagerAddress"]
            for node in nodes
        }
        done, late = ray.wait(list(refs), num_returns=len(refs), timeout=_CHECK_SECONDS)
        unfit = [f"{refs[ref]}: no answer in {_CHECK_SECONDS:.0f} s" for ref in late]
        for ref in done:
            try:
                name, reasons = ray.get(ref)
                unfit += [f"{refs[ref]} ({name}): {reason}" for reason in reasons[:1]]
            except (RayError, ImportError) as error:
                cause = error.cause if isinstance(error, RayTaskError) else error
                unfit.append(f"{refs[ref]}: {shortened(cause if isinstance(cause, Exception) else error)}")
        if unfit:
            raise AnomalySweepError(
                f"{len(unfit)} of {len(refs)} nodes of the Ray cluster cannot compute this sweep: "
                + "; ".join(unfit)
            )

    def prepare(self, works: Sequence[ShardWork], forecast: Forecast) -> None:
        """Declare what a piece holds, so that Ray puts no more beside each other than there is memory for."""
        self._memory = forecast.memory_bytes / max(1, forecast.workers)
        if any(work.task.fit_bytes(work, self._runtime) for work in works):
            self._memory += self._runtime.memory_gb * 1e9

    @property
    def capacity(self) -> int:
        """Many more than there are workers."""
        return _WAITING

    def submit(self, piece: Piece) -> None:
        """Make it a task; elsewhere than on the nodes that could not compute it, if there are others."""
        options: dict[str, Any] = {}
        avoided = self._unfit.get(piece.id, set())
        others = [node["NodeID"] for node in self._nodes() if node["NodeID"] not in avoided]
        if avoided and others:
            options["scheduling_strategy"] = NodeAffinitySchedulingStrategy(others[0], soft=True)
        task = _compute.options(
            name=piece.name,
            num_cpus=self._conf.cpus,
            num_gpus=self._gpus,
            memory=int(self._memory),
            **options,
        )
        self._flying[task.remote(self._origin, pickle.dumps(anchored(piece)))] = piece

    def wait(self) -> list[Ended]:
        """Those whose tasks have ended."""
        refs = list(self._flying)
        first, _ = ray.wait(refs, num_returns=1, timeout=None)
        more, _ = ray.wait(refs, num_returns=len(refs), timeout=0)
        return [self._ended(ref) for ref in dict.fromkeys([*first, *more])]

    def _ended(self, ref: Any) -> Ended:
        piece = self._flying.pop(ref)
        try:
            node, outcome = ray.get(ref)
        except (RayError, ImportError) as error:
            return Ended(piece, Lost(f"its Ray worker was lost ({type(error).__name__}: {shortened(error)})"))
        if isinstance(outcome, Lost):
            self._unfit.setdefault(piece.id, set()).add(node)
        return Ended(piece, outcome)

    def _nodes(self) -> list[dict[str, Any]]:
        """The nodes that are alive and have what one piece needs."""
        return [
            node
            for node in ray.nodes()  # type: ignore[no-untyped-call]
            if node["Alive"]
            and node["Resources"].get("CPU", 0) >= self._conf.cpus
            and node["Resources"].get("GPU", 0) >= min(1, self._gpus)
        ]


def _knock(address: str | None) -> None:
    """Raise OSError where nobody listens at ``HOST:PORT``: Ray itself would try for minutes."""
    host, colon, port = (address or "").removeprefix("ray://").rpartition(":")
    if colon and port.isdecimal():
        with socket.create_connection((host.strip("[]"), int(port)), timeout=_KNOCK_SECONDS):
            pass


def _resources() -> dict[str, float]:
    """What the cluster's nodes have in all."""
    return dict(ray.cluster_resources())  # type: ignore[no-untyped-call]


@ray.remote
def _fit(origin: Origin) -> tuple[str, list[str]]:
    return node_name(), unfit_for(origin)


# Ray itself tries a task for ever that its node has no memory for: the tries are counted by `execute`.
@ray.remote(max_retries=0, scheduling_strategy="SPREAD")
def _compute(origin: Origin, pickled: bytes) -> tuple[str, Report | Lost]:
    return ray.get_runtime_context().get_node_id(), compute_for(origin, pickled)
