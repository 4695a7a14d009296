"""Recording a sweep's configurations, each as soon as all its trials are known."""

from __future__ import annotations

import dataclasses
import logging
import time
from dataclasses import dataclass

from anomaly_sweep.config import Configuration
from anomaly_sweep.errors import TrackingError
from anomaly_sweep.features.weights import is_random
from anomaly_sweep.sweep.plan import Plan
from anomaly_sweep.sweep.trials import TrialResult
from anomaly_sweep.tracking.client import Rows
from anomaly_sweep.tracking.recorder import Recorder, mean_auc

log = logging.getLogger(__name__)

RANDOM_WARNING = "random weights: these numbers say nothing about ImageNet features"
#: How long a tracking store that went away is left alone.
_PAUSE_SECONDS = 30.0


@dataclass(frozen=True)
class Outcome:
    """What became of one configuration: its rows of the long table (one a category) and its run."""

    configuration: Configuration
    rows: Rows
    run_id: str | None

    @property
    def mean_auc(self) -> float | None:
        """Mean AUROC over the categories; None unless every trial succeeded."""
        return mean_auc(self.rows)

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
    """Records configurations once all their trials are known."""

    def __init__(self, plan: Plan, recorder: Recorder, parent: Parent, known: dict[str, TrialResult]) -> None:
        self.plan = plan
        self.recorder = recorder
        self.parent = parent
        self.known = known
        self._runs: dict[int, str] = {}
        self._earlier = {} if parent.run_id is None else recorder.recorded(parent.run_id)
        self._open = list(range(len(plan.configurations)))
        self._final: dict[int, Rows] = {}
        self._pause_until = 0.0

    def record_complete(self, *, all_of_them: bool = False) -> None:
        """Record every configuration that is complete (or, at the end, all that are left).

        Raises
        ------
        TrackingError
            At the end, if the tracking store is still away.
        """
        if time.monotonic() < self._pause_until and not all_of_them:
            return
        left = []
        for position, index in enumerate(self._open):
            if all_of_them or all(print_ in self.known for print_ in self.plan.cells[index].values()):
                try:
                    self._record(index)
                    continue
                except TrackingError as error:
                    if all_of_them:
                        raise
                    # Results are safe in the result store: compute on, and try again later.
                    log.warning("not recorded for now: %s", error)
                    self._pause_until = time.monotonic() + _PAUSE_SECONDS
                    left.extend(self._open[position:])
                    break
            left.append(index)
        self._open = left

    def _record(self, index: int) -> None:
        rows = self._rows(index)
        failed = any(row["image_auroc"] is None for row in rows)
        print_ = self.plan.configuration_fingerprint(index)
        earlier = self._earlier.get(print_)
        if earlier is not None:
            run_id, status = earlier
            if status == "FINISHED" or failed:  # there already, or no better than before
                for row in rows:
                    row["run_id"] = run_id
                self._done(index, rows, run_id)
                return
            self.recorder.drop(run_id)
        configuration, weights = self.plan.configurations[index], self.plan.weights[index]
        run_id = self.recorder.record_configuration(
            labels=configuration.labels,
            context={
                "dataset": configuration.dataset.name,
                "weights": weights,
                "input_size": str(configuration.input_size),
            },
            rows=rows,
            fingerprint=print_,
            sweep=self.parent.name,
            parent=self.parent.run_id,
            config=dataclasses.asdict(configuration),
            warning=RANDOM_WARNING if is_random(weights) else None,
        )
        self._done(index, rows, run_id)

    def _done(self, index: int, rows: Rows, run_id: str) -> None:
        self._final[index] = rows
        self._runs[index] = run_id

    def _rows(self, index: int) -> Rows:
        configuration = self.plan.configurations[index]
        rows: Rows = []
        for category, print_ in self.plan.cells[index].items():
            result = self.known.get(
                print_, TrialResult.failed(print_, "not run: the sweep stopped before it")
            )
            rows.append(
                {
                    "sweep": self.parent.name,
                    "run_id": "",
                    "dataset": configuration.dataset.name,
                    "category": category,
                    "weights": self.plan.weights[index],
                    "input_size": configuration.input_size,
                    **configuration.labels,
                    **dataclasses.asdict(result),
                }
            )
        return rows

    def outcomes(self) -> list[Outcome]:
        """In the order of the configurations."""
        return [
            Outcome(configuration, self._final[i], self._runs[i])
            for i, configuration in enumerate(self.plan.configurations)
        ]
