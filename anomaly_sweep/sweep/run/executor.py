"""Execute planned work: shards over local processes, results streamed back as each shard ends."""

from __future__ import annotations

import logging
import multiprocessing
import os
import queue
import signal
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from logging.handlers import QueueHandler
from typing import Any

from anomaly_sweep.config import RuntimeConf
from anomaly_sweep.features.backbone.device import on_gpu
from anomaly_sweep.features.cache.store import cache_at
from anomaly_sweep.sweep.run.progress import Progress, Reporter, Step
from anomaly_sweep.tasks.base import ShardWork, TrialResult

log = logging.getLogger(__name__)

#: Below this many trials on cached features, starting processes costs more than they save.
_SMALL = 120

#: What a process with torch holds before it does anything.
PROCESS_BYTES = 0.6e9


@dataclass(frozen=True)
class ShardOutcome:
    """A shard that has been worked through, with a result for each of its trials."""

    work: ShardWork
    results: list[TrialResult]


def execute(
    works: Sequence[ShardWork], runtime: RuntimeConf, progress: Progress, workers: int
) -> Generator[ShardOutcome, None, None]:
    """Work through shards, yielding each as it ends (in any order).

    Shards run in so many processes (see :func:`processes`) with one thread each; in this process when that
    is one. A shard whose process dies is tried once more by itself; if that dies too its trials fail, saying
    so. Closing the generator ends the processes at once.
    """
    if not works:
        return
    budget = runtime.memory_gb * 1e9 / workers - PROCESS_BYTES
    if workers <= 1:
        from threadpoolctl import threadpool_limits

        with threadpool_limits(limits=1):
            for work in works:
                tick = Reporter(work, progress.step)
                results = work.task.run(work, runtime, tick, decoders=_decoders(runtime), budget=budget)
                progress.finish(work, results)
                yield ShardOutcome(work, results)
        return
    died: list[ShardWork] = []
    yield from _pooled(works, workers, runtime, budget, progress, died)
    for work in died:
        log.warning("a worker process died; trying %s again by itself", work.shard.category.name)
        progress.again(work)
        again: list[ShardWork] = []
        yield from _pooled([work], 1, runtime, budget, progress, again)
        if again:
            reason = "the worker process died twice (out of memory, or killed)"
            log.error("%s: %s", work.shard.category.name, reason)
            progress.again(work)
            results = [TrialResult.failed(trial_id, reason) for trial_id in work.trials]
            progress.finish(work, results)
            yield ShardOutcome(work, results)


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


def _decoders(runtime: RuntimeConf) -> int:
    """Decoding threads of the only process: they keep a GPU fed; beside a CPU network they help little."""
    return min(8, os.cpu_count() or 1) if on_gpu(runtime.device) else 1


def _pooled(
    works: Sequence[ShardWork],
    workers: int,
    runtime: RuntimeConf,
    budget: float,
    progress: Progress,
    died: list[ShardWork],
) -> Generator[ShardOutcome, None, None]:
    """Shards over a pool; those that were in flight when a process died are put on ``died``."""
    context = multiprocessing.get_context("spawn")
    ticks = context.Queue()
    stop = threading.Event()
    listener = threading.Thread(target=_listen, args=(ticks, progress.step, stop), daemon=True)
    listener.start()
    waiting = list(works)
    others = set(multiprocessing.active_children())
    pool = ProcessPoolExecutor(workers, context, initializer=_start_worker, initargs=(ticks, os.getpid()))
    flying: dict[Future[list[TrialResult]], ShardWork] = {}
    try:
        while waiting or flying:
            # Few in flight: a shard that is only queued must not be lost with the process it waits for.
            while waiting and len(flying) < workers:
                work = waiting.pop(0)
                with (
                    _interrupts_held()
                ):  # the processes that this starts: the parent decides what an interrupt means
                    flying[pool.submit(_work, work, runtime, budget)] = work
            done, _ = wait(flying, return_when=FIRST_COMPLETED)
            broken = False
            for future in done:
                work = flying.pop(future)
                try:
                    results = future.result()
                    progress.finish(work, results)
                    yield ShardOutcome(work, results)
                except BrokenProcessPool:
                    died.append(work)
                    broken = True
            if broken:
                died.extend(flying.values())
                flying.clear()
                pool.shutdown(wait=True)
                pool = ProcessPoolExecutor(
                    workers, context, initializer=_start_worker, initargs=(ticks, os.getpid())
                )
    except BaseException:  # interrupted or closed: nobody will read what they are at
        for process in set(multiprocessing.active_children()) - others:
            process.terminate()
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
        stop.set()
        listener.join()


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


def _work(work: ShardWork, runtime: RuntimeConf, budget: float) -> list[TrialResult]:
    return work.task.run(work, runtime, Reporter(work, _ticks.put), decoders=1, budget=budget)
