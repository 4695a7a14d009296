"""Pieces of work over an array of workers in SLURM's queue, which pull them from a shared folder.

An array of workers, rather than one of pieces: each makes its network once, sites limit how many jobs a user
may queue and dislike short ones, and the array's length is what a user has in mind. submitit submits it, and
requeues a worker that is timed out or preempted.
"""

from __future__ import annotations

import logging
import os
import pickle
import shutil
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import submitit
from submitit.core.utils import FailedJobError, FailedSubmissionError
from submitit.helpers import DelayedSubmission

from anomaly_sweep.config import RuntimeConf, SlurmConf
from anomaly_sweep.errors import AnomalySweepError, shortened
from anomaly_sweep.sweep.plan.forecast import Forecast
from anomaly_sweep.sweep.run.executor import Ended, Executor
from anomaly_sweep.sweep.run.local import PROCESS_BYTES
from anomaly_sweep.sweep.run.piece import Lost, Piece
from anomaly_sweep.sweep.run.shared_queue import Pulse, SharedQueue
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

#: Workers where ``runtime.workers`` says nothing: no more than there are shards.
_WORKERS = 8
_POLL_SECONDS = 0.2
_ORIGIN = "origin"
#: How often an array is submitted whose workers have all left.
_ARRAYS = 3


class Worker:
    """What a job of the array runs: takes pieces until there are none. submitit pickles it."""

    def __init__(self, folder: str, idle_seconds: float) -> None:
        self._folder = folder
        self._idle = idle_seconds
        self._taken: tuple[str, str] | None = None

    def __call__(self) -> int:
        """Compute pieces; returns how many."""
        queue = SharedQueue(Path(self._folder))
        name = f"{submitit.JobEnvironment().job_id}-{os.getpid()}-{node_name()}"
        count = 0
        with queue.alive(name):
            idle_since = time.monotonic()
            while not queue.stopped and time.monotonic() - idle_since < self._idle:
                origin: Origin = queue.read(_ORIGIN)
                reasons = unfit_for(origin)
                if reasons:
                    queue.write(f"refused/{name}", f"{node_name()}: {reasons[0]}")
                    break
                taken = queue.take(name)
                if taken is None:
                    time.sleep(_POLL_SECONDS)
                    continue
                piece_id, content = taken
                self._taken = piece_id, name
                outcome = compute_for(origin, content)
                queue.finish(piece_id, name, outcome)
                self._taken = None
                if isinstance(outcome, Lost):  # this node is no place for the piece: it is for others to take
                    queue.write(f"refused/{name}", outcome.reason)
                    break
                count += 1
                idle_since = time.monotonic()
        return count

    def checkpoint(self) -> DelayedSubmission:
        """Give back what is at hand when the time is up; submitit puts the job into the queue again."""
        if self._taken is not None:
            SharedQueue(Path(self._folder)).put_back(*self._taken)
        return DelayedSubmission(Worker(self._folder, self._idle))


@dataclass
class _Handed:
    piece: Piece
    worker: str | None = None


class SlurmArray(Executor):
    """An array of workers, and the folder in which they find their work.

    The folder is the sweep's: a launch after one that was killed takes what its workers have done since, and
    goes on with those that still run.

    Raises
    ------
    AnomalySweepError
        If the folder cannot be written, the queue refuses the array (`prepare`), or no node is fit for the
        work (`wait`).
    """

    def __init__(
        self, conf: SlurmConf, works: Sequence[ShardWork], runtime: RuntimeConf, identity: str
    ) -> None:
        self.workers = runtime.workers or min(_WORKERS, len(works))
        self._conf = conf
        self._works = works
        self._runtime = runtime
        self._base = Path(conf.folder).expanduser().absolute()
        self._folder = self._base / f"sweep-{identity[:16] or 'alone'}"
        self._handed: dict[str, _Handed] = {}
        self._jobs: list[Any] = []
        self._arrays = 0
        self._refused: dict[str, str] = {}
        self._memory_gb = conf.mem_gb
        self._held = ExitStack()
        self._told: set[str] = set()

    def __enter__(self) -> Self:
        with ExitStack() as held:
            budget = self._runtime.memory_gb * 1e9
            origin = held.enter_context(origin_of(self._works, self._runtime, budget))
            try:
                self._queue = SharedQueue(self._folder)
                self._queue.reopen()
                for name in self._queue.names("refused"):
                    (self._folder / "refused" / name).unlink(missing_ok=True)
                self._queue.write(_ORIGIN, origin)
            except OSError as error:
                raise AnomalySweepError(
                    f"runtime.executor.folder={self._conf.folder} cannot be written "
                    f"({error.strerror or error}); give a folder that every node sees and may write"
                ) from error
            self._pulse = Pulse(self._queue, self._conf.lost_seconds)
            self._held = held.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Let the workers leave, or end them where nobody wants what they are at; remove the folder."""
        self._queue.stop()
        if kind is not None or self._handed:
            for job in self._jobs:
                job.cancel()
        else:
            end = time.monotonic() + self._conf.lost_seconds
            while self._queue.names("alive") and time.monotonic() < end:
                time.sleep(_POLL_SECONDS)
        self._held.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def prepare(self, works: Sequence[ShardWork], forecast: Forecast) -> None:
        """Submit the array, unless an earlier launch's is still there."""
        if self._memory_gb is None:
            held = forecast.memory_bytes / max(1, forecast.workers)
            fits = any(work.task.fit_bytes(work, self._runtime) for work in works)
            self._memory_gb = (held + PROCESS_BYTES + fits * self._runtime.memory_gb * 1e9) / 1e9
        if not self._queue.names("alive"):
            self._submit_array()
        else:
            log.info("workers of an earlier launch are there: %s", ", ".join(self._queue.names("alive")))

    def _submit_array(self) -> None:
        conf = self._conf
        settings: dict[str, Any] = {
            "name": "anomaly_sweep",
            "timeout_min": conf.timeout_min,
            "cpus_per_task": conf.cpus_per_task,
            "mem_gb": self._memory_gb,
            "gpus_per_node": conf.gpus_per_node or int(self._runtime.device.startswith("cuda")) or None,
        }
        slurm = {
            "partition": conf.partition,
            "account": conf.account,
            "qos": conf.qos,
            "constraint": conf.constraint,
            "signal_delay_s": conf.signal_delay_s,
            "setup": list(conf.setup) or None,
            "additional_parameters": dict(conf.additional_parameters) or None,
        }
        settings |= {f"slurm_{key}": value for key, value in slurm.items()}
        logs = self._base / "logs"
        try:
            executor = submitit.AutoExecutor(
                folder=logs, cluster=conf.cluster, slurm_max_num_timeout=conf.max_num_timeout
            )
            executor.update_parameters(**{key: value for key, value in settings.items() if value is not None})
            worker = Worker(str(self._folder), conf.idle_seconds)
            with executor.batch():
                self._jobs = [executor.submit(worker) for _ in range(self.workers)]
        except (RuntimeError, ValueError, OSError, FailedJobError, FailedSubmissionError) as error:
            raise AnomalySweepError(
                f"the queue refuses the array of {self.workers} workers ({shortened(error)}); set "
                "runtime.executor.partition, account, timeout_min and mem_gb to what your cluster takes "
                "(sinfo lists its partitions), or runtime.executor.cluster=local for this machine"
            ) from error
        self._arrays += 1
        log.info(
            "%d workers are in the queue of %s (job %s); their logs: %s",
            len(self._jobs), conf.cluster, self._jobs[0].job_id.partition("_")[0], logs,
        )  # fmt: skip

    @property
    def capacity(self) -> int:
        """All there is: the queue is in a folder."""
        return 1_000_000

    def submit(self, piece: Piece) -> None:
        """Put it into the folder."""
        self._handed[piece.id] = _Handed(piece)
        self._queue.put(piece.id, pickle.dumps(anchored(piece)))

    def wait(self) -> list[Ended]:
        """Those of which there is an outcome, or whose worker is gone."""
        while True:
            ended = [*self._done(), *self._lost()]
            if ended:
                return ended
            time.sleep(_POLL_SECONDS)

    def _done(self) -> list[Ended]:
        ended = []
        for name in self._queue.names("done"):
            piece_id = name.partition("@")[0]
            handed = self._handed.pop(piece_id, None)
            if handed is None:  # of an earlier launch, and not wanted yet: kept
                continue
            try:
                outcome = self._queue.read(f"done/{name}")
            except (OSError, pickle.UnpicklingError, EOFError, AttributeError, ImportError) as error:
                outcome = Lost(f"{name}: what came home cannot be read ({shortened(error)})")
            self._queue.forget(piece_id, "done", "todo", "taken")
            ended.append(Ended(handed.piece, outcome))
        return ended

    def _lost(self) -> list[Ended]:
        """Pieces of workers whose job has ended, or that give no sign of life."""
        over = {str(job.job_id) for job in self._jobs if job.done()}
        living = {name for name in self._pulse.living() if name.partition("-")[0] not in over}
        self._tell_refused()
        ended = []
        for name in self._queue.names("taken"):
            piece_id, _, worker = name.partition("@")
            if worker in living:
                continue
            handed = self._handed.get(piece_id)
            if handed is None or any(d.startswith(f"{piece_id}@") for d in self._queue.names("done")):
                continue
            self._queue.forget(piece_id, "taken")
            ended.append(Ended(self._handed.pop(piece_id).piece, Lost(f"its worker {worker} is gone")))
        if not ended and not living:
            self._renew()
        return ended

    def _tell_refused(self) -> None:
        """Say why workers have left."""
        for name in self._queue.names("refused"):
            if name not in self._refused:
                self._refused[name] = reason = str(self._queue.read(f"refused/{name}"))
                if reason not in self._told:
                    self._told.add(reason)
                    log.warning("a worker has left: %s", reason)

    def _renew(self) -> None:
        """Nobody is there: tell why, and submit another array if all have left."""
        waiting = [job for job in self._jobs if not job.done()]
        if waiting:
            states = ", ".join(sorted({str(job.state) for job in waiting}))
            if states not in self._told:
                self._told.add(states)
                log.info("waiting for workers: %d jobs, %s", len(waiting), states)
            return
        if len(self._refused) >= self.workers:
            raise AnomalySweepError(
                f"no node can compute this sweep: {'; '.join(dict.fromkeys(self._refused.values()))}"
            )
        if self._arrays >= _ARRAYS:
            raise AnomalySweepError(
                f"{_ARRAYS} arrays of workers have left without finishing the work; see their logs in "
                f"{self._base / 'logs'}"
            )
        self._submit_array()
