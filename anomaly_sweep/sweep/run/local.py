"""Pieces of work on this machine: in this process, or over a pool of them."""

from __future__ import annotations

import logging
import multiprocessing
import os
import queue
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from logging.handlers import QueueHandler
from types import TracebackType
from typing import Any, ClassVar, Self

from anomaly_sweep.config import RuntimeConf
from anomaly_sweep.features.backbone.device import on_gpu
from anomaly_sweep.features.cache.store import cache_at
from anomaly_sweep.sweep.run.executor import Ended, Executor
from anomaly_sweep.sweep.run.piece import Lost, Piece, Report
from anomaly_sweep.sweep.run.progress import Reporter, Step
from anomaly_sweep.sweep.run.worker import compute
from anomaly_sweep.tasks.base import ShardWork, TrialResult

log = logging.getLogger(__name__)

#: Below this many trials on cached features, starting processes costs more than they save.
_SMALL = 120

#: What a process with torch holds before it does anything.
PROCESS_BYTES = 0.6e9


def processes(works: Sequence[ShardWork], runtime: RuntimeConf, *, measure: bool = True) -> int:
    """How many processes work is worth, and memory allows (``measure``, which makes the networks)."""
    if not works:
        return 1
    cache = cache_at(runtime.cache_dir)
    all_cached = not any(work.needs_network(cache) for work in works)
    if all_cached and sum(len(work.trials) for work in works) <= _SMALL:
        return 1
    workers = min(worker_count(runtime), len(works))
    return affordable(works, runtime, workers) if measure else workers


def worker_count(runtime: RuntimeConf) -> int:
    """Processes to use: as configured, else one a core, or one in all when a GPU makes the features.

    Always one in a process that another pool has started (``hydra/launcher=joblib``): that pool shares the
    cores out already, and not every kind of worker can start workers of its own.
    """
    if multiprocessing.current_process().name != "MainProcess":
        return 1
    if runtime.workers is not None:
        return runtime.workers
    if on_gpu(runtime.device):
        return 1
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def affordable(works: Sequence[ShardWork], runtime: RuntimeConf, workers: int) -> int:
    """As many of the processes as ``runtime.memory_gb`` allows for what they fit; at least one."""
    if workers == 1:
        return 1
    need = max(work.task.fit_bytes(work, runtime) for work in works)
    return max(1, min(workers, int(runtime.memory_gb * 1e9 / (need + PROCESS_BYTES)))) if need else workers


def decoding_threads(runtime: RuntimeConf) -> int:
    """Of the only process: they keep a GPU fed; beside a CPU network they help little."""
    return min(8, os.cpu_count() or 1) if on_gpu(runtime.device) else 1


class InProcess(Executor):
    """Pieces one after the other in this process, with one thread of linear algebra."""

    tries = 1

    def __init__(self, runtime: RuntimeConf) -> None:
        self._runtime = runtime
        self._budget = runtime.memory_gb * 1e9 - PROCESS_BYTES
        self._waiting: list[Piece] = []

    def submit(self, piece: Piece) -> None:
        """Keep it until it is waited for."""
        self._waiting.append(piece)

    def wait(self) -> list[Ended]:
        """Compute one."""
        from threadpoolctl import threadpool_limits

        piece = self._waiting.pop(0)
        with threadpool_limits(limits=1):
            tick = Reporter(piece.shard, self.on_step)
            results = compute(
                piece, self._runtime, tick, decoders=decoding_threads(self._runtime), budget=self._budget
            )
        return [Ended(piece, Report(results))]


class Pool(Executor):
    """Pieces over processes of this machine, with one thread each.

    Nobody can tell which piece it was that a process died of: those in flight are tried again one by one.
    """

    tries: ClassVar[int] = 2
    isolates: ClassVar[bool] = True

    def __init__(self, runtime: RuntimeConf, workers: int) -> None:
        self.workers = workers
        self._runtime = runtime
        self._budget = runtime.memory_gb * 1e9 / workers - PROCESS_BYTES
        self._context = multiprocessing.get_context("spawn")
        self._flying: dict[Future[list[TrialResult]], Piece] = {}

    def __enter__(self) -> Self:
        self._ticks = self._context.Queue()
        self._stop = threading.Event()
        self._listener = threading.Thread(
            target=_listen, args=(self._ticks, lambda step: self.on_step(step), self._stop), daemon=True
        )
        self._listener.start()
        self._others = set(multiprocessing.active_children())
        self._pool = self._new_pool()
        return self

    def _new_pool(self) -> ProcessPoolExecutor:
        return ProcessPoolExecutor(
            self.workers, self._context, initializer=_start_worker, initargs=(self._ticks, os.getpid())
        )

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Let the processes end; at once where nobody will read what they are at."""
        if kind is not None or self._flying:
            for process in set(multiprocessing.active_children()) - self._others:
                process.terminate()
        self._pool.shutdown(wait=True, cancel_futures=True)
        self._stop.set()
        self._listener.join()

    def submit(self, piece: Piece) -> None:
        """Give it to a process."""
        with _interrupts_held():  # the processes that this starts: the parent decides what an interrupt means
            self._flying[self._pool.submit(_compute, piece, self._runtime, self._budget)] = piece

    def wait(self) -> list[Ended]:
        """Those that are done; all in flight where a process has died."""
        done, _ = wait(self._flying, return_when=FIRST_COMPLETED)
        ended = []
        broken = False
        for future in done:
            piece = self._flying.pop(future)
            try:
                ended.append(Ended(piece, Report(future.result())))
            except BrokenProcessPool:
                ended.append(Ended(piece, _DIED))
                broken = True
        if broken:
            ended += [Ended(piece, _DIED) for piece in self._flying.values()]
            self._flying.clear()
            self._pool.shutdown(wait=True)
            self._pool = self._new_pool()
        return ended


_DIED = Lost("the worker process died (out of memory, or killed)")


@contextmanager
def _interrupts_held() -> Iterator[None]:
    """Hold a Ctrl-C back; processes that are started meanwhile never hear of one (not on Windows)."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _listen(ticks: Any, step: Callable[[Step], None], stop: threading.Event) -> None:
    """Hear of the workers' progress, and of what they log."""
    while True:
        try:
            told = ticks.get(timeout=0.2)
            if isinstance(told, logging.LogRecord):
                logging.getLogger(told.name).handle(told)
            else:
                step(told)
        except queue.Empty:
            if stop.is_set():
                return


_ticks: Any = None


def _start_worker(ticks: Any, parent: int) -> None:
    global _ticks
    import torch
    from threadpoolctl import threadpool_limits

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides what an interrupt means
    torch.set_num_threads(1)
    threadpool_limits(limits=1)
    _ticks = ticks
    root = logging.getLogger()
    root.setLevel(logging.INFO)
    root.handlers[:] = [QueueHandler(ticks)]  # what a worker logs belongs where the parent logs
    threading.Thread(target=_die_with, args=(parent,), daemon=True).start()


def _die_with(parent: int) -> None:
    """Leave when the parent has been killed: nobody would read the result."""
    import time

    while os.getppid() == parent:
        time.sleep(1.0)
    os._exit(1)


def _compute(piece: Piece, runtime: RuntimeConf, budget: float) -> list[TrialResult]:
    return compute(piece, runtime, Reporter(piece.shard, _ticks.put), decoders=1, budget=budget)
