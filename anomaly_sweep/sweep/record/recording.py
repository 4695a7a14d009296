"""Recording a sweep's configurations, each as soon as all its trials are known."""

from __future__ import annotations

import dataclasses
import logging
import math
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from anomaly_sweep.config import AnyConfiguration
from anomaly_sweep.errors import TrackingError
from anomaly_sweep.features.backbone.weights import is_random
from anomaly_sweep.fingerprint import fingerprint
from anomaly_sweep.sweep.plan.planner import DATA_DIGITS, Plan, root_label
from anomaly_sweep.sweep.record.results import RESULTS, storage_notice
from anomaly_sweep.tasks.base import TrialResult
from anomaly_sweep.tracking import names
from anomaly_sweep.tracking.content import ConfigurationRun, Rows, mean_auc, mean_of
from anomaly_sweep.tracking.writer import Recorder

log = logging.getLogger(__name__)

RANDOM_WARNING = "random weights: these numbers say nothing about ImageNet features"
#: How long a tracking store that went away is left alone: twice as long each time, while it stays away.
_PAUSE_SECONDS = 30.0
_LONGEST_PAUSE = 480.0


@dataclass(frozen=True)
class Outcome:
    """What became of one configuration: its rows of the long table (one a category) and its run.

    ``computed`` are those of its trials that this launch has computed.
    """

    configuration: AnyConfiguration
    rows: Rows
    run_id: str | None
    computed: frozenset[str] = frozenset()

    @property
    def mean_auc(self) -> float | None:
        """Mean AUROC over the categories; None unless every trial succeeded."""
        return mean_auc(self.rows)

    def objective(self, name: str) -> float | None:
        """One of ``config.OBJECTIVES``: seconds in all, or a metric's mean (None if a category lacks it)."""
        if name in names.TOTALS:
            return math.fsum(row[name] or 0.0 for row in self.rows)
        return mean_of(self.rows, "image_auroc" if name == "auc" else name)

    @property
    def failures(self) -> list[str]:
        """A line for each failed trial."""
        return [f"{row['category']}: {row['reason']}" for row in self.rows if row["image_auroc"] is None]


@dataclass(frozen=True)
class Parent:
    """The sweep that configurations are recorded under; ``run_id`` None for a run on its own."""

    name: str
    run_id: str | None = None


class Recording:
    """Records configurations once all their trials are known, in a thread beside the computation.

    MLflow's calls for one configuration take some 20 ms: meanwhile the workers get their next shards. Leaving
    the context ends the thread after the configuration that it is at.
    """

    def __init__(
        self,
        plan: Plan,
        recorder: Recorder,
        parent: Parent,
        known: dict[str, TrialResult],
        cache_dir: Path,
        *,
        resume: bool = True,
    ) -> None:
        self.plan = plan
        self.cache_dir = cache_dir
        self.recorder = recorder
        self.parent = parent
        self.known = known
        self._before = frozenset(known)
        self._runs: dict[int, str] = {}
        self._earlier: dict[str, tuple[str, str]] = {}
        if parent.run_id is not None:
            self._earlier = recorder.recorded(parent.run_id)
        elif resume:  # a cell of a notebook that is run again records nothing twice
            self._earlier = recorder.recorded_alone(parent.name)
        self._open = list(range(len(plan.configurations)))
        self._final: dict[int, Rows] = {}
        self._pause = _PAUSE_SECONDS
        self._pause_until = 0.0
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="recording")
        self._stop = threading.Event()
        self._waiting: list[Future[None]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.shutdown(cancel_futures=True)

    def record_complete(self, *, all_of_them: bool = False) -> None:
        """Have every configuration that is complete recorded; at the end, record all that are left.

        Raises
        ------
        TrackingError
            At the end, if the tracking store is still away.
        """
        if all_of_them:
            self.wait()
            try:
                self._write(self._open)
            except TrackingError as error:
                raise TrackingError(f"{error}. {storage_notice(self.cache_dir / RESULTS)}") from error
            return
        while self._waiting and self._waiting[0].done():
            self._waiting.pop(0).result()
        self._waiting.append(self._thread.submit(self._write_complete))

    def wait(self) -> None:
        """Wait for what is being recorded."""
        while self._waiting:
            self._waiting[0].result()
            self._waiting.pop(0)

    def _write_complete(self) -> None:
        if time.monotonic() < self._pause_until:
            return
        try:
            self._write([index for index in self._open if self._is_complete(index)])
            self._pause = _PAUSE_SECONDS
        except TrackingError as error:
            # Results are safe in the result store: compute on, and try again later.
            log.warning("not recorded for now: %s", error)
            self._pause_until = time.monotonic() + self._pause
            self._pause = min(2 * self._pause, _LONGEST_PAUSE)

    def _write(self, indices: Sequence[int]) -> None:
        try:
            fresh = [index for index in indices if not self._is_there(index)]
            for position, run_id in self.recorder.record(self._run(index) for index in fresh):
                self._runs[fresh[position]] = run_id
                if self._stop.is_set():
                    break
        finally:
            self._open = [index for index in self._open if index not in self._runs]

    def _is_complete(self, index: int) -> bool:
        return all(trial_id in self.known for trial_id in self.plan.cells[index].values())

    def _is_there(self, index: int) -> bool:
        """Whether an earlier launch has recorded a configuration, and no worse."""
        run_id, status = self._earlier.get(self.plan.configuration_fingerprint(index), (None, ""))
        if run_id is None or not self.recorder.is_whole(run_id):
            return False
        rows = self._rows(index)
        if status != "FINISHED" and mean_auc(rows) is not None:
            return False
        for row in rows:
            row["run_id"] = run_id
        self._final[index] = rows
        self._runs[index] = run_id
        return True

    def _run(self, index: int) -> ConfigurationRun:
        self._final[index] = self._rows(index)
        configuration = self.plan.configurations[index]
        configuration_id = self.plan.configuration_fingerprint(index)
        earlier = self._earlier.get(configuration_id)
        context = self._context(index)
        return ConfigurationRun(
            labels=configuration.labels,
            context={key: str(value) for key, value in context.items() if value is not None},
            rows=self._final[index],
            fingerprint=configuration_id,
            sweep=self.parent.name,
            parent=self.parent.run_id,
            config=dataclasses.asdict(configuration),
            warning=RANDOM_WARNING if is_random(self.plan.weights[index]) else None,
            files=self._files(index),
            replaces=earlier[0] if earlier is not None else None,
        )

    def _context(self, index: int) -> dict[str, Any]:
        """What the choices of a configuration were applied to."""
        configuration = self.plan.configurations[index]
        return {
            "task": configuration.task_label,
            "dataset": configuration.dataset_label,
            "root": root_label(configuration.dataset),
            "data": fingerprint(self.plan.data[index])[:DATA_DIGITS],
            "weights": self.plan.weights[index],
            "input_size": configuration.input_size,
            "center_crop": configuration.dataset.center_crop,
            **configuration.dataset.subset,
        }

    def _files(self, index: int) -> dict[str, Path]:
        """What the trials of a configuration left beside their numbers."""
        return {
            f"{category}/{name}": path
            for category, trial_id in self.plan.cells[index].items()
            if trial_id in self.plan.trials and trial_id in self.known and self.known[trial_id].ok
            for name, path in self.plan.trials[trial_id].outputs(self.cache_dir).items()
        }

    def _rows(self, index: int) -> Rows:
        rows: Rows = []
        context = self._context(index)
        labels = self.plan.configurations[index].labels
        for category, trial_id in self.plan.cells[index].items():
            result = self.known.get(
                trial_id, TrialResult.failed(trial_id, "not run: the sweep stopped before it")
            )
            rows.append(
                dict.fromkeys(names.TRIAL_COLUMNS)
                | {"sweep": self.parent.name, "run_id": "", "category": category}
                | context
                | {"data": self.plan.data[index][category] or None}
                | labels
                | result.numbers()
            )
        return rows

    def _computed(self, index: int) -> frozenset[str]:
        return frozenset(self.plan.cells[index].values()).intersection(self.known) - self._before

    def outcomes(self) -> list[Outcome]:
        """In the order of the configurations."""
        return [
            Outcome(configuration, self._final[i], self._runs[i], self._computed(i))
            for i, configuration in enumerate(self.plan.configurations)
        ]
