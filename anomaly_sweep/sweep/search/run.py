"""The body of ``hydra/sweeper=optuna``."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.utils import JobReturn, JobStatus
from hydra.errors import HydraException
from hydra.plugins.launcher import Launcher
from omegaconf import DictConfig, OmegaConf

from anomaly_sweep.config import RuntimeConf, TrackingConf, parse_node
from anomaly_sweep.errors import AnomalySweepError, ConfigError
from anomaly_sweep.fingerprint import fingerprint
from anomaly_sweep.launch.compose import Composer, configurations_of
from anomaly_sweep.launch.experiments import check_no_grids
from anomaly_sweep.launch.jobs import (
    OpenSweep,
    SweepFailedError,
    check_all,
    composer_of,
    failure_reasons,
    open_sweep,
    show_summary,
)
from anomaly_sweep.launch.session import sweep_identity
from anomaly_sweep.sweep.folders import file_index
from anomaly_sweep.sweep.plan.checks import check_told_apart
from anomaly_sweep.sweep.plan.planner import data_state
from anomaly_sweep.sweep.search import record
from anomaly_sweep.sweep.search.settings import Settings
from anomaly_sweep.sweep.search.space import Space, parse_space
from anomaly_sweep.sweep.search.study import About, Result, Search
from anomaly_sweep.tracking.writer import Recorder

log = logging.getLogger(__name__)


def search_sweep(
    config: DictConfig,
    launcher: Launcher,
    loader: ConfigLoader,
    *,
    settings: Mapping[str, Any],
    params: Mapping[str, Any],
    arguments: Sequence[str],
) -> list[tuple[float, ...]]:
    """Search the space that ``params`` and the command line describe.

    Parameters
    ----------
    settings : mapping
        Arguments of :class:`~anomaly_sweep.sweep.search.settings.Settings`.

    Returns
    -------
    list of tuple of float
        Objectives of the best trial, or of all best ones with several objectives.

    Raises
    ------
    SweepFailedError
        If a trial failed, after all others are done; if nothing could be done.
    """
    try:
        runtime: RuntimeConf = parse_node("runtime", config.runtime)
        checked = Settings(**settings, objectives=runtime.objectives)
        check_no_grids(config, loader, arguments)
        space = parse_space(params, arguments, OverridesParser.create(config_loader=loader))
        tracking: TrackingConf = parse_node("tracking", config.tracking)
        if runtime.plan_only:
            raise ConfigError("runtime.plan_only: the jobs of a search are not known beforehand")
        composer = composer_of(config, launcher, loader)
        # A wrong choice is told now, not when its turn comes.
        corners = configurations_of(composer.jobs([space.job(corner) for corner in space.corners()]))
        check_told_apart(corners)
        state = data_state(corners, file_index(runtime))
        objectives = list(checked.objectives)
        identity = sweep_identity(config, [[*space.describe(), f"objectives={objectives}"]])
        about = About(sweep_identity(config, []), fixed_choices(space), objectives, state)
        search = Search(space, checked, fingerprint(identity, state), about)
        # The jobs of a search are not known: it is the same one if it looks for the same in the same way.
        how = [f"study={search.name}", f"sampler={dict(checked.sampler)}"]
        with open_sweep(config, [[*space.describe(), *how]], corners) as sweep:
            assert sweep.parent.run_id is not None
            recorder = Recorder(tracking)
            batches = _Batches(launcher, composer, sweep)
            try:
                while _go_on(search, batches, runtime):
                    record.record_progress(search, recorder, sweep.parent.run_id, record.note(search, {}))
                    line = record.best_line(search)
                    log.info("search: %d of %d trials, %s", len(search.finished), search.total, line)
            except Exception:
                _end(search, recorder, sweep, config)
                raise
            _end(search, recorder, sweep, config)  # not when interrupted: it takes seconds
            sweep.failed = bool(search.failures)
    except AnomalySweepError as error:
        raise SweepFailedError(f"error: {error}") from None
    finished = search.finished
    good = [trial for trial in finished if trial.values]
    tried = [space.job(trial.params) for trial in good]
    show_summary(
        sweep,
        tracking,
        composer.jobs(tried),
        tried,
        [trial.values[0] for trial in good],
        failed=len(finished) - len(good),
        objective=objectives[0],
    )
    log.info("search %s: %s", search.name, record.best_line(search))
    sweep.check(len(search.finished))
    return [tuple(trial.values) for trial in search.best()]


def fixed_choices(space: Space) -> dict[str, str]:
    """What every job has, by key, but for how and where it runs."""
    return {
        key: override
        for key, override in sorted(space.fixed.items())
        if not key.lstrip("+~").startswith(("runtime", "tracking", "hydra"))
    }


def _end(search: Search, recorder: Recorder, sweep: OpenSweep, config: DictConfig) -> None:
    assert sweep.parent.run_id is not None
    record.record_end(search, recorder, sweep.parent.run_id)
    results = OmegaConf.create(record.results(search))
    OmegaConf.save(results, Path(str(config.hydra.sweep.dir)) / "optimization_results.yaml")


def _go_on(search: Search, batches: _Batches, runtime: RuntimeConf) -> bool:
    if search.failures and runtime.on_error == "stop":
        log.error("stopping at the first failure (runtime.on_error=stop)")
        return False
    return search.step(batches.evaluate)


class _Batches:
    """Hands batches to the launcher."""

    def __init__(self, launcher: Launcher, composer: Composer, sweep: OpenSweep) -> None:
        self._launcher = launcher
        self._composer = composer
        self._sweep = sweep
        self._launched = 0
        self._succeeded = False

    def evaluate(self, jobs: list[list[str]]) -> list[Result]:
        """The objectives of each job, or why it has none.

        Raises
        ------
        SweepFailedError
            If a whole batch cannot be run, and none has been before: it is not the point's fault.
        """
        results: dict[int, Result] = {}
        for index, job in enumerate(jobs):
            try:
                check_all([self._composer.job(job)])
            except (AnomalySweepError, HydraException) as error:
                results[index] = self._failed(job, error)
        possible = [index for index in range(len(jobs)) if index not in results]
        for index, returned in zip(possible, self._launch([jobs[i] for i in possible]), strict=True):
            if returned.status == JobStatus.COMPLETED:
                value = returned.return_value
                results[index] = tuple(map(float, value if isinstance(value, (list, tuple)) else [value]))
                self._succeeded = True
            else:
                self._sweep.add([returned])
                results[index] = "; ".join(failure_reasons(returned))
        return [results[index] for index in range(len(jobs))]

    def _launch(self, jobs: list[list[str]]) -> Sequence[JobReturn]:
        if not jobs:
            return []
        start, self._launched = self._launched, self._launched + len(jobs)
        try:
            return self._launcher.launch(jobs, initial_job_idx=start)
        except SweepFailedError as error:
            if not self._succeeded:
                raise
            return [_returned(job, error) for job in jobs]

    def _failed(self, job: list[str], error: Exception) -> str:
        self._sweep.add([_returned(job, error)])
        return str(error)


def _returned(job: list[str], error: Exception) -> JobReturn:
    returned = JobReturn()
    returned.overrides, returned.status, returned.return_value = job, JobStatus.FAILED, error
    return returned
