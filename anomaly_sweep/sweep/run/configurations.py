"""Run a sweep: plan, execute what is missing, record each configuration as soon as it is complete."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Sequence
from contextlib import ExitStack, closing
from pathlib import Path

from anomaly_sweep import terminal
from anomaly_sweep.config import AnyConfiguration, RuntimeConf, TrackingConf
from anomaly_sweep.errors import AnomalySweepError
from anomaly_sweep.features.backbone.loaded import check_network, fetch_weights
from anomaly_sweep.features.cache.store import cache_at
from anomaly_sweep.fingerprint import fingerprint
from anomaly_sweep.logs import FILE_ONLY, log_failures
from anomaly_sweep.sweep.folders import cache_folder, file_index
from anomaly_sweep.sweep.plan.checks import check_objectives, check_settings, check_told_apart
from anomaly_sweep.sweep.plan.describe import describe, describe_work, forecast_of
from anomaly_sweep.sweep.plan.forecast import Forecast
from anomaly_sweep.sweep.plan.planner import Plan, make_plan
from anomaly_sweep.sweep.record.recording import Outcome, Parent, Recording
from anomaly_sweep.sweep.record.results import RESULTS, ResultStore
from anomaly_sweep.sweep.record.scores import record_scores
from anomaly_sweep.sweep.run.choice import open_executor
from anomaly_sweep.sweep.run.executor import execute
from anomaly_sweep.sweep.run.piece import cut
from anomaly_sweep.sweep.run.progress import Progress
from anomaly_sweep.tasks.base import ShardWork, TrialResult, reason_of
from anomaly_sweep.tracking.writer import Recorder

log = logging.getLogger(__name__)

_NOTEBOOK = Parent("notebook")


def run_configurations(
    configurations: Sequence[AnyConfiguration],
    tracking: TrackingConf,
    runtime: RuntimeConf,
    parent: Parent = _NOTEBOOK,
) -> list[Outcome]:
    """Run configurations as one computation and record each of them.

    Every result is kept on disk by fingerprint as soon as its shard ends; with ``runtime.resume`` those
    that are there already, and did not fail, are not computed again, and a configuration that has a run of
    this sweep already (for a name alone: a run of that name by itself) keeps it. Without ``resume`` all are
    computed, and recorded beside what is there.

    Parameters
    ----------
    configurations : sequence of AnyConfiguration
    tracking : TrackingConf
        Where runs go.
    runtime : RuntimeConf
        How the work is done.
    parent : Parent, optional
        The sweep they belong to; a name alone by default, and each run stands by itself.

    Returns
    -------
    list of Outcome
        One a configuration, in their order.

    Raises
    ------
    AnomalySweepError
        For what makes the whole sweep impossible (nothing to read, weights that cannot be had, a tracking
        store that cannot be written), before long work starts. A single trial's failure is in its row.

    Examples
    --------
    On two categories of the synthetic data set, which is generated first, with random weights:

    >>> from anomaly_sweep import compose, long_table, run_configurations
    >>> sweep = compose(
    ...     "dataset.generate={size: 64, n_train: 4, n_test_good: 2, n_per_defect: 1}",
    ...     "dataset.categories=[linen, washer]",
    ...     "dataset.input_size=64",
    ...     "backbone.weights=random",
    ...     "layer=level2",
    ...     "estimator=mvg,knn1",
    ...     "runtime.workers=1",
    ... )
    >>> outcomes = run_configurations(*sweep)
    >>> table = long_table(outcomes)
    >>> print(table[["category", "estimator", "status"]].to_string(index=False))
    category estimator status
       linen       mvg     ok
      washer       mvg     ok
       linen      knn1     ok
      washer      knn1     ok
    """
    fetch_weights(configuration.backbone for configuration in configurations)
    plan, works, known, store = _prepare(configurations, runtime)
    log.info(
        "configurations: %d, trials: %d (%d to compute in %d shards, %d known)",
        len(plan.configurations),
        len(plan.fingerprints),
        sum(len(work.trials) for work in works),
        len(works),
        len(known),
    )
    known |= _check_networks(works, runtime, everything=len(known) == len(plan.failed))
    works = _to_do(plan, known)
    with terminal.busy("opening the tracking store"):
        recording = Recording(
            plan, Recorder(tracking), parent, known, cache_folder(runtime), resume=runtime.resume
        )
    with recording:
        recording.record_complete()
        _compute(plan, works, known, store, recording, runtime)
        with terminal.busy("recording the runs"):
            recording.record_complete(all_of_them=True)
        recorded = recording.outcomes()
        for one in recorded:
            if parent.run_id is None and one.run_id is not None:  # a sweep's are on its parent run
                record_scores(recording.recorder, one.run_id, one.rows, cache_folder(runtime))
    return recorded


def _compute(
    plan: Plan,
    works: Sequence[ShardWork],
    known: dict[str, TrialResult],
    store: ResultStore,
    recording: Recording,
    runtime: RuntimeConf,
) -> None:
    """Work through shards: results are kept, and configurations recorded, as each ends."""
    failed = {trial_id: result.reason for trial_id, result in known.items() if not result.ok}
    if not works:
        log.info("plan:\n%s", describe(plan, works, Forecast({}), failed), extra=FILE_ONLY)
        return
    with ExitStack() as open_:
        with terminal.busy("starting workers"):
            executor = open_.enter_context(
                open_executor(works, runtime, fingerprint(sorted(plan.fingerprints)))
            )
        with terminal.busy("forecasting"):
            forecast = forecast_of(works, runtime, executor.workers)
            log.info("plan:\n%s", describe(plan, works, forecast, failed), extra=FILE_ONLY)
            executor.prepare(works, forecast)
        pieces = cut(works, forecast, cache_at(runtime.cache_dir))
        progress = open_.enter_context(Progress(forecast))
        outcomes = execute(pieces, executor, progress, file_index(runtime))
        for outcome in open_.enter_context(closing(outcomes)):
            for part in outcome.work.parts():
                own = [result for result in outcome.results if result.fingerprint in part.trials]
                store.put(own, part.shard.category.test)
            known.update({result.fingerprint: result for result in outcome.results})
            shard = outcome.work.shard
            reasons = [result.reason for result in outcome.results if not result.ok]
            log_failures(f"{shard.category.name} on {shard.backbone.name}", reasons)
            recording.record_complete()
            if runtime.on_error == "stop" and not all(result.ok for result in outcome.results):
                log.error("stopping at the first failure (runtime.on_error=stop)")
                break


def describe_configurations(configurations: Sequence[AnyConfiguration], runtime: RuntimeConf) -> str:
    """Put the plan of configurations in words (``runtime.plan_only``); nothing is computed or recorded.

    Parameters
    ----------
    configurations : sequence of AnyConfiguration
    runtime : RuntimeConf

    Returns
    -------
    str
        What would be computed, what is there already, and roughly what it costs.

    Raises
    ------
    AnomalySweepError
        As :func:`run_configurations`, for what can be known without making a network.

    Examples
    --------
    >>> from anomaly_sweep import compose, describe_configurations
    >>> sweep = compose(
    ...     "dataset.generate={size: 64, n_train: 4, n_test_good: 2, n_per_defect: 1}",
    ...     "dataset.categories=[linen, washer]",
    ...     "dataset.input_size=64",
    ...     "backbone.weights=random",
    ...     "pca_mode=none,pca10,npca10",
    ... )
    >>> plan = describe_configurations(sweep.configurations, sweep.runtime)
    >>> print(plan.splitlines()[0])
    configurations      3
    """
    plan, works, _, _ = _prepare(configurations, runtime)
    return describe_work(plan, works, runtime)


def _prepare(
    configurations: Sequence[AnyConfiguration], runtime: RuntimeConf
) -> tuple[Plan, list[ShardWork], dict[str, TrialResult], ResultStore]:
    """The plan, the work left to do, the results known, and where results are kept."""
    check_settings(configurations)
    check_objectives(configurations, runtime)
    check_told_apart(configurations)
    folder = cache_folder(runtime)
    with terminal.busy("planning: looking at the data"):
        plan = make_plan(configurations, file_index(runtime))
    store = ResultStore(folder / RESULTS)
    known = dict(plan.failed)
    if runtime.resume:
        found = store.get(plan.fingerprints)
        known |= {p: result for p, result in found.items() if result.ok and _is_whole(plan, p, folder)}
    return plan, _to_do(plan, known), known, store


def _is_whole(plan: Plan, trial_id: str, folder: Path) -> bool:
    """Whether what a known trial is to leave beside its numbers is there too."""
    trial = plan.trials.get(trial_id)
    return trial is None or trial.has_outputs(folder)


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
        if work.needs_network(cache):
            needed[fingerprint(work.shard.backbone, work.shard.side)].append(work)
    failed: dict[str, TrialResult] = {}
    for same in needed.values():
        shard = same[0].shard
        levels = list(dict.fromkeys(level for work in same for level in work.levels()))
        try:
            with terminal.busy(f"making {shard.backbone.name}"):
                unusable = check_network(shard.backbone, levels, shard.side, runtime.device)
        except Exception as error:
            unusable = dict.fromkeys(levels, reason_of(error, f"backbone {shard.backbone.name}"))
        for work in same:
            for trial_id, trial in work.trials.items():
                reasons = [unusable[level] for level in trial.levels if level in unusable]
                if reasons:
                    failed[trial_id] = TrialResult.failed(trial_id, reasons[0])
    if failed and everything and len(failed) == sum(len(work.trials) for work in works):
        raise AnomalySweepError(next(iter(failed.values())).reason)
    for reason in dict.fromkeys(result.reason for result in failed.values()):
        log.warning("%s", reason)
    return failed
