"""What a worker does: compute a piece, and, away from where the sweep was launched, see that it can."""

from __future__ import annotations

import importlib.metadata
import logging
import os
import pickle
import platform
import queue
import sys
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from logging.handlers import QueueHandler
from pathlib import Path
from typing import Any

from anomaly_sweep import __version__
from anomaly_sweep.config import RuntimeConf, anchored_runtime
from anomaly_sweep.config.anchor import anchored_backbone
from anomaly_sweep.datasets import FileIndex, ImageRecord, manifest_digest
from anomaly_sweep.errors import AnomalySweepError
from anomaly_sweep.features.backbone.device import on_gpu, resolve_device
from anomaly_sweep.sweep.folders import machine_folder
from anomaly_sweep.sweep.run.piece import Lost, Piece, Report
from anomaly_sweep.sweep.run.progress import Reporter, Step
from anomaly_sweep.tasks.base import ShardWork, Tick, TrialResult

log = logging.getLogger(__name__)

#: Libraries whose version decides rounding, or what is pickled.
_LIBRARIES = ("torch", "timm", "numpy", "scipy", "scikit-learn", "pillow")
_MARKS = "nodes"


def compute(
    piece: Piece, runtime: RuntimeConf, tick: Tick, *, decoders: int, budget: float
) -> list[TrialResult]:
    """The results of a piece's trials; none where it is for features, which go into the cache."""
    work = piece.work
    if not piece.images:
        parts = [work] if work.task.takes_subsets else work.parts()
        found = [part.task.run(part, runtime, tick, decoders=decoders, budget=budget) for part in parts]
        return [result for results in found for result in results]
    try:
        work.task.make_features(work, piece.images, runtime, tick, decoders=decoders)
    except Exception as error:  # told by the trials, which look for the features
        log.info("%s: %s", piece.name, error)
    return []


@dataclass(frozen=True)
class Origin:
    """The process that launches a sweep, as far as its workers on other machines have to be like it.

    Attributes
    ----------
    versions : dict
        Of Python, of this package and of the libraries that numbers come from.
    path : tuple of str
        Where Python looks for modules, such as an estimator of one's own.
    runtime : RuntimeConf
        With absolute paths.
    files : tuple of str
        One image of each data set, and weight files: what has to be seen.
    mark : str
        Name of a file in the cache folder, which is there for as long as the sweep runs.
    budget : float
        Bytes that models fitted at once may hold in one worker.
    """

    versions: dict[str, str]
    path: tuple[str, ...]
    runtime: RuntimeConf
    files: tuple[str, ...]
    mark: str
    budget: float


def versions() -> dict[str, str]:
    """Of what numbers depend on, here."""
    found = {"Python": platform.python_version().rpartition(".")[0], "anomaly-sweep": __version__}
    for library in _LIBRARIES:
        with suppress(importlib.metadata.PackageNotFoundError):
            found[library] = importlib.metadata.version(library)
    return found


@contextmanager
def origin_of(works: Sequence[ShardWork], runtime: RuntimeConf, budget: float) -> Iterator[Origin]:
    """The origin of work that this process has done elsewhere."""
    folder = Path.cwd()
    runtime = anchored_runtime(runtime, folder)
    files: dict[str, None] = {}
    for root in {str(work.shard.category.root): work.shard.category for work in works}.values():
        files.update(dict.fromkeys(str(record.path.absolute()) for record in root.images[:1]))
    for backbone in [work.shard.backbone for work in works]:
        weights = Path(anchored_backbone(backbone, folder).weights)
        if weights.is_absolute():
            files[str(weights)] = None
    mark = Path(runtime.cache_dir) / _MARKS / uuid.uuid4().hex
    mark.parent.mkdir(parents=True, exist_ok=True)
    mark.touch()
    try:
        path = tuple(os.path.abspath(entry) for entry in sys.path)  # noqa: PTH100 (of "" too)
        yield Origin(versions(), path, runtime, tuple(files), mark.name, budget)
    finally:
        with suppress(OSError):
            mark.unlink()


def anchored(piece: Piece) -> Piece:
    """A piece whose paths mean the same wherever it is computed."""
    shard, folder = piece.work.shard, Path.cwd()
    shard = replace(shard, backbone=anchored_backbone(shard.backbone, folder))
    return replace(piece, work=replace(piece.work, shard=shard))


def differences(origin: Origin) -> list[str]:
    """What keeps this process from computing for another; nothing where it is fit to.

    Each line says what is wrong and what to do.
    """
    found = []
    own = versions()
    for name, version in origin.versions.items():
        if own.get(name) != version:
            found.append(
                f"{name} {own.get(name, 'is not installed')}, and {version} where the sweep was launched: "
                "use one environment on all machines"
            )
    unseen = [file for file in origin.files if not Path(file).is_file()]
    if unseen:
        found.append(f"{unseen[0]} is not there: put data and weights where every machine sees them")
    if not (Path(origin.runtime.cache_dir) / _MARKS / origin.mark).is_file():
        found.append(
            f"runtime.cache_dir={origin.runtime.cache_dir} is another folder here than where the sweep was "
            "launched: give one that every machine sees"
        )
    try:
        resolve_device(origin.runtime.device)
    except AnomalySweepError as error:
        found.append(str(error))
    return found


def unfit_for(origin: Origin) -> list[str]:
    """:func:`differences`, looked for once; this process becomes one that computes for another.

    It finds that one's modules, and computes in one thread.
    """
    if origin.mark not in _unfit:
        for entry in origin.path:
            if entry not in sys.path and Path(entry).exists():
                sys.path.append(entry)
        import torch
        from threadpoolctl import threadpool_limits

        torch.set_num_threads(1)
        threadpool_limits(limits=1)
        _unfit[origin.mark] = differences(origin)
    return _unfit[origin.mark]


_unfit: dict[str, list[str]] = {}


def node_name() -> str:
    """Of the machine, for messages."""
    return platform.node()


def compute_for(origin: Origin, pickled: bytes) -> Report | Lost:
    """Compute a pickled piece for another process, if this one is fit to; nothing is raised.

    Progress and log go home with the results.
    """
    reasons = unfit_for(origin)
    if reasons:
        return Lost(f"{node_name()}: {reasons[0]}")
    piece: Piece = pickle.loads(pickled)
    contents = changed_contents(piece.work)
    if contents:
        name = piece.work.shard.category.name
        return Lost(f"{node_name()}: {name} has other files here than where the sweep was launched", contents)
    steps: list[Step] = []
    with _collected() as records:
        runtime = origin.runtime
        threads = min(8, os.cpu_count() or 1) if on_gpu(runtime.device) else 1
        tick = Reporter(piece.shard, steps.append)
        results = compute(piece, runtime, tick, decoders=threads, budget=origin.budget)
    return Report(results, steps, records)


_verified: set[tuple[str, str, str | None]] = set()


def changed_contents(work: ShardWork) -> dict[str, tuple[int, str]]:
    """Contents of a shard's images as they are read here, if they are not those that were planned.

    Relative path -> (bytes, digest); of masks, too, where the task reads them. Empty where nothing differs.
    """
    shard, category = work.shard, work.shard.category
    key = (shard.train_manifest, shard.test_manifest, work.annotations)
    if key in _verified:
        return {}
    index = FileIndex(machine_folder() / "files.sqlite")
    try:
        found = (*(manifest_digest(records, index) for records in (category.train, category.test)),)
        annotations = None if work.annotations is None else work.task.annotations(category, index)
    except AnomalySweepError as error:
        return {str(error): (0, "")}
    if (*found, annotations) == key:
        _verified.add(key)
        return {}
    return dict(
        zip((r.relative for r in category.images), index.lookup(_paths(category.images)), strict=True)
    )


def _paths(records: Sequence[ImageRecord]) -> list[Path]:
    return [record.path for record in records]


@contextmanager
def _collected() -> Iterator[list[logging.LogRecord]]:
    """What is logged meanwhile, fit to be sent."""
    kept: queue.SimpleQueue[Any] = queue.SimpleQueue()
    records: list[logging.LogRecord] = []
    handler, root = QueueHandler(kept), logging.getLogger()
    handlers, level = root.handlers[:], root.level
    root.handlers[:] = [handler]
    root.setLevel(logging.INFO)
    try:
        yield records
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)
        while not kept.empty():
            records.append(kept.get())
