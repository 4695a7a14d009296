"""Run a sweep: plan, execute what is missing, record each configuration as soon as it is complete."""

from __future__ import annotations

import dataclasses
import logging
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from anomaly_sweep.config import Configuration, RuntimeConf, TrackingConf
from anomaly_sweep.datasets import FileIndex
from anomaly_sweep.errors import AnomalySweepError, CacheError
from anomaly_sweep.estimators.build import check
from anomaly_sweep.features.shards import cache_at, check_network
from anomaly_sweep.features.weights import is_random
from anomaly_sweep.fingerprint import fingerprint
from anomaly_sweep.sweep.execute import execute
from anomaly_sweep.sweep.plan import Plan, ShardWork, make_plan
from anomaly_sweep.sweep.progress import Progress
from anomaly_sweep.sweep.results import ResultStore
from anomaly_sweep.sweep.trials import TrialResult
from anomaly_sweep.tracking.client import Rows
from anomaly_sweep.tracking.recorder import Recorder, mean_auc

log = logging.getLogger(__name__)

RANDOM_WARNING = "random weights: these numbers say nothing about ImageNet features"


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


def run_configurations(
    configurations: Sequence[Configuration],
    tracking: TrackingConf,
    runtime: RuntimeConf,
    parent: Parent,
) -> list[Outcome]:
    """Run configurations as one computation and record each of them.

    Every result is kept on disk by fingerprint as soon as its shard ends; with ``runtime.resume`` those
    that are there already, and did not fail, are not computed again.

    Raises
    ------
    AnomalySweepError
        For what makes the whole sweep impossible (nothing to read, weights that cannot be had, a tracking
        store that cannot be written), before long work starts. A single trial's failure is in its row.
    """
    checked: set[str] = set()
    for configuration in configurations:
        key = fingerprint(dict(configuration.estimator))
        if key not in checked:
            check(configuration.estimator)
            checked.add(key)
    folder = _cache_folder(runtime)
    plan = make_plan(configurations, FileIndex(folder / "files.sqlite"))
    store = ResultStore(folder / "results.sqlite")
    known = dict(plan.failed)
    if runtime.resume:
        known |= {p: result for p, result in store.get(plan.fingerprints).items() if result.ok}
    works = _to_do(plan, known)
    log.info(
        "%d configurations, %d trials: %d to compute in %d shards, %d known",
        len(plan.configurations),
        len(plan.fingerprints),
        sum(len(work.trials) for work in works),
        len(works),
        len(known),
    )
    known |= _check_networks(works, runtime, everything=len(known) == len(plan.failed))
    works = _to_do(plan, known)
    recording = _Recording(plan, Recorder(tracking), parent, known)
    recording.record_complete()
    with Progress(sum(len(work.trials) for work in works)) as progress:
        for outcome in execute(works, runtime, progress.tick):
            store.put(outcome.results)
            known.update({result.fingerprint: result for result in outcome.results})
            progress.current = f"{outcome.work.shard.backbone.name} {outcome.work.shard.category.name}"
            recording.record_complete()
            if runtime.on_error == "stop" and not all(result.ok for result in outcome.results):
                log.error("stopping at the first failure (runtime.on_error=stop)")
                break
    recording.record_complete(all_of_them=True)
    return recording.outcomes()


def _cache_folder(runtime: RuntimeConf) -> Path:
    folder = Path(runtime.cache_dir).expanduser()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CacheError(f"runtime.cache_dir={folder} cannot be made ({error})") from error
    return folder


def _to_do(plan: Plan, known: dict[str, TrialResult]) -> list[ShardWork]:
    works = [work.only(set(work.trials) - set(known)) for work in plan.works]
    return [work for work in works if work.trials]


def _check_networks(
    works: Sequence[ShardWork], runtime: RuntimeConf, *, everything: bool
) -> dict[str, TrialResult]:
    """Make each network that features are missing of, once; what it cannot give fails now, not in an hour."""
    cache = cache_at(runtime.cache_dir)
    needed: dict[str, list[ShardWork]] = defaultdict(list)
    for work in works:
        if work.shard.missing(cache, work.levels()):
            needed[fingerprint(work.shard.backbone)].append(work)
    failed: dict[str, TrialResult] = {}
    for same in needed.values():
        levels = list(dict.fromkeys(level for work in same for level in work.levels()))
        try:
            unusable = check_network(same[0].shard.backbone, levels, runtime.device)
        except AnomalySweepError as error:
            if everything and len(same) == len(works):
                raise
            unusable = dict.fromkeys(levels, str(error))
        for work in same:
            for print_, trial in work.trials.items():
                reasons = [unusable[level] for level in trial.levels if level in unusable]
                if reasons:
                    failed[print_] = TrialResult.failed(print_, reasons[0])
    if failed and everything and len(failed) == sum(len(work.trials) for work in works):
        raise AnomalySweepError(next(iter(failed.values())).reason)
    return failed


class _Recording:
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

    def record_complete(self, *, all_of_them: bool = False) -> None:
        """Record every configuration that is complete (or, at the end, all that are left)."""
        left = []
        for index in self._open:
            if all_of_them or all(print_ in self.known for print_ in self.plan.cells[index].values()):
                self._record(index)
            else:
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
